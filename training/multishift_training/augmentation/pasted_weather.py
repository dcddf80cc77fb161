# SPDX-License-Identifier: Apache-2.0
"""Pasted objects under weather by rule: what generators are compared with that paint anew."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_perception.errors import MultishiftError
from multishift_training.augmentation.parts import Composition, Generated
from multishift_training.datasets.transforms import SharedTransforms, weather


class PastedWeather:
    """Pastes the object's own picture as it is, then changes weather and light by rule.

    Attributes:
        version: of the rules, for the record.
        batch: one.
    """

    version = 'pasted-weather-1'
    batch = 1

    def __init__(self) -> None:
        """Chain the rules: those that partners of a training set are made by."""
        self._weather = SharedTransforms(weather())

    def generate(
        self, compositions: Sequence[Composition], seeds: Sequence[np.random.SeedSequence]
    ) -> list[Generated]:
        """Paint an image for each composition; each depends on its own seed alone.

        The domains have no words: the rules do not tell what they drew.

        Raises:
            MultishiftError: an object has no picture.
        """
        images = []
        for composition, seed in zip(compositions, seeds, strict=True):
            member = (_pasted(composition), composition.labels)
            (image, _), *_ = self._weather([member], np.random.default_rng(seed))
            images.append(Generated(image, '', {}))
        return images


def _pasted(composition: Composition) -> Bytes:
    """Return the scene with the object's picture in it, RGB ``uint8 [H,W,3]``."""
    picture, mask = composition.object.picture, composition.mask
    if picture is None:
        raise MultishiftError(
            f'objects: {composition.object.origin} has a shape but no picture, which generator '
            'pasted_weather pastes: give objects with pictures, or generator procedural'
        )
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    area = np.s_[top : top + height, left : left + width]
    image = composition.scene.image.copy()
    image[area][mask[area]] = picture[mask[area]]
    return image
