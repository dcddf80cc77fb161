"""Sees that what a command reads is there, before torch is loaded and networks are made.

Nothing is opened twice for it but folders, whose files are listed.
"""

from __future__ import annotations

from pathlib import Path

from multishift_perception.engine.manifest import read_manifest
from multishift_perception.errors import MultishiftError
from multishift_training.augmentation.config import AugmentConfig, ControlNetGenerator, SamPresence
from multishift_training.augmentation.objects import open_objects
from multishift_training.checkpoints.metadata import read_metadata, read_origin
from multishift_training.datasets.images import check_images
from multishift_training.datasets.outliers import open_outliers
from multishift_training.datasets.sample_config import (
    PastedWeatherPartner,
    RuleAugPartner,
    TrainingData,
    ValidationData,
)
from multishift_training.loop.config import IMAGENET, TrainConfig


def check_weights(path: Path, *, key: str = '') -> None:
    """See that weights are there.

    Args:
        path: file of weights, or a folder.
        key: of the configuration that names them.

    Raises:
        MultishiftError: if not.
    """
    if not path.exists():
        field = f'{key}: ' if key else ''
        raise MultishiftError(
            f'{field}{path} cannot be read (No such file or directory): '
            'give an existing file of weights, or a Hugging Face folder'
        )


def check_data(config: TrainingData | ValidationData, root: Path) -> None:
    """See that data sets are there.

    Args:
        config: the data sets.
        root: folder that relative data paths start from.

    Raises:
        MultishiftError: folders or files are missing; the message names them.
    """
    check_images(config.images, root)
    partners = config.partners if isinstance(config, TrainingData) else None
    if partners is not None and not isinstance(partners, PastedWeatherPartner | RuleAugPartner):
        check_images(partners, root)
    if config.outliers is not None:
        open_outliers(config.outliers, root)


def check_training(config: TrainConfig, root: Path, *, new: bool) -> None:
    """See that what a training run reads is there.

    Args:
        config: of the run.
        root: folder that its relative paths start from.
        new: whether it starts from `weights`; one that goes on has its own.

    Raises:
        MultishiftError: folders or files are missing; the message names them.
    """
    check_data(config.data, root)
    check_data(config.val, root)
    if config.folder is not None:
        check_weights(root / config.folder, key='folder')
    if config.weights not in (None, IMAGENET) and new:
        check_weights(root / config.weights, key='weights')


def check_checkpoint(path: Path, root: Path) -> TrainConfig:
    """See that a checkpoint of `multishift train` is there, and what it wants.

    Args:
        path: of the checkpoint.
        root: folder that relative paths of its configuration start from.

    Returns:
        Its configuration.

    Raises:
        MultishiftError: it is missing or none, or a folder that it names is missing.
    """
    config = read_origin(path).config
    if config.folder is not None:
        check_weights(root / config.folder, key=f'{path}, its folder')
    return config


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
