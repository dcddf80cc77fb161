# SPDX-License-Identifier: Apache-2.0
"""Sees that data sets are there, before torch is loaded.

Nothing is opened twice for it but folders, whose files are listed.
"""

from __future__ import annotations

from pathlib import Path

from multishift_training.datasets.images import check_images
from multishift_training.datasets.kinds import ImageSet
from multishift_training.datasets.outliers import OutlierChoice
from multishift_training.datasets.training_data import (
    Domain,
    TrainingData,
    ValidationData,
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
        if part.outliers is not None:
            OutlierChoice(part.outliers, root)
