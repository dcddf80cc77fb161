# SPDX-License-Identifier: Apache-2.0
"""Files that hold what the key tables of published checkpoints say, into the networks."""

from __future__ import annotations

from collections.abc import Iterator
import csv
from pathlib import Path
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

from multishift_perception.errors import MultishiftError
from multishift_training import checkpoints, models
from multishift_training.checkpoints import loading
from multishift_training.checkpoints.key_matching import untrained
from multishift_training.checkpoints.structures import structures

pytestmark = pytest.mark.slow

KEYS = Path(__file__).parents[1] / 'keys'


def constants(table: str) -> dict[str, Tensor]:
    """Return tensors of a table's keys and shapes, each filled with a number of its own."""
    with (KEYS / table).open(newline='') as file:
        rows = list(csv.DictReader(file, delimiter='\t'))
    return {
        row['key']: torch.full(
            [int(side) for side in row['shape'].split('x') if side.isdecimal()],
            number,
            dtype=getattr(torch, row['dtype']),
        )
        for number, row in enumerate(rows, start=1)
    }


def numbers(tensors: dict[str, Tensor]) -> set[float]:
    """Return the numbers the tensors are filled with, each tensor with one alone."""
    assert all((tensor == tensor.flatten()[0]).all() for tensor in tensors.values())
    return {tensor.flatten()[0].item() for tensor in tensors.values()}


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A path for a large file, which does not outlive the test."""
    path = tmp_path / 'weights'
    yield path
    path.unlink()


def test_nvidias_wide_resnet(scratch: Path) -> None:
    state = constants('deepv3_wrn38_keys.tsv')
    del state['ood_head.weight']
    file = {f'module.{key}': tensor for key, tensor in state.items()}
    file['module.criterion.nll_loss.weight'] = torch.ones(19)
    content = {
        'state_dict': file,
        'optimizer': {'state': {}, 'param_groups': []},
        'epoch': 174,
        'mean_iu': np.float64(0.83),
        'command': 'train.py',
    }
    torch.save(content, scratch)
    model = models.create('deeplabv3plus_wideresnet38')
    report = checkpoints.load(model, scratch)
    assert len(report.used) == 268
    assert report.missing == ('ood_head.weight',)
    assert report.left_over == ('criterion.nll_loss.weight',)
    assert numbers(model.state_dict()) == numbers(state)
    assert torch.equal(model.uncertainty.proxy.weight, model.classifier.weight)  # type: ignore[arg-type]
    assert untrained(model, report) == []


def _pickled(state: dict[str, Tensor], path: Path) -> None:
    arrays = {key: tensor.numpy() for key, tensor in state.items()}
    path.write_bytes(pickle.dumps({'model': arrays, '__author__': 'x'}))


def test_pickled_mask2former(scratch: Path) -> None:
    state = constants('mask2former_keys.tsv')
    arrays = {key: tensor.numpy() for key, tensor in state.items()}
    scratch.write_bytes(pickle.dumps({'model': arrays, '__author__': 'x'}))
    model = models.create('mask2former_resnet50')
    report = checkpoints.load(model, scratch)
    assert report[1:] == (tuple(sorted(state)), (), ())
    assert numbers(model.state_dict()) == numbers(state)


def test_mask2anomaly_lacks_the_second_head(scratch: Path) -> None:
    state = {
        key: tensor
        for key, tensor in constants('mask2former_keys.tsv').items()
        if 'class_embed2' not in key and 'num_batches_tracked' not in key
    }
    torch.save({'model': state}, scratch)
    model = models.create('mask2former_resnet50')
    report = checkpoints.load(model, scratch)
    assert sum('num_batches_tracked' not in key for key in report.missing) == 2
    assert torch.equal(model.uncertainty.classifier.weight, model.classifier.weight)  # type: ignore[arg-type]
    assert torch.equal(model.uncertainty.classifier.bias, model.classifier.bias)  # type: ignore[arg-type]


def test_file_of_another_network_says_which(scratch: Path) -> None:
    torch.save(constants('mask2former_keys.tsv'), scratch)
    model = models.create('deeplabv3plus_compact')
    with pytest.raises(MultishiftError, match=r'it fits the model mask2former_resnet50$'):
        checkpoints.load(model, scratch)


@pytest.mark.parametrize('name', sorted(models.names_alone()))
def test_hints_know_every_network(name: str) -> None:
    """A hint builds networks without weights, which not every constructor bears."""
    model = dict(structures())[name]
    assert loading._fits(model, model.state_dict())
