# SPDX-License-Identifier: Apache-2.0
"""Sees that data sets are there, before torch is loaded.

Nothing is opened twice for it but folders, whose files are listed.
"""

from __future__ import annotations

from pathlib import Path

from multishift_training.datasets.images import check_images
from multishift_training.datasets.outliers import open_outliers
from multishift_training.datasets.training_data import (
    PastedWeatherPartner,
    RuleAugPartner,
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
    check_images(config.images, root)
    partners = config.partners if isinstance(config, TrainingData) else None
    if partners is not None and not isinstance(partners, PastedWeatherPartner | RuleAugPartner):
        check_images(partners, root)
    if config.outliers is not None:
        open_outliers(config.outliers, root)
