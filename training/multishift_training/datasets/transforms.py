# SPDX-License-Identifier: Apache-2.0
"""Random changes of images and labels, the same for both members of a pair."""

from __future__ import annotations

from collections.abc import Sequence
import random
from typing import Any

import albumentations as A
import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_perception.classes import VOID
from multishift_perception.images.resizing import fit, resize_labels
from multishift_training.datasets.images import LabelledImage
from multishift_training.datasets.training_data import (
    DeepLabTransforms,
    Mask2FormerTransforms,
    RuleAugTransforms,
    TransformData,
    ZoomCropTransforms,
)

# By pixel centres, as images are interpolated.
_NEAREST = cv2.INTER_NEAREST_EXACT


class SharedTransforms:
    """Random changes of one or two images of a scene, with the same parameters for both.

    Pixels that a transform has nothing for are black in the image and void in the labels.
    """

    def __init__(self, steps: Sequence[Any]) -> None:
        """Chain albumentations' transforms."""
        self._compose = A.Compose(steps, additional_targets={'image1': 'image', 'mask1': 'mask'})

    def __call__(
        self, members: Sequence[LabelledImage], rng: np.random.Generator
    ) -> list[LabelledImage]:
        """Return the transformed images, all of one size.

        Args:
            members: one or two RGB images ``uint8 [H,W,3]`` with labels ``uint8 [H,W]``, all of
                one size.
            rng: decides everything.
        """
        names = (('image', 'mask'), ('image1', 'mask1'))[: len(members)]
        given: dict[str, Bytes] = {}
        for (image_name, mask_name), (image, labels) in zip(names, members, strict=True):
            given |= {image_name: image, mask_name: labels}
        done = changed(self._compose, rng, **given)
        return [
            (np.ascontiguousarray(done[image]), np.ascontiguousarray(done[mask]))
            for image, mask in names
        ]


def changed(changes: A.Compose, rng: np.random.Generator, **given: Any) -> dict[str, Any]:
    """Return what changes make of images and labels, by name; ``rng`` decides everything."""
    # Not set_random_seed: that gives all transforms the same numbers, so that an image would be
    # flipped if and only if it is, say, enlarged.
    changes.set_random_state(rng, random.Random(int(rng.integers(2**63))))
    found: dict[str, Any] = changes(**given)
    return found


def steps(config: TransformData) -> list[Any]:
    """Return the transforms of a configuration, in the order in which they are made."""
    match config:
        case DeepLabTransforms():
            return [_crop(config.crop)]
        case Mask2FormerTransforms():
            return [*strong_color(), *_zoom_turn_flip(), _crop(config.crop)]
        case RuleAugTransforms():
            color = strong_color() if config.color else []
            return [*color, *_zoom_turn_flip(), _crop(config.crop)]
        case ZoomCropTransforms():
            low, high = config.zoom
            return [
                A.RandomScale((low - 1, high - 1), mask_interpolation=_NEAREST, p=1.0),
                _crop(config.crop),
                A.HorizontalFlip(p=config.flip),
                A.ColorJitter(0.25, 0.25, 0.25, 0.04, p=config.color),
                A.GaussianBlur((3, 5), p=config.blur),
            ]


def weather() -> list[Any]:
    """Return changes of weather and light that leave every thing at its place."""
    return [
        A.OneOf(
            [
                Fog((0.1, 0.5), p=1.0),
                A.RandomRain(brightness_coefficient=0.8, blur_value=3, p=1.0),
                A.RandomSnow(snow_point_range=(0.1, 0.3), p=1.0),
                A.ColorJitter((0.2, 0.6), (0.7, 1.2), (0.3, 1.0), 0.0, p=1.0),  # dusk, night
                A.ColorJitter((1.2, 1.8), (0.6, 1.2), (0.5, 1.2), 0.0, p=1.0),  # glare
                A.PlanckianJitter(temperature_limit=(4000, 12000), p=1.0),
            ],
            p=1.0,
        ),
        A.ColorJitter(0.2, 0.2, 0.3, 0.05, p=0.5),
        A.GaussNoise(std_range=(0.02, 0.06), p=0.2),
        A.GaussianBlur((3, 7), p=0.2),
    ]


