# SPDX-License-Identifier: Apache-2.0
"""What `multishift train` leaves: weights with all that is needed to build them into an engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel
import safetensors.torch

from multishift_perception.classes import CITYSCAPES, SemanticClass
from multishift_perception.files import write_bytes
from multishift_training import checkpoints, models
from multishift_training.checkpoints.metadata import (
    NetworkConfig,
    Origin,
    metadata_of,
    read_origin,
)
from multishift_training.methods import Method
from multishift_training.models import SegmentationModel


class Checkpoint(NamedTuple):
    """A trained network, and what made it."""

    model: SegmentationModel
    origin: Origin


def save(
    path: Path,
    model: SegmentationModel,
    configuration: BaseModel,
    metrics: Mapping[str, Any],
    *,
    classes: Sequence[SemanticClass] = CITYSCAPES,
    inherited: Sequence[Method] = (),
    credits: Sequence[str] = (),
) -> None:
    """Write a checkpoint atomically, as one safetensors file.

    Args:
        path: of the file.
        model: the network.
        configuration: of the run that trained it, the whole of it.
        metrics: of the validation.
        classes: that the network knows, in order of its outputs.
        inherited: what the network was adapted by already whose weights the run started from.
        credits: whom to name for what those weights learned from.
    """
    metadata = metadata_of(
        configuration.model_dump(mode='json'),
        metrics,
        classes=classes,
        inherited=[method.model_dump(mode='json') for method in inherited],
        credits=credits,
    )
    write(path, model, metadata)


def write(path: Path, model: SegmentationModel, metadata: Mapping[str, str]) -> None:
    """Write a checkpoint with metadata that `metadata_of` made, as ``save`` does."""
    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    write_bytes(path, safetensors.torch.save(tensors, dict(metadata)))


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
    origin = read_origin(path)
    model = new_model(origin.run, root, len(origin.classes))
    checkpoints.take_structure(model, keys_of(path))
    model = adapted(model, origin.adapting)
    checkpoints.load(model, path)
    return Checkpoint(model.eval(), origin)


def keys_of(path: Path) -> list[str]:
    """Return the keys of a checkpoint written by ``save``."""
    with safetensors.safe_open(path, 'pt') as file:
        return list(file.keys())


def new_model(
    network: NetworkConfig, root: Path, num_classes: int = len(CITYSCAPES)
) -> SegmentationModel:
    """Return the network of a configuration, randomly initialised, as no method has adapted it.

    Args:
        network: the configuration.
        root: folder that its relative paths start from.
        num_classes: known classes.
    """
    if network.folder is None:
        return models.create(network.model, num_classes)
    return models.create(network.model, num_classes, folder=root / network.folder)


def adapted(model: SegmentationModel, methods: Iterable[Method]) -> SegmentationModel:
    """Return a network as methods adapt it, one after the other."""
    for method in methods:
        model = method.adapt(model)
    return model
