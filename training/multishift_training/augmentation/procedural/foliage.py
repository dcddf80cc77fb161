# SPDX-License-Identifier: Apache-2.0
"""Plants: crowns of small leaves, lit from above, through whose edge the sky is seen."""

from __future__ import annotations

import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_perception.classes import VOID
from multishift_training.augmentation.procedural.labels import PLANTS, SKY, only
from multishift_training.augmentation.procedural.noise import fractal, tiled
from multishift_training.augmentation.procedural.view import Floats

# Rows of an image whose leaves are drawn pixel for pixel; larger ones show larger leaves.
_ROWS = 400
# Deviation of brightness from leaf to leaf and across a twig's bunch of them, as shares of the
# mean: on CamVid's day drives most of it is fine, and large blots are few.
_LEAF, _BUNCH = 0.3, 0.08
# What of a bunch's colour differs from the mean: leaves in the light are yellower.
_SUNNY = np.array((1.05, 1.02, 0.95), np.float32)


def paint(image: Bytes, texture: Bytes, labels: Bytes, rng: np.random.Generator) -> None:
    """Give plants leaves, in place.

    They are as large wherever they stand: a crown shows no wall that a texture could hang on.

    Args:
        image: mean colours, RGB ``uint8 [H,W,3]``.
        texture: factor of the brightness times 128, ``uint8 [H,W]``.
        labels: ``uint8 [H,W]``.
        rng: decides everything.
    """
    mask = only(labels, PLANTS)
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return
    area = np.s_[top : top + height, left : left + width]
    scale = max(1.0, labels.shape[0] / _ROWS)
    leaves = _field(fractal(rng, 512, 64, 0.9), (height, width), scale, rng)
    bunches = _field(fractal(rng, 256, 16, 0.5), (height + 6, width), scale, rng)
    above = (bunches[6:] - bunches[:-6]) / 42  # more of a bunch below: this is its upper side
    factor = np.float32(128) * (1 + np.float32(_LEAF / 42) * leaves + np.float32(_BUNCH) * above)
    cv2.copyTo(np.clip(factor, 30, 255).astype(np.uint8), mask[area], texture[area])
    sunny = np.clip(bunches[6:] / np.float32(42), -1, 1)[..., None]
    tinted = image[area] * (1 + (_SUNNY - 1) * sunny)
    cv2.copyTo(np.clip(tinted, 0, 255).astype(np.uint8), mask[area], image[area])


def _field(tile: Bytes, size: tuple[int, int], scale: float, rng: np.random.Generator) -> Floats:
    """Return a random field of mean 0, its cells ``scale`` times as large, ``float32 [*size]``."""
    small = (-(-size[0] // int(scale)), -(-size[1] // int(scale)))
    field = tiled(tile, small, rng).astype(np.float32) - np.float32(128)
    return np.asarray(cv2.resize(field, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def without_specks(labels: Bytes) -> Bytes:
    """Return labels with plants or sky where specks of void lie beside them, ``uint8 [H,W]``.

    Who labels by hand leaves the edge of a crown out, in specks of a few pixels. They are one or
    the other; painted as what has no class, they would be speckle.
    """
    void = only(labels, VOID)
    side = max(3, labels.shape[0] // 60 | 1)
    # Where void is more than specks, it is a thing that has no class.
    whole = cv2.morphologyEx(void, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    thin = (void > 0) & (np.asarray(whole) == 0)
    if not thin.any() or void.all():
        return labels
    _, nearest = cv2.distanceTransformWithLabels(
        void, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    known = np.empty(int(nearest.max()) + 1, np.uint8)
    known[nearest[void == 0]] = labels[void == 0]
    around = known[nearest]
    return np.where(thin & np.isin(around, (PLANTS, SKY)), around, labels)


def let_sky_through(lit: Floats, labels: Bytes) -> None:
    """Soften where plants end against the sky, in place: linear RGB ``float32 [H,W,3]``.

    The edge of a crown is leaves and gaps that are smaller than a pixel. With the labels' own hard
    edge, single pixels of either class would be black or white speckle. Each pixel of the two
    shows both, in the shares that they have around it.
    """
    plants, sky = only(labels, PLANTS), only(labels, SKY)
    sigma = max(0.8, labels.shape[0] / 450)
    side = 2 * round(3 * sigma) + 1
    near = (np.asarray(cv2.dilate(m, np.ones((side, side), np.uint8))) for m in (plants, sky))
    left, top, width, height = cv2.boundingRect(np.bitwise_and(*near))
    if not width:
        return
    area = np.s_[top : top + height, left : left + width]
    light = np.asarray(lit[area], np.float32)
    of_plants, leaves = _spread(light, plants[area], sigma)
    of_sky, air = _spread(light, sky[area], sigma)
    total = np.maximum(of_plants + of_sky, np.float32(1e-4))
    mixed = cv2.blendLinear(leaves, air, of_plants / total, of_sky / total)
    cv2.copyTo(mixed, plants[area] | sky[area], lit[area])


def _spread(light: Floats, mask: Bytes, sigma: float) -> tuple[Floats, Floats]:
    """Return the share of a mask around each pixel, and its light, spread beyond its edge.

    Its own pixels keep their light ``[h,w,3]``.
    """
    weight = mask.astype(np.float32)
    share = np.asarray(cv2.GaussianBlur(weight, (0, 0), sigma), np.float32)
    masked = cv2.GaussianBlur(light * weight[..., None], (0, 0), sigma)
    around = np.asarray(masked / np.maximum(share, np.float32(1e-4))[..., None], np.float32)
    cv2.copyTo(light, mask, around)
    return share, around
