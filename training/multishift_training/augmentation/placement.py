# SPDX-License-Identifier: Apache-2.0
"""Where a novel object stands in an image, and how large it is there."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Mask
from multishift_perception.classes import NOVEL, TrainId
from multishift_training.augmentation.config import PerspectivePlacement, Placement
from multishift_training.augmentation.parts import Composition, NovelObject, Rejection, Scene

# Share of an image above which an object leaves too little of the scene.
_LARGEST = 0.5
# Share of an object that must lie inside the image, and how often a place is drawn for it.
_VISIBLE = 0.5
_DRAWS = 10
# How wide an object may be, in multiples of the largest height.
_WIDEST = 2.0

# The road is last seen a little below the horizon: 0.01 to 0.03 of the image's height lie between
# in nine of ten frames of the sample drive. Where traffic hides its end, the horizon is still no
# lower than the middle, as cameras on vehicles look.
_ROAD_END = 0.02
_HORIZON = (0.25, 0.5)
# Share of a row's pixels from which it shows road: fewer are stray labels.
_ROAD_ROW = 0.01

# Of the published rule, in pixels of an image with 1024 rows.
_PUBLISHED_ROWS = 1024
_PUBLISHED_SIDE = (200, 500)
_PUBLISHED_MARGINS = range(150, 0, -10)


def place(
    config: Placement, scene: Scene, novel: NovelObject, rng: np.random.Generator
) -> Composition:
    """Put an object into a label map.

    Its pixels are labelled 254, whatever they were before, void included. What leaves the image
    is cut off the object too, so that its mask is the composition's within its bounding box.

    Args:
        config: the rule.
        scene: whose road (label 0) the object stands on.
        novel: the object, at any size.
        rng: decides everything.

    Raises:
        Rejection: there is no road to stand on, or the object is empty or covers the image.
    """
    if not novel.mask.any():
        raise Rejection('object is empty')
    if isinstance(config, PerspectivePlacement):
        return _standing(config, scene, novel, rng)
    return _published(scene, novel, rng)


def horizon_row(ground: Mask) -> float:
    """Estimate the row of the horizon from where the road ends, ``bool [H,W]``.

    The road's first row with more than stray pixels lies 2 % of the image's height below it; the
    estimate is kept between a quarter and half of the height. Measured on 40 random frames of the
    sample drive: half of the errors are below 1 % of the height, 90 % below 6 %.
    """
    rows, columns = ground.shape
    shown = np.flatnonzero(ground.sum(1) >= max(1, _ROAD_ROW * columns))
    end = shown[0] if len(shown) else rows
    return float(np.clip(end - _ROAD_END * rows, _HORIZON[0] * rows, _HORIZON[1] * rows))


def _standing(
    config: PerspectivePlacement, scene: Scene, novel: NovelObject, rng: np.random.Generator
) -> Composition:
    """Stand the object on the road, as high as it would be there.

    On level ground, what stands ``d`` rows below the horizon and is as high as the camera is ``d``
    rows high. Rows are drawn with equal chance, which on a straight road makes near and far
    objects equally likely at any scale.
    """
    ground = scene.labels == TrainId.ROAD
    rows = np.flatnonzero(ground.any(1))
    least, most = _heights(config, rows, horizon_row(ground), ground.shape, novel.mask.shape)
    near = np.flatnonzero(least <= most)
    if not len(near):
        raise Rejection('no drivable ground')
    for _ in range(_DRAWS):
        at = near[rng.integers(len(near))]
        column = rng.choice(np.flatnonzero(ground[rows[at]]))
        height = np.exp(rng.uniform(np.log(least[at]), np.log(most[at])))
        resized = _resized(novel, float(height) / novel.mask.shape[0])
        # The middle of what touches the ground is what stands there.
        foot = int(np.median(np.flatnonzero(resized.mask[-1])))
        top, left = int(rows[at]) - resized.mask.shape[0] + 1, int(column) - foot
        inside = _inside(ground.shape, top, left)
        if resized.mask[inside].sum() >= _VISIBLE * resized.mask.sum():
            return _composed(scene, resized, top, left)
    raise Rejection('object covers the image')


def _heights(
    config: PerspectivePlacement,
    rows: NDArray[np.intp],
    horizon: float,
    size: tuple[int, ...],
    shape: tuple[int, ...],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the least and largest height in pixels of an object that stands on each row.

    Args:
        config: the range in metres.
        rows: where it stands.
        horizon: row of the horizon.
        size: rows and columns of the image.
        shape: rows and columns of the object's mask.
    """
    pixels_per_metre = (rows - horizon) / config.camera_height
    slender = min(1.0, _WIDEST * shape[0] / shape[1])
    # Twice of what there is room for: half of it would be seen.
    room = np.minimum(2.0 * (rows + 1), 2.0 * size[1] * shape[0] / shape[1])
    most = np.minimum(config.height[1] * slender * pixels_per_metre, room)
    seen = max(1.0, config.min_height * size[0])
    least = np.maximum(np.minimum(config.height[0] * pixels_per_metre, most), seen)
    return least, most


