"""Weights with what is needed to build them into an engine, in one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from multishift_perception.errors import MultishiftError
from multishift_perception.files import replacing
from multishift_training import models
from multishift_training.config import TrainConfig
from multishift_training.models import SegmentationModel


class Checkpoint(NamedTuple):
    """A trained network, the configuration that made it, and its validation metrics."""

    model: SegmentationModel
    config: TrainConfig
    metrics: dict[str, Any]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically."""
    metadata = {
        'config': checkpoint.config.model_dump_json(),
        'metrics': json.dumps(checkpoint.metrics),
    }
    tensors = {k: v.contiguous() for k, v in checkpoint.model.state_dict().items()}
    with replacing(path) as fresh:
        save_file(tensors, fresh, metadata)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint written by ``save``.

    Raises:
        MultishiftError: the file is missing, broken, or holds other weights than its own
            configuration calls for; the message names it and the keys at fault.
    """
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except FileNotFoundError:
        raise MultishiftError(
            f'checkpoint {path} does not exist: give the best.safetensors of a training run'
        ) from None
    except (SafetensorError, OSError) as error:
        raise MultishiftError(
            f'{path} is no whole safetensors file ({error}): copy it again'
        ) from None
    if 'config' not in metadata:
        raise MultishiftError(f'{path} was not written by `multishift train`: it has no `config`')
    config = TrainConfig.model_validate_json(metadata['config'])
    model = models.create(config.model)
    expected = model.state_dict()
    faults = sorted(expected.keys() ^ tensors.keys()) + [
        key
        for key in expected.keys() & tensors.keys()
        if expected[key].shape != tensors[key].shape
    ]
    if faults:
        raise MultishiftError(f'{path} does not fit {config.model}: {", ".join(faults[:8])}')
    model.load_state_dict(tensors)
    return Checkpoint(model.eval(), config, json.loads(metadata['metrics']))
