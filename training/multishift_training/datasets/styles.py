# SPDX-License-Identifier: Apache-2.0
"""Looks: strong photometric changes, and styles of other images; each member draws its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_training.datasets.images import LabelledImage, LabelledImages, open_images
from multishift_training.datasets.training_data import Style, TransformData, ZoomCropTransforms
from multishift_training.datasets.transforms import changed


class Looks:
    """Random changes of colour that members of a pair draw apart; labels stay as they are."""

    def __init__(self, config: TransformData, root: Path, cache: Path) -> None:
        """Open the images whose styles are taken.

        Args:
            config: of the transforms.
            root: folder that relative data paths start from.
            cache: where rendered frames are kept for the next run.

        Raises:
            MultishiftError: files are missing; the message names them.
        """
        self._strong = 0.0
        self._style: Style | None = None
        if not isinstance(config, ZoomCropTransforms):
            return
        self._strong = config.strong_color
        if config.style is not None:
            self._style = config.style
            self._images: LabelledImages = open_images(config.style.images, root, cache)
            self._fda = A.Compose([A.FDA(beta_limit=config.style.beta, p=1.0)])

    def __call__(
        self, members: Sequence[LabelledImage], rng: np.random.Generator
    ) -> list[LabelledImage]:
        """Return the members, images RGB ``uint8 [H,W,3]``, each with a look of its own.

        Args:
            members: images with labels.
            rng: decides everything.
        """
        streams = rng.spawn(len(members))
        return [
            (self._changed(image, stream), labels)
            for (image, labels), stream in zip(members, streams, strict=True)
        ]

    def _changed(self, image: Bytes, rng: np.random.Generator) -> Bytes:
        if self._style is not None and rng.random() < self._style.probability:
            other = self._images.read_image(int(rng.integers(len(self._images))))
            # FDA takes them for one size, and would enlarge by pixels.
            rows, columns = image.shape[:2]
            seen = cv2.resize(other, (columns, rows), interpolation=cv2.INTER_AREA)
            image = changed(self._fda, rng, image=image, fda_metadata=[seen])['image']
        if self._strong:
            image = in_strong_colors(image, self._strong, rng)
        return np.ascontiguousarray(image)


def in_strong_colors(image: Bytes, probability: float, rng: np.random.Generator) -> Bytes:
    """Return an image RGB ``uint8 [H,W,3]``, changed by chance; ``rng`` decides everything.

    Light, colour, noise, sharpness, shadows and compression change.
    """
    return np.asarray(changed(_strong_colors(probability), rng, image=image)['image'])


@cache
def _strong_colors(probability: float) -> A.Compose:
    return A.Compose(strong_photometric(), p=probability)


# Looks of a road, by name: ten domains where there is but one.
ROAD_STYLES = (
    'plain', 'bright', 'dark', 'shadow', 'snow', 'rain', 'fog', 'sun_flare', 'motion_blur',
    'autumn',
)  # fmt: skip


def in_road_style(image: Bytes, style: str, rng: np.random.Generator) -> Bytes:
    """Return an image RGB ``uint8 [H,W,3]`` in one of `ROAD_STYLES`; ``rng`` decides how."""
    if style == 'plain':
        return image
    return np.asarray(changed(_road_style(style), rng, image=image)['image'])


@cache
def _road_style(style: str) -> A.Compose:
    changes = {
        'bright': A.RandomGamma((40, 75), p=1.0),
        'dark': A.RandomGamma((140, 280), p=1.0),
        'shadow': A.RandomShadow(
            num_shadows_limit=(1, 3), shadow_intensity_range=(0.3, 0.7), p=1.0
        ),
        'snow': A.RandomSnow(snow_point_range=(0.1, 0.4), p=1.0),
        'rain': A.RandomRain(drop_length=None, brightness_coefficient=0.75, p=1.0),
        'fog': A.RandomFog(fog_coef_range=(0.3, 0.8), p=1.0),
        'sun_flare': A.RandomSunFlare(src_radius=100, p=1.0),
        'motion_blur': A.MotionBlur((5, 11), p=1.0),
        'autumn': A.HueSaturationValue((-20, -8), (0, 30), (-10, 20), p=1.0),
    }
    return A.Compose([changes[style]])


def in_other_colors(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Return an image RGB ``uint8 [H,W,3]``, its colours jittered strongly, and blurred."""
    return np.asarray(changed(_other_colors(), rng, image=image)['image'])


@cache
def _other_colors() -> A.Compose:
    jitter = A.ColorJitter(0.8, 0.8, 0.8, 0.3, p=1.0)
    return A.Compose([jitter, A.GaussianBlur((0, 0), sigma_limit=(0.15, 1.3), p=1.0)])


def strong_photometric() -> list[Any]:
    """Return strong changes that leave every thing at its place and of its class."""
    return [
        A.ColorJitter(0.5, 0.5, 0.5, 0.1, p=0.8),
        A.RandomGamma((50, 180), p=0.3),
        A.ToGray(p=0.1),
        A.RandomShadow(num_shadows_limit=(1, 2), shadow_intensity_range=(0.2, 0.6), p=0.2),
        A.OneOf([A.GaussianBlur((3, 7), p=1.0), A.MotionBlur((3, 9), p=1.0)], p=0.2),
        A.OneOf([A.GaussNoise(std_range=(0.01, 0.08), p=1.0), A.ISONoise(p=1.0)], p=0.3),
        A.ImageCompression(quality_range=(30, 95), p=0.3),
    ]
