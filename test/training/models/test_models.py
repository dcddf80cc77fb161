# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from multishift_perception.errors import MultishiftError
from multishift_training import models
from multishift_training.checkpoints import load
from multishift_training.models import Prediction, SegmentationModel


class Unscaled(SegmentationModel):
    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        raise NotImplementedError


PARAMETERS = {  # millions
    'deeplabv3plus_compact': 1.0,
    'deeplabv3plus_efficientnet_lite0': 3.2,
    'deeplabv3plus_efficientnet_lite0_fast': 0.8,
    'deeplabv3plus_efficientnet_lite1': 4.0,
    'deeplabv3plus_efficientnet_lite2': 4.7,
    'deeplabv3plus_resnet50': 40.4,
    'deeplabv3plus_resnet101': 59.3,
    'deeplabv3plus_resnet50_spc': 40.5,
    'deeplabv3plus_resnet101_spc': 59.6,
    'deeplabv3plus_wideresnet38': 137.1,
    'eomt_small': 24.9,
    'eomt_base': 95.4,
    'eomt_large': 319.1,
    'mask2former_resnet50': 46.3,
    'mask2former_swin_b': 106.9,
    'mask2former_swin_b_rba': 95.1,
    'mask2former_swin_l': 215.5,
    'mask2former_swin_l_rba': 203.7,
    'mask2former_swin_l_uno': 215.5,
    'pidnet_s': 7.6,
    'pidnet_m': 28.5,
    'pidnet_l': 36.9,
    'segformer_b0': 3.7,
    'segformer_b1': 13.7,
    'segformer_b2': 27.4,
    'segformer_b3': 47.2,
    'segformer_b4': 64.0,
    'segformer_b5': 84.6,
}


def test_every_network_of_a_name_is_known_here() -> None:
    assert set(models.NAMES) == PARAMETERS.keys() | models.FROM_FOLDER.keys()


@pytest.mark.slow
@pytest.mark.parametrize('name', PARAMETERS)
def test_network_by_name(name: str) -> None:
    """Structure alone, nothing is computed: size, outputs, and the number of classes."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = models.create(name, num_classes=7).eval()
        prediction = model(torch.empty(2, 3, 97, 130))
    assert prediction.logits.shape == (2, 7, 97, 130)
    assert prediction.score.shape == (2, 97, 130)
    assert prediction.feature.shape[0] == 2
    assert (prediction.masks is not None) == name.startswith(('eomt', 'mask2former'))
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert learning / 1e6 == pytest.approx(PARAMETERS[name], abs=0.1)


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="'resnet'.*deeplabv3plus_compact"):
        models.create('resnet')


@pytest.mark.parametrize(
    ('factory', 'message'),
    [
        (
            lambda _: [].pop(),
            r'network mine cannot be made \(IndexError: pop from empty list\): mend',
        ),
        (lambda _: None, r'network mine is a NoneType, no SegmentationModel: mend'),
        (lambda _: Unscaled(), r'network mine has no input_scale: say in its class'),
    ],
    ids=['raises', 'nothing', 'no scale'],
)
def test_network_of_a_stranger_that_cannot_be_made(
    factory: Callable[[int], Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(models.NETWORKS._things, 'mine', factory)
    with pytest.raises(MultishiftError, match=message):
        models.create('mine')
    # It is no obstacle to what is said of others.
    file = tmp_path / 'other.safetensors'
    save_file({'classifier.weight': torch.zeros(3)}, file)
    with pytest.raises(MultishiftError, match=r'other\.safetensors does not fit this network'):
        load(models.create('deeplabv3plus_compact'), file)


def test_function_that_takes_no_number() -> None:
    def mine() -> None: ...

    with pytest.raises(TypeError, match='network mine: its factory takes no number of classes'):
        models.register('mine', mine)


def test_option_that_a_network_does_not_have() -> None:
    with pytest.raises(TypeError, match='folder'):
        models.create('deeplabv3plus_compact', folder=Path())
