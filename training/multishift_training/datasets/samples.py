# SPDX-License-Identifier: Apache-2.0
"""What a network trains on: single images, or pairs of an original and its partner."""

from __future__ import annotations

from collections.abc import Sequence
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import SemanticClass
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
from multishift_training.datasets.styles import Looks
from multishift_training.datasets.training_data import (
    Domain,
    PastedWeatherPartnerData,
    RuleAugPartnerData,
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
        classes: what labels stand for, in order.
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
        self.classes = config.classes
        self.groups = config.groups
        self.domains = tuple(
            DomainSamples(
                domain,
                (seed, place),
                mixup=config.mixup,
                classes=self.classes,
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

    def sample(self, epoch: int, index: int, others: int = 0) -> Sample:
        """Return a sample of an epoch.

        Args:
            epoch: number of the epoch.
            index: of the sample.
            others: how many other originals of its domain to read beside.

        Returns:
            RGB images ``uint8 [M,H,W,3]`` and labels ``uint8 [M,H,W]`` of its M members, the
            original first; the domain; and the others.

        Raises:
            MultishiftError: a file is unreadable or does not fit another; the message names it.
        """
        place, domain = self._placed(index)
        members = self.domains[domain].members(epoch, place)
        images, labels = (np.stack(parts) for parts in zip(*members, strict=True))
        beside = self.domains[domain].others(epoch, place, others)
        known = len(self.classes)
        return Sample(images, labels, domain=domain, others=beside, num_classes=known)

    def stream_of_views(self, epoch: int, index: int) -> np.random.Generator:
        """Return the random stream of a method that makes its own views of a sample."""
        place, domain = self._placed(index)
        return self.domains[domain].streams(epoch, place).views

    def _placed(self, index: int) -> tuple[int, int]:
        """Return the index of a sample within its domain, and the domain's place."""
        return divmod(index, len(self.domains))


class Streams(NamedTuple):
    """The random streams of a sample, one for each purpose: what one draws changes no other.

    A new one goes last: those before it draw what they drew, so that runs resume exactly.
    """

    partner: np.random.Generator
    pasting: np.random.Generator
    transforms: np.random.Generator
    views: np.random.Generator
    looks: np.random.Generator
    others: np.random.Generator


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
        classes: Sequence[SemanticClass],
        groups: Groups,
        root: Path,
        cache: Path,
    ) -> None:
        """Open the data sets.

        Args:
            domain: what to draw.
            seed: of everything random: that of the run, and the domain's place.
            mixup: largest share of an original that is blended into its partner.
            classes: that labels are to be of.
            groups: table of the groups of all domains.
            root: folder that relative data paths start from.
            cache: where rendered frames are kept for the next run.

        Raises:
            MultishiftError: files are missing, or no original has a partner.
        """
        self._seed = seed
        self._mixup = mixup
        opened = open_images(domain.images, root, cache, training=True)
        self.originals = opened.in_classes(classes, groups)
        self._outliers = OutlierChoice(domain.outliers, root) if domain.outliers else None
        self._partners = _open_partners(
            domain.partners, self.originals, self._outliers, root, cache
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
        self._looks = Looks(transforms, root, cache)

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
        streams = self.streams(epoch, index)
        number = self._indices[index % len(self)]
        original = self.originals.read(number)
        members = [original]
        if self._partners is not None:
            image, labels = self._partners.draw(number, original, streams.partner)
            if self._mixup:
                share = min(float(streams.partner.random()), self._mixup)
                image = mixed(original[0], image, share)
            members.append((image, labels))
        outliers = None if self._outliers is None else self._outliers.choose(streams.pasting)
        if outliers is not None and outliers.before_transforms:
            paste(outliers, *original, streams.pasting)
        if self._size is not None:
            members = [resized(*member, self._size) for member in members]
        members = self._transforms(members, streams.transforms)
        if outliers is not None and not outliers.before_transforms:
            paste(outliers, *members[0], streams.pasting)
        return self._looks(members, streams.looks)

    def others(self, epoch: int, index: int, count: int) -> list[LabelledImage]:
        """Return other originals of the domain, of the size that they are seen in.

        Args:
            epoch: number of the epoch.
            index: of the sample, which is none of them unless it is the only one.
            count: how many; none is drawn twice while there are enough.

        Raises:
            MultishiftError: a file is unreadable or does not fit another; the message names it.
        """
        if not count:
            return []
        own = self._indices[index % len(self)]
        rest = [number for number in self._indices if number != own] or [own]
        rng = self.streams(epoch, index).others
        chosen = rng.choice(rest, count, replace=count > len(rest))
        found = [self.originals.read(int(number)) for number in chosen]
        return found if self._size is None else [resized(*one, self._size) for one in found]

    def streams(self, epoch: int, index: int) -> Streams:
        """Return the random streams of a sample; they depend on nothing but its place."""
        seed, place = self._seed
        return Streams(
            *np.random.default_rng((seed, epoch, index, place)).spawn(len(Streams._fields))
        )


def _open_partners(
    config: ImageSet | PastedWeatherPartnerData | RuleAugPartnerData | None,
    originals: LabelledImages,
    outliers: OutlierChoice | None,
    root: Path,
    cache: Path,
) -> Partners | None:
    match config:
        case None:
            return None
        case PastedWeatherPartnerData():
            return PastedWeatherPartners(originals, outliers, new_weather=config.weather)
        case RuleAugPartnerData():
            return RuleAugPartners(originals)
        case images:
            opened = open_images(images, root, cache, training=True)
            return ImagePartners(originals, opened.in_classes(originals.classes, originals.groups))
