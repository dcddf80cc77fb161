# SPDX-License-Identifier: Apache-2.0
"""What a network trains on: single images, or pairs of an original and its partner."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multishift_training.datasets.batch import Sample
from multishift_training.datasets.entries import some
from multishift_training.datasets.groups import Groups
from multishift_training.datasets.images import LabelledImage, LabelledImages, open_images
from multishift_training.datasets.kinds import ImageSet
from multishift_training.datasets.outliers import OutlierChoice, paste
from multishift_training.datasets.partners import (
    ImagePartners,
    Partners,
    PastedWeatherPartners,
    RuleAugPartners,
    mixed,
)
from multishift_training.datasets.training_data import (
    Domain,
    PastedWeatherPartner,
    RuleAugPartner,
    TrainingData,
    ZoomCropTransforms,
)
from multishift_training.datasets.transforms import SharedTransforms, resized, steps

logger = logging.getLogger(__name__)


class Samples:
    """Samples of one or several domains; each depends on (seed, epoch, index) alone.

    Their indices run over the domains in turn: of D domains, sample i is of domain ``i % D``.

    Attributes:
        seed: of everything random.
        members: images of a sample: 1, or 2 for pairs.
        domains: what is drawn from, in order.
        groups: of classes that labels of originals or partners stand for, in order; one table for
            all domains.
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
        self.members = config.members
        self.groups = config.groups
        self.domains = tuple(
            DomainSamples(
                domain,
                (seed, place),
                mixup=config.mixup,
                groups=self.groups,
                root=root,
                cache=cache,
            )
            for place, domain in enumerate(config.domains)
        )

    def __len__(self) -> int:
        """Return the number of samples of an epoch: of all domains as many as of the longest."""
        return len(self.domains) * max(map(len, self.domains))

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the indices of an epoch's samples, shuffled, ``int64 [D,N]``, by domain.

        A domain that is shorter than the longest begins again, in another order. Its samples
        there have indices of their own: changes and partners are drawn anew.
        """
        longest = max(map(len, self.domains))
        orders = []
        for place, domain in enumerate(self.domains):
            rounds = [
                np.random.default_rng((self.seed, epoch, place, n)).permutation(len(domain))
                + n * len(domain)
                for n in range(-(-longest // len(domain)))
            ]
            orders.append(np.concatenate(rounds)[:longest] * len(self.domains) + place)
        return np.stack(orders)

    def sample(self, epoch: int, index: int) -> Sample:
        """Return a sample of an epoch.

        Returns:
            RGB images ``uint8 [M,H,W,3]`` and labels ``uint8 [M,H,W]`` of its M members, the
            original first; and the domain.

        Raises:
            MultishiftError: a file is unreadable or does not fit another; the message names it.
        """
        place, domain = self._placed(index)
        members = self.domains[domain].members(epoch, place)
        images, labels = (np.stack(parts) for parts in zip(*members, strict=True))
        return Sample(images, labels, domain=domain)

    def stream_of_views(self, epoch: int, index: int) -> np.random.Generator:
        """Return what a method draws from that makes its own views of a sample."""
        place, domain = self._placed(index)
        return self.domains[domain].streams(epoch, place)[-1]

    def _placed(self, index: int) -> tuple[int, int]:
        """Return the index of a sample within its domain, and the domain's place."""
        return divmod(index, len(self.domains))


class DomainSamples:
    """Single images of a domain, or pairs (original, partner).

    Attributes:
        originals: the data set of the originals.
        unpaired: names of the originals that are left out because they have no partner.
    """

    def __init__(
        self,
        domain: Domain,
        seed: tuple[int, int],
        *,
        mixup: float,
        groups: Groups,
        root: Path,
        cache: Path,
    ) -> None:
        """Open the data sets.

        Args:
            domain: what to draw.
            seed: of everything random: that of the run, and the domain's place.
            mixup: largest share of an original that is blended into its partner.
            groups: table of the groups of all domains.
            root: folder that relative data paths start from.
            cache: where rendered frames are kept for the next run.

        Raises:
            MultishiftError: files are missing, or no original has a partner.
        """
        self._seed = seed
        self._mixup = mixup
        self.originals = open_images(domain.images, root, cache, training=True, groups=groups)
        self._outliers = OutlierChoice(domain.outliers, root) if domain.outliers else None
        self._partners = _open_partners(
            domain.partners, self.originals, self._outliers, groups, root, cache
        )
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
        transforms = domain.transforms
        self._size = transforms.size if isinstance(transforms, ZoomCropTransforms) else None
        self._transforms = SharedTransforms(steps(transforms))

    def __len__(self) -> int:
        """Return the number of originals that are used."""
        return len(self._indices)

    def members(self, epoch: int, index: int) -> list[LabelledImage]:
        """Return the members of a sample, the original first.

        Args:
            epoch: number of the epoch.
            index: of the original; from the domain's length on, the same originals with other
                draws.

        Raises:
            MultishiftError: a file is unreadable or does not fit another; the message names it.
        """
        for_partner, for_pasting, for_transforms, _ = self.streams(epoch, index)
        number = self._indices[index % len(self)]
        original = self.originals.read(number)
        members = [original]
        if self._partners is not None:
            image, labels = self._partners.draw(number, original, for_partner)
            if self._mixup:
                share = min(float(for_partner.random()), self._mixup)
                image = mixed(original[0], image, share)
            members.append((image, labels))
        outliers = None if self._outliers is None else self._outliers.choose(for_pasting)
        if outliers is not None and outliers.before_transforms:
            paste(outliers, *original, for_pasting)
        if self._size is not None:
            members = [resized(*member, self._size) for member in members]
        members = self._transforms(members, for_transforms)
        if outliers is not None and not outliers.before_transforms:
            paste(outliers, *members[0], for_pasting)
        return members

    def streams(self, epoch: int, index: int) -> list[np.random.Generator]:
        """Return what partner, pasting, transforms and a method's views are drawn from.

        One for each purpose: what one of them draws does not change the others.
        """
        seed, place = self._seed
        return np.random.default_rng((seed, epoch, index, place)).spawn(4)


def _open_partners(
    config: ImageSet | PastedWeatherPartner | RuleAugPartner | None,
    originals: LabelledImages,
    outliers: OutlierChoice | None,
    groups: Groups,
    root: Path,
    cache: Path,
) -> Partners | None:
    match config:
        case None:
            return None
        case PastedWeatherPartner():
            return PastedWeatherPartners(originals, outliers, new_weather=config.weather)
        case RuleAugPartner():
            return RuleAugPartners(originals)
        case images:
            opened = open_images(images, root, cache, training=True, groups=groups)
            return ImagePartners(originals, opened)
