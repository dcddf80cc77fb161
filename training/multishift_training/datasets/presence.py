# SPDX-License-Identifier: Apache-2.0
"""Sees that data sets are there, and have enough images, before torch is loaded.

Nothing is opened twice for it but folders, whose files are listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from multishift_perception.errors import MultishiftError
from multishift_training.datasets.images import check_images
from multishift_training.datasets.kinds import ImageSet
from multishift_training.datasets.outliers import OutlierChoice
from multishift_training.datasets.training_data import (
    Domain,
    TrainingData,
    ValidationData,
    ZoomCropTransforms,
)


def check_data(config: TrainingData | ValidationData, root: Path) -> None:
    """See that data sets are there.

    Args:
        config: the data sets.
        root: folder that relative data paths start from.

    Raises:
        MultishiftError: folders or files are missing; the message names them.
    """
    for part in config.domains if isinstance(config, TrainingData) else (config,):
        check_images(part.images, root)
        if isinstance(part, Domain) and isinstance(part.partners, ImageSet):
            check_images(part.partners, root)
        if isinstance(part, Domain) and isinstance(part.transforms, ZoomCropTransforms):
            style = part.transforms.style
            if style is not None:
                check_images(style.images, root)
        if part.outliers is not None:
            OutlierChoice(part.outliers, root)


def count_images(data: TrainingData, root: Path) -> list[tuple[str, int]]:
    """Return the kind of each domain's originals, and how many there are; none is rendered.

    Args:
        data: what to train on.
        root: folder that relative data paths start from.

    Raises:
        MultishiftError: folders or files are missing; the message names them.
    """
    return [(domain.images.kind, domain.images.count(root)) for domain in data.domains]


def check_batch_size(
    batch_size: int, domains: Sequence[tuple[str, int]], *, processes: int = 1
) -> None:
    """See that an epoch has a batch, and that domains and processes get equal shares of it.

    Args:
        batch_size: samples in a batch, all processes together.
        domains: kind and number of the originals of each.
        processes: that share a batch.

    Raises:
        MultishiftError: if not.
    """
    if batch_size % (len(domains) * processes):
        of_domains = '' if len(domains) == 1 else f'{len(domains)} domains in '
        sharers = f'{of_domains}{processes} process{"es" if processes > 1 else ""}'
        raise MultishiftError(
            f'batch_size {batch_size} cannot be shared by {sharers}: give a multiple of '
            f'{len(domains) * processes}'
        )
    samples = len(domains) * max(number for _, number in domains)
    if samples < batch_size:
        raise MultishiftError(
            f'{", ".join(kind for kind, _ in domains)} gives {samples} '
            f'sample{"s" if samples > 1 else ""}, fewer than one batch: lower batch_size '
            f'({batch_size})'
        )
