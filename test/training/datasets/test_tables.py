# SPDX-License-Identifier: Apache-2.0
"""Label values of every data set, exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
import pytest

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.images.label_map import UNMAPPED
from multishift_training.datasets import ImageData, TrainingData
from multishift_training.datasets.images import label_table
from multishift_training.datasets.tables import spans

DRIVE: dict[str, Any] = {'split': 'train', 'frames': 1, 'seed': 0}


def described(**description: Any) -> ImageData:
    return TypeAdapter[ImageData](ImageData).validate_python(description)


def mapped(*, training: bool = False, **description: Any) -> dict[int, int]:
    table = label_table(described(**description), Path(), training=training)
    assert table.dtype == np.uint8 and table.shape == (256,)
    return {raw: int(ours) for raw, ours in enumerate(table) if ours != UNMAPPED}


TRAIN_IDS = {i: i for i in range(19)}
LABEL_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
    26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip


def test_cityscapes() -> None:
    assert mapped(kind='cityscapes') == {**TRAIN_IDS, 255: VOID}


def test_generated_partners_with_the_flaw_of_the_release() -> None:
    expected = {**TRAIN_IDS, 24: NOVEL, 26: NOVEL, 254: NOVEL, 255: VOID}
    assert mapped(kind='multishift_cityscapes') == expected
    assert mapped(kind='multishift_cityscapes', training=True) == expected


def test_sample_drive() -> None:
    expected = {**TRAIN_IDS, 254: NOVEL, 255: VOID}
    assert mapped(kind='sample_drive', **DRIVE) == expected
    assert mapped(kind='sample_drive', **DRIVE, training=True) == expected


def test_anomaly_benchmarks() -> None:
    plain = {0: 0, 1: NOVEL, 255: VOID}
    assert mapped(kind='road_anomaly') == {**plain, 2: NOVEL}
    for kind in (
        'road_anomaly21',
        'road_obstacle21',
        'fishyscapes_lost_found',
        'fishyscapes_static',
    ):
        assert mapped(kind=kind) == plain
        assert mapped(kind=kind, training=True) == {0: 0, 1: VOID, 255: VOID}


def test_acdc_poc() -> None:
    objects = {raw: NOVEL for raw in range(34, 255)}
    void = {raw: VOID for raw in range(34)}
    assert mapped(kind='acdc_poc') == {**void, **LABEL_IDS, **objects, 255: VOID}
    known = {raw: 0 for raw in range(1, 34)}
    anomaly = {0: VOID, **known, **objects, 255: VOID}
    assert mapped(kind='acdc_poc', truth='anomaly') == anomaly


def test_muad() -> None:
    novel = {19: NOVEL, 20: NOVEL}
    void = {raw: VOID for raw in range(21, 256)}
    assert mapped(kind='muad') == {**TRAIN_IDS, **novel, **void}
    known = {raw: 0 for raw in range(255)}
    assert mapped(kind='muad', truth='anomaly') == {**known, **novel, 255: VOID}


def test_camvid_is_its_published_label_map() -> None:
    assert mapped(kind='camvid', split='train') == {
        0: 10, 1: 2, 2: 5, 3: 0, 4: 1, 5: 8, 6: 7, 7: 4, 8: 13, 9: 11, 10: 12, 11: VOID,
    }  # fmt: skip


def test_spans() -> None:
    assert spans([255, 0, 1, 2, 24]) == '0..2, 24, 255'


@pytest.mark.parametrize(
    ('description', 'message'),
    [
        ({'kind': 'kitti'}, 'road_anomaly'),
        ({'kind': 'cityscapes', 'folder': 'x'}, 'folder'),
        ({'kind': 'cityscapes', 'split': 'test'}, "'train' or 'val'"),
        ({'kind': 'camvid', 'split': 'val', 'held_out': ['cyclist']}, 'cyclist.*expected.*rider'),
        ({'kind': 'sample_drive', **DRIVE, 'conditions': ['snow']}, 'snow.*day.*night'),
        ({'kind': 'sample_drive', **DRIVE, 'conditions': ['day', 'day']}, 'twice'),
        ({'kind': 'acdc_poc', 'conditions': []}, 'at least 1'),
    ],
)
def test_wrong_descriptions_are_refused_with_what_is_allowed(
    description: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=f'(?s){message}'):
        described(**description)


def test_training_description() -> None:
    images = {'kind': 'cityscapes'}
    transforms = {'kind': 'zoom_crop', 'crop': [64, 64]}
    TrainingData.model_validate({'images': images, 'transforms': transforms})
    for fault in (
        {'mixup': 1.5},
        {'partners': {'kind': 'muad'}},
        {'outliers': {'kind': 'ade'}},
        {'transforms': {**transforms, 'zoom': [1.2, 0.8]}},
        {'transforms': {**transforms, 'flip': 2}},
    ):
        with pytest.raises(ValidationError):
            TrainingData.model_validate({'images': images, 'transforms': transforms, **fault})


@pytest.mark.parametrize(('learn_novel', 'learned'), [(True, NOVEL), (False, VOID)])
def test_the_drive_s_own_novel_objects_are_learned_from_by_choice(
    learn_novel: bool, learned: int
) -> None:
    drive = described(kind='sample_drive', **DRIVE, learn_novel=learn_novel)
    assert label_table(drive, Path(), training=True)[NOVEL] == learned
    assert label_table(drive, Path(), training=False)[NOVEL] == NOVEL