def resized(image: Bytes, labels: Bytes, size: tuple[int, int]) -> LabelledImage:
    """Return image and labels stretched to ``size`` (rows, columns), as the pipeline does."""
    return fit(image, size), resize_labels(labels, size)


def _crop(size: tuple[int, int]) -> Any:
    return A.RandomCrop(*size, pad_if_needed=True, fill=0, fill_mask=VOID)


def strong_color() -> list[Any]:
    """Return RuleAug's changes of colour, which the published Mask2Former transforms share."""
    return [
        A.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.5),
        A.GaussianBlur((9, 9), sigma_limit=(0.1, 5.0), p=0.5),
        Sharpness((0.0, 2.0), p=0.5),
        A.AutoContrast(method='pil', p=0.5),
        A.Equalize(p=0.5),
    ]


def _zoom_turn_flip() -> list[Any]:
    zooms = [
        A.RandomScale((zoom - 1, zoom - 1), mask_interpolation=_NEAREST, p=1.0)
        for zoom in (0.7, 0.8, 0.9, 1.0)
    ]
    return [
        A.OneOf(zooms, p=0.5),
        A.Rotate((-10, 10), fill=0, fill_mask=VOID, p=0.5),
        A.HorizontalFlip(p=0.5),  # with the next, 0.75 that an image is flipped
        A.VerticalFlip(p=0.5),
    ]


class Sharpness(A.ImageOnlyTransform):  # type: ignore[misc]
    """Blends an image with a smoothed one: factor 0 is the smooth one, 1 the image, 2 sharper.

    The library's own sharpening has no factor below 1, which the published set needs.
    """

    _SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13

    def __init__(self, factor_range: tuple[float, float], p: float) -> None:
        """Draw the factor from a range."""
        super().__init__(p=p)
        self.factor_range = factor_range

    def get_params(self) -> dict[str, float]:
        """Draw the factor."""
        return {'factor': self.py_random.uniform(*self.factor_range)}

    def apply(self, img: Bytes, factor: float, **_: Any) -> Bytes:
        """Return the blend of an image ``uint8 [H,W,3]``."""
        smooth = cv2.filter2D(img, -1, self._SMOOTH)
        return np.asarray(cv2.addWeighted(img, factor, smooth, 1 - factor, 0), np.uint8)


class Fog(A.ImageOnlyTransform):  # type: ignore[misc]
    """Blends an image into bright air, the more the nearer a row is to the horizon.

    On a level road the distance goes with the inverse of the rows below the horizon, and what is
    seen through the air falls exponentially with it. The library's own fog is blots and a blur,
    and takes seconds for a large image.
    """

    def __init__(self, density_range: tuple[float, float], p: float) -> None:
        """Draw the share of air from a range: that 0.15 of the height below the horizon."""
        super().__init__(p=p)
        self.density_range = density_range

    def get_params(self) -> dict[str, float]:
        """Draw density, height of the horizon, and brightness of the air."""
        return {
            'density': self.py_random.uniform(*self.density_range),
            'horizon': self.py_random.uniform(0.35, 0.5),
            'air': self.py_random.uniform(140, 230),
        }

    def apply(self, img: Bytes, density: float, horizon: float, air: float, **_: Any) -> Bytes:
        """Return an image ``uint8 [H,W,3]`` in fog."""
        below = (np.arange(img.shape[0]) / img.shape[0] - horizon).clip(0.05)
        seen = ((1 - density) ** (0.15 / below)).astype(np.float32)[:, None, None]
        return np.rint(img * seen + np.float32(air) * (1 - seen)).astype(np.uint8)
