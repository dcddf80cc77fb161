# SPDX-License-Identifier: Apache-2.0
"""Methods that learn from outliers: each trains, resumes to the bit, and ends in an engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
import torch

from multishift_perception.classes import CITYSCAPES
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_training import methods, models
from multishift_training.checkpoints.trained import open_trained
from multishift_training.export import build
from multishift_training.loop.config import TrainConfig
from multishift_training.loop.train import train
from multishift_training.models.input_scale import Normalize

Content = dict[str, Any]
METHODS: dict[str, Content] = {
    'max_entropy': {},
    'pebal': {'margins': [-4, -2]},
    'uno': {'class_weights': True},
}

pytestmark = pytest.mark.usefixtures('one_thread')


def described(kind: str, content: Callable[..., Content], stages: dict[str, Content]) -> Content:
    """Two steps of a method."""
    stage = {**stages['closed_world'], 'epochs': 1, 'init_uncertainty': True}
    method = {'kind': kind, **METHODS[kind]}
    whole = content(batch_size=4, stages=[{**stage, 'name': kind, 'method': method}])
    del whole['data']['partners']
    return whole


@pytest.fixture(params=METHODS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_resumed_and_deployed(
    kind: str,
    content: Callable[..., Content],
    stages: dict[str, Content],
    new_folder: Callable[[], Path],
    train_in_parts: Callable[[TrainConfig, Path], int],
    tmp_path: Path,
) -> None:
    config = TrainConfig.model_validate(described(kind, content, stages))
    run, stopped = new_folder(), new_folder()
    best = train(config, run, root=Path())
    assert best is not None
    assert train_in_parts(config, stopped) == 2
    assert (run / 'log.jsonl').read_text() == (stopped / 'log.jsonl').read_text()
    weights, resumed = load_file(best), load_file(stopped / best.name)
    assert weights.keys() == resumed.keys()
    assert all(torch.equal(weights[key], resumed[key]) for key in weights)
    states = [torch.load(x / 'last.pt', weights_only=True)['methods'] for x in (run, stopped)]
    for name, state in states[0].get(kind, {}).items():
        assert torch.equal(state, states[1][kind][name])

    model, _ = open_trained(best)
    build(best, tmp_path / 'engine', targets=['torch'])
    frame = np.random.default_rng(0).integers(0, 256, (1, 96, 160, 3), np.uint8)
    with Engine.load(tmp_path / 'engine', backend='torch') as engine:
        output = engine.infer(frame)
    with torch.no_grad():
        wanted = model(Normalize(model.input_scale)(torch.from_numpy(frame)))
    assert output.label.max() < len(CITYSCAPES) == wanted.logits.shape[1]
    assert np.array_equal(output.label, wanted.logits.argmax(1).numpy())
    assert np.allclose(output.score, wanted.score.numpy(), atol=1e-4)
    assert not any(key.startswith('uncertainty') for key in weights)


def test_data_without_outliers_are_refused(
    kind: str, content: Callable[..., Content], stages: dict[str, Content], folder: Path
) -> None:
    whole = described(kind, content, stages)
    whole['data']['images']['learn_novel'] = False
    with pytest.raises(MultishiftError) as caught:
        train(TrainConfig.model_validate(whole), folder, root=Path())
    assert str(caught.value) == (
        f'stage {kind}: method {kind} learns from outliers, and the data show none: set '
        'data.outliers'
    )


def test_networks_without_a_classifier_of_pixels_are_refused(kind: str) -> None:
    model = models.create('deeplabv3plus_compact')
    del model.classifier
    made = methods.METHODS[kind].model_validate({'kind': kind, **METHODS[kind]})
    with pytest.raises(MultishiftError, match=f'method {kind} is for networks whose `classifier`'):
        made.check_network(model, 'my_network')
