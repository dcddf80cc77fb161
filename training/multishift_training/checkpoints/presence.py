# SPDX-License-Identifier: Apache-2.0
"""Sees that weights are there, before torch is loaded and networks are made."""

from __future__ import annotations

from pathlib import Path

from multishift_perception.errors import MultishiftError
from multishift_training.checkpoints.metadata import Origin, read_origin


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


def check_checkpoint(path: Path, root: Path) -> Origin:
    """See that a checkpoint of `multishift train` is there, and what it wants.

    Args:
        path: of the checkpoint.
        root: folder that relative paths of its configuration start from.

    Returns:
        What it says of itself.

    Raises:
        MultishiftError: it is missing or none, or a folder that it names is missing.
    """
    origin = read_origin(path)
    if origin.run.folder is not None:
        check_weights(root / origin.run.folder, key=f'{path}, its folder')
    return origin
