# SPDX-License-Identifier: Apache-2.0
"""Sees that what a command reads is there, before torch is loaded and networks are made.

Nothing is opened twice for it but folders, whose files are listed.
"""

from __future__ import annotations

from pathlib import Path

from multishift_perception.engine.manifest import read_manifest
from multishift_perception.errors import MultishiftError
from multishift_training.augmentation.config import AugmentConfig, ControlNetGenerator, SamPresence
from multishift_training.augmentation.objects import open_objects
from multishift_training.checkpoints.metadata import read_metadata
from multishift_training.checkpoints.presence import check_checkpoint, check_weights
from multishift_training.datasets.images import check_images


def check_subject(checkpoint: Path, model: str | None, root: Path) -> None:
    """See that a checkpoint is there, and says which network it is of unless that is given.

    Args:
        checkpoint: of `multishift train`, or published.
        model: name of the network that it is of; None where it says so itself.
        root: folder that relative paths of its configuration start from.

    Raises:
        MultishiftError: if not.
    """
    if model is not None:
        return check_weights(checkpoint)
    is_other = checkpoint.exists() and checkpoint.suffix != '.safetensors'
    if is_other or 'config' not in read_metadata(checkpoint):
        raise MultishiftError(
            f'{checkpoint} was not written by `multishift train`: name its network with --model'
        )
    check_checkpoint(checkpoint, root)


def check_augmentation(config: AugmentConfig, root: Path) -> None:
    """See that what an augmentation run reads is there.

    Args:
        config: of the run.
        root: folder that its relative paths start from.

    Raises:
        MultishiftError: folders or files are missing; the message names them.
    """
    check_images(config.images, root)
    open_objects(config.objects, root)
    if isinstance(config.generator, ControlNetGenerator):
        for key in ('base', 'controlnet'):
            _check_folder(root / getattr(config.generator, key), key)
    filters = config.filters
    if isinstance(filters.present, SamPresence):
        _check_folder(root / filters.present.folder, 'present')
    for judge in (filters.novel, filters.labels_kept):
        if judge is None:
            continue
        network = root / judge.network
        if network.is_dir():
            read_manifest(network)
        else:
            check_subject(network, judge.model, root)


def _check_folder(folder: Path, key: str) -> None:
    if not folder.is_dir():
        raise MultishiftError(
            f'{key}: folder {folder} does not exist: give a local folder of weights, or the data '
            'root with --data'
        )