def _published(scene: Scene, novel: NovelObject, rng: np.random.Generator) -> Composition:
    """Centre the object on the road, away from the image's borders (MultiShiftSeg, CG-Aug)."""
    ground = scene.labels == TrainId.ROAD
    scale = ground.shape[0] / _PUBLISHED_ROWS
    row, column = _inner_pixel(ground, scale, rng)
    side = max(novel.mask.shape)
    resized = _resized(novel, float(np.clip(side, *_PUBLISHED_SIDE)) * scale / side)
    height, width = resized.mask.shape
    top, left = max(0, row - height // 2), max(0, column - width // 2)
    return _composed(scene, resized, top, left)


def _inner_pixel(ground: Mask, scale: float, rng: np.random.Generator) -> tuple[int, int]:
    """Draw a pixel of the ground, as far from the borders as the published rule can have it."""
    for margin in _PUBLISHED_MARGINS:
        edge = round(margin * scale)
        inner = ground[edge : ground.shape[0] - edge, edge : ground.shape[1] - edge]
        pixels = np.flatnonzero(inner)
        if len(pixels):
            row, column = divmod(int(rng.choice(pixels)), inner.shape[1])
            return row + edge, column + edge
    raise Rejection('no drivable ground')


def _resized(novel: NovelObject, scale: float) -> NovelObject:
    """Resize an object; its mask keeps hard edges, and its colours take none of its ground's."""
    rows, columns = (max(1, round(side * scale)) for side in novel.mask.shape)
    mask = novel.mask.astype(np.uint8)
    small = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_NEAREST_EXACT)
    picture = novel.picture
    if picture is not None:
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        own = (picture * mask[..., None]).astype(np.float32)
        weight = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=how)
        color = cv2.resize(own, (columns, rows), interpolation=how)
        undiluted = color / np.maximum(weight, 1 / 255)[..., None]
        picture = np.rint(np.minimum(undiluted, 255)).astype(np.uint8)
    return _cut(novel._replace(mask=small > 0, picture=picture))


def _cut(novel: NovelObject) -> NovelObject:
    """Cut an object to its mask's bounding box."""
    x, y, width, height = cv2.boundingRect(novel.mask.astype(np.uint8))
    if not width:
        raise Rejection('object is empty')
    box = np.s_[y : y + height, x : x + width]
    picture = None if novel.picture is None else novel.picture[box]
    return novel._replace(mask=novel.mask[box], picture=picture)


def _inside(size: tuple[int, ...], top: int, left: int) -> tuple[slice, slice]:
    """Return what part of an object lies in an image of ``size``."""
    rows, columns = size
    return (
        slice(max(0, -top), max(0, rows - top)),
        slice(max(0, -left), max(0, columns - left)),
    )


def _composed(scene: Scene, novel: NovelObject, top: int, left: int) -> Composition:
    """Label what of an object lies inside the image; the rest is cut off."""
    inside = _inside(scene.labels.shape, top, left)
    shown = novel.mask[inside]
    picture = None if novel.picture is None else novel.picture[inside]
    mask = np.zeros(scene.labels.shape, bool)
    top, left = max(0, top), max(0, left)
    mask[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
    if mask.sum() > _LARGEST * mask.size:
        raise Rejection('object covers the image', {'share': float(mask.mean())})
    labels = np.where(mask, np.uint8(NOVEL), scene.labels)
    return Composition(scene, _cut(novel._replace(mask=shown, picture=picture)), labels, mask)
