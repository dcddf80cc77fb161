"""What `multishift train` leaves: weights with all that is needed to build them into an engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch

from multishift_perception.files import write_bytes
from multishift_training import checkpoints, models
from multishift_training.checkpoints.metadata import read_origin
from multishift_training.loop.config import TrainConfig
from multishift_training.models import SegmentationModel


class Checkpoint(NamedTuple):
    """A trained network, the configuration that made it, and its validation metrics."""

    model: SegmentationModel
    config: TrainConfig
    metrics: dict[str, Any]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically, as one safetensors file."""
    metadata = {
        'config': checkpoint.config.model_dump_json(),
        'metrics': json.dumps(checkpoint.metrics),
    }
    tensors = {k: v.contiguous() for k, v in checkpoint.model.state_dict().items()}
    write_bytes(path, safetensors.torch.save(tensors, metadata))


def open_trained(path: Path, *, root: Path = Path()) -> Checkpoint:
    """Read a checkpoint written by ``save``; the network is in evaluation mode.

    Args:
        path: of the checkpoint.
        root: folder that the configuration's relative paths start from.

    Raises:
        MultishiftError: the file is missing, broken, not of `multishift train`, or holds other
            weights than its own configuration calls for; the message names it and the keys at
            fault.
    """
    config, metrics = read_origin(path)
    model = new_model(config, root)
    checkpoints.load(model, path)
    return Checkpoint(model.eval(), config, metrics)


def new_model(config: TrainConfig, root: Path) -> SegmentationModel:
    """Return the network of a configuration, randomly initialised.

    Args:
        config: the configuration.
        root: folder that its relative paths start from.
    """
    if config.folder is None:
        return models.create(config.model)
    return models.create(config.model, folder=root / config.folder)
