# SPDX-License-Identifier: Apache-2.0
"""Partners of originals: the same scenes in another domain."""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.errors import MultishiftError
from multishift_training.datasets.entries import file_name
from multishift_training.datasets.images import LabelledImage, LabelledImages
from multishift_training.datasets.outliers import OutlierChoice, paste
from multishift_training.datasets.transforms import SharedTransforms, strong_color, weather


class Partners(Protocol):
    """A source of partners for a data set of originals.

    Attributes:
        paired: indices of the originals that have a partner, in order.
    """

    paired: tuple[int, ...]

    def draw(self, index: int, original: LabelledImage, rng: np.random.Generator) -> LabelledImage:
        """Draw a partner of the size of the original.

        Args:
            index: of the original in its data set.
            original: the original itself, which is left as it is.
            rng: decides which partner, or what is changed.
        """


class ImagePartners:
    """Partners that are images of a data set: one of those of the original's scene."""

    def __init__(self, originals: LabelledImages, partners: LabelledImages) -> None:
        """Match the two by scene.

        A partner belongs to the originals whose name or scene is its own, or begins it before a
        ``_``; what file names of generated partners cannot hold counts as ``-``.

        Raises:
            MultishiftError: no original has a partner.
        """
        self._originals, self._partners = originals, partners
        keys = [
            dict.fromkeys(file_name(key) for key in (entry.name, entry.scene))
            for entry in originals.entries
        ]
        known = {key for own in keys for key in own}
        by_key: dict[str, list[int]] = defaultdict(list)
        for index, entry in enumerate(partners.entries):
            key = file_name(entry.scene)
            while key and key not in known:
                key = key.rpartition('_')[0]
            by_key[key].append(index)
        self._of = {
            index: found
            for index, own in enumerate(keys)
            if (found := tuple(partner for key in own for partner in by_key.get(key, ())))
        }
        self.paired = tuple(self._of)
        if not self.paired:
            raise MultishiftError(
                f'no image of {partners.kind} ({partners.entries[0].image}, ...) shows a scene of '
                f'{originals.kind} ({originals.entries[0].image}, ...): a partner is named like '
                'its original, with or without _ANYTHING after it'
            )

    def draw(self, index: int, original: LabelledImage, rng: np.random.Generator) -> LabelledImage:
        """Read one of the original's partners.

        Raises:
            MultishiftError: it is unreadable, or its size is not the original's.
        """
        chosen = self._choose(self._of[index], rng)
        partner = self._partners.read(chosen)
        if partner[1].shape != original[1].shape:
            raise MultishiftError(
                f'{self._partners.entries[chosen].image} has {partner[1].shape} pixels, but '
                f'{self._originals.entries[index].image}, its original, {original[1].shape}: '
                'make the members of a pair of one size'
            )
        return partner

    def _choose(self, candidates: tuple[int, ...], rng: np.random.Generator) -> int:
        """Draw one by weight; those of equal weight as if they had none."""
        weights = np.array([self._partners.entries[i].weight for i in candidates])
        shares = None if np.ptp(weights) == 0 else weights / weights.sum()
        return int(rng.choice(candidates, p=shares))


class PastedWeatherPartners:
    """Partners that are the originals in another weather or light, with novel objects pasted."""

    def __init__(
        self, originals: LabelledImages, outliers: OutlierChoice | None, *, new_weather: bool
    ) -> None:
        """Give every original a partner, and every partner objects of its own, if there are."""
        self.paired = tuple(range(len(originals)))
        self._outliers = outliers
        self._change = SharedTransforms(weather() if new_weather else [])

    def draw(self, index: int, original: LabelledImage, rng: np.random.Generator) -> LabelledImage:
        """Change a copy of the original; the pasted objects are in the same weather."""
        image, labels = original[0].copy(), original[1].copy()
        if self._outliers is not None:
            paste(self._outliers.choose(rng), image, labels, rng)
        return self._change([(image, labels)], rng)[0]


class RuleAugPartners:
    """Partners that are the originals in the colours of RuleAug, pixel for pixel."""

    def __init__(self, originals: LabelledImages) -> None:
        """Give every original a partner."""
        self.paired = tuple(range(len(originals)))
        self._change = SharedTransforms(strong_color())

    def draw(self, index: int, original: LabelledImage, rng: np.random.Generator) -> LabelledImage:
        """Change the colours of a copy of the original."""
        image, labels = original[0].copy(), original[1].copy()
        return self._change([(image, labels)], rng)[0]


def mixed(
    original: NDArray[np.uint8], partner: NDArray[np.uint8], share: float
) -> NDArray[np.uint8]:
    """Return ``share`` of the original and the rest of the partner, rounded: ``uint8 [H,W,3]``."""
    return np.asarray(cv2.addWeighted(original, share, partner, 1 - share, 0), np.uint8)
