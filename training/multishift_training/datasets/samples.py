# SPDX-License-Identifier: Apache-2.0
"""What a network trains on: single images, or pairs of an original and its partner."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multishift_training.datasets.entries import some
from multishift_training.datasets.images import LabelledImages, open_images
from multishift_training.datasets.outliers import Outliers, open_outliers, paste
from multishift_training.datasets.partners import (
    ImagePartners,
    Partners,
    PastedWeatherPartners,
    RuleAugPartners,
    mixed,
)
from multishift_training.datasets.training_data import (
    PastedWeatherPartner,
    RuleAugPartner,
    TrainingData,
    ZoomCropTransforms,
)
from multishift_training.datasets.transforms import SharedTransforms, resized, steps

logger = logging.getLogger(__name__)


class Samples:
    """Single images, or pairs (original, partner); each depends on (seed, epoch, index) alone.

    Attributes:
        seed: of everything random.
        members: images of a sample: 1, or 2 for pairs.
        originals: the data set of the originals.
        groups: of classes that labels of originals or partners stand for, in order.
        unpaired: names of the originals that are left out because they have no partner.
    """

    def __init__(self, config: TrainingData, *, root: Path, cache: Path, seed: int) -> None:
        """Open the data sets.

        Args:
            config: what to train on.
            root: folder that relative data paths start from.
            cache: where rendered frames are kept for the next run.
            seed: of everything random.

        Raises:
            MultishiftError: files are missing, or no original has a partner.
        """
        self.seed = seed
        self.groups = config.groups
        self.originals = open_images(config.images, root, cache, training=True, groups=self.groups)
        self._outliers = open_outliers(config.outliers, root) if config.outliers else None
        self._partners = _open_partners(config, self.originals, self._outliers, root, cache)
        self.members = config.members
        every = range(len(self.originals))
        self._indices = tuple(every) if self._partners is None else self._partners.paired
        left_out = sorted(set(every) - set(self._indices))
        self.unpaired = tuple(self.originals.entries[i].name for i in left_out)
        if self.unpaired:
            logger.warning(
                'of %d originals %s have no partner and are left out',
                len(self.originals),
                some(self.unpaired),
            )
        self._mixup = config.mixup
        transforms = config.transforms
        self._size = transforms.size if isinstance(transforms, ZoomCropTransforms) else None
        self._transforms = SharedTransforms(steps(transforms))

    def __len__(self) -> int:
        """Return the number of samples of an epoch."""
        return len(self._indices)

    def sample(self, epoch: int, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return a sample of an epoch.

        Returns:
            RGB images ``uint8 [M,H,W,3]`` and labels ``uint8 [M,H,W]`` of its M members, the
            original first.

        Raises:
            MultishiftError: a file is unreadable or does not fit another; the message names it.
        """
        for_partner, for_pasting, for_transforms, _ = self._streams(epoch, index)
        original = self.originals.read(self._indices[index])
        members = [original]
        if self._partners is not None:
            image, labels = self._partners.draw(self._indices[index], original, for_partner)
            if self._mixup:
                share = min(float(for_partner.random()), self._mixup)
                image = mixed(original[0], image, share)
            members.append((image, labels))
        if self._outliers is not None and self._outliers.before_transforms:
            paste(self._outliers, *original, for_pasting)
        if self._size is not None:
            members = [resized(*member, self._size) for member in members]
        members = self._transforms(members, for_transforms)
        if self._outliers is not None and not self._outliers.before_transforms:
            paste(self._outliers, *members[0], for_pasting)
        return np.stack([m[0] for m in members]), np.stack([m[1] for m in members])

    def stream_of_views(self, epoch: int, index: int) -> np.random.Generator:
        """Return what a method draws from that makes its own views of a sample."""
        return self._streams(epoch, index)[-1]

    def _streams(self, epoch: int, index: int) -> list[np.random.Generator]:
        # One for each purpose: what one of them draws does not change the others.
        return np.random.default_rng((self.seed, epoch, index)).spawn(4)


def _open_partners(
    config: TrainingData,
    originals: LabelledImages,
    outliers: Outliers | None,
    root: Path,
    cache: Path,
) -> Partners | None:
    match config.partners:
        case None:
            return None
        case PastedWeatherPartner():
            return PastedWeatherPartners(originals, outliers, new_weather=config.partners.weather)
        case RuleAugPartner():
            return RuleAugPartners(originals)
        case images:
            opened = open_images(images, root, cache, training=True, groups=config.groups)
            return ImagePartners(originals, opened)
