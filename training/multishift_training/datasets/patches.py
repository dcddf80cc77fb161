# SPDX-License-Identifier: Apache-2.0
"""Novel objects made of other training images, and crops that overlap, as DCR makes them.

DCR is of Wan et al., IEEE TCSVT. The numbers are those of its released data pipeline; sizes are in
pixels of Cityscapes, so that data of other sizes want others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes, Mask
from multishift_perception.classes import NOVEL, VOID
from multishift_training.datasets.images import LabelledImage
from multishift_training.datasets.transforms import changed

_ROAD = 0
_GREY = 128
_LARGEST_SHARE = 0.5  # of a patch that one class may cover, and of its pixels that look alike
_CUTS, _PLACES = 100, 10  # tries
_HULL_POINTS = 10
_SAME_PATCH = 0.1  # chance that both crops' overlaps get one patch
_CROP_PAIRS = 10_000  # that are drawn at most


class Patch(NamedTuple):
    """A piece of an image, to be pasted into another.

    Attributes:
        image: RGB ``uint8 [S,S,3]``.
        labels: ``uint8 [S,S]``, of what it was cut from.
    """

    image: Bytes
    labels: Bytes


class Box(NamedTuple):
    """Rows ``top..bottom-1`` and columns ``left..right-1``."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def region(self) -> tuple[slice, slice]:
        """What it covers of an array ``[H,W,...]``."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def shared_with(self, other: Box) -> Box:
        """Return the part that lies in another box too, counted from this one's corner."""
        return Box(
            max(self.top, other.top) - self.top,
            max(self.left, other.left) - self.left,
            min(self.bottom, other.bottom) - self.top,
            min(self.right, other.right) - self.left,
        )

    def mirrored(self, columns: int) -> Box:
        """Return it in an image of so many columns that is flipped left to right."""
        return Box(self.top, columns - self.right, self.bottom, columns - self.left)


@dataclass(frozen=True)
class PatchRecipe:
    """How patches are cut and pasted.

    Attributes:
        sides: smallest and largest side of the square that is cut.
        zoom: smallest and largest factor by which a donor is enlarged first.
        on_road: chance that a patch begins on the road.
    """

    sides: tuple[int, int] = (32, 256)
    zoom: tuple[float, float] = (1.5, 1.75)
    on_road: float = 0.7


def cut_patch(donor: LabelledImage, recipe: PatchRecipe, rng: np.random.Generator) -> Patch:
    """Cut a patch of several classes out of a donor.

    The donor is enlarged, flipped by chance 0.5, turned by any angle by chance 0.5; colours are
    changed strongly, those of the patch alone. It begins off the road, and no class covers more
    than half of it; after 100 tries it is the donor's corner.
    """
    image, labels = donor
    height, width = labels.shape
    scale = rng.uniform(*recipe.zoom)
    size = round(width * scale), round(height * scale)
    matrix = _turned(size, rng) @ _zoomed(scale, (width, height), flip=rng.random() < 0.5)
    seen = _warped(labels, matrix, size, cv2.INTER_NEAREST, VOID)
    low, high = recipe.sides
    side = min(int(rng.integers(low, high + 1)), *size)
    top, left = _start(seen, side, rng)
    shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], np.float64)
    piece = _warped(image, shift @ matrix, (side, side), cv2.INTER_LINEAR, 0)
    colored = np.asarray(changed(_PATCH_COLORS, rng, image=piece)['image'], np.uint8)
    return Patch(colored, seen[top : top + side, left : left + side])


def _zoomed(scale: float, size: tuple[int, int], *, flip: bool) -> NDArray[np.float64]:
    # About the pixels' corners, which lie half a pixel off their centres.
    x, shift = (-scale, scale * (size[0] - 0.5) - 0.5) if flip else (scale, scale / 2 - 0.5)
    return np.array([[x, 0, shift], [0, scale, scale / 2 - 0.5], [0, 0, 1]], np.float64)


def _turned(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    if rng.random() >= 0.5:
        return np.eye(3)
    center = (size[0] - 1) / 2, (size[1] - 1) / 2
    turned = cv2.getRotationMatrix2D(center, rng.uniform(-180, 180), 1)
    return np.vstack([turned, [0, 0, 1]])


def _warped(
    array: Bytes, matrix: NDArray[np.float64], size: tuple[int, int], how: int, fill: int
) -> Bytes:
    border = (fill,) * 3
    return np.asarray(
        cv2.warpAffine(array, matrix[:2], size, flags=how, borderValue=border), np.uint8
    )


def _start(labels: Bytes, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return where a patch begins."""
    rows, columns = labels.shape[0] - side + 1, labels.shape[1] - side + 1
    inside = labels[:rows, :columns]
    places = np.flatnonzero((inside != _ROAD) & (inside != VOID))
    for place in rng.choice(places, _CUTS) if len(places) else ():
        top, left = divmod(int(place), columns)
        piece = labels[top : top + side, left : left + side]
        if np.bincount(piece.ravel()).max() <= _LARGEST_SHARE * piece.size:
            return top, left
    return 0, 0


def draw_shape(side: int, rng: np.random.Generator) -> Mask:
    """Draw the shape of a patch, ``bool [side,side]``.

    By chance 0.7 it is the convex hull of 10 points; else an ellipse, a circle, or all of it.
    """
    mask = np.zeros((side, side), np.uint8)
    if rng.random() < 0.7:
        points = rng.integers(0, side, (_HULL_POINTS, 1, 2)).astype(np.int32)
        cv2.fillConvexPoly(mask, cv2.convexHull(points), 1)
        return mask.astype(bool)
    chance, radius = rng.random(), max(side // 2, 1)
    if chance >= 0.66:
        mask[:] = 1
        return mask.astype(bool)
    axes = [radius, radius]
    if chance < 0.3:
        axes[int(rng.integers(2))] = max(round(radius * rng.uniform(0.3, 1)), 1)
    cv2.ellipse(mask, (side // 2, side // 2), axes, 0, 0, 360, 1, -1)
    return mask.astype(bool)


def paste_patch(
    image: Bytes, labels: Bytes, patch: Patch, recipe: PatchRecipe, rng: np.random.Generator
) -> None:
    """Paste a patch into an image, in place; its pixels are labelled 254.

    By chance `PatchRecipe.on_road` it begins on the road. Where more than half of its pixels would
    cover their own class, another place is drawn, 10 at most. What lies outside is cut off.
    """
    shape = draw_shape(len(patch.labels), rng)
    road = np.flatnonzero(labels == _ROAD) if rng.random() < recipe.on_road else ()
    for _ in range(_PLACES):
        place = int(rng.choice(road)) if len(road) else int(rng.integers(labels.size))
        top, left = divmod(place, labels.shape[1])
        covered = labels[top : top + len(shape), left : left + len(shape)]
        inside = np.s_[: covered.shape[0], : covered.shape[1]]
        mask = shape[inside]
        alike = (covered == patch.labels[inside]) & mask
        if alike.sum() <= _LARGEST_SHARE * mask.sum():
            break
    opacity = rng.uniform(0.9, 1)
    region = np.s_[top : top + mask.shape[0], left : left + mask.shape[1]]
    blend(image[region], labels[region], patch.image[inside], mask, opacity)


def blend(image: Bytes, labels: Bytes, piece: Bytes, mask: Mask, opacity: float) -> None:
    """Put a piece over an image of its size, in place, where the mask says so."""
    mixed = opacity * piece[mask].astype(np.float32) + (1 - opacity) * image[mask]
    image[mask] = np.rint(mixed).astype(np.uint8)
    labels[mask] = NOVEL


class Crops(NamedTuple):
    """Two crops of an image that share a part.

    Attributes:
        images: RGB ``uint8 [2,h,w,3]``.
        labels: ``uint8 [2,h,w]``.
        overlaps: the part that they share, in each crop.
        flips: whether each is mirrored, left to right.
    """

    images: Bytes
    labels: Bytes
    overlaps: tuple[Box, Box]
    flips: tuple[bool, bool]


def overlapping_crops(
    image: Bytes,
    labels: Bytes,
    donors: Sequence[LabelledImage],
    *,
    size: tuple[int, int],
    stride: int,
    union: tuple[float, float],
    recipe: PatchRecipe,
    rng: np.random.Generator,
) -> Crops:
    """Return two overlapping crops, which look differently.

    Into the part that they share, the same shape is pasted at the same place, of another donor in
    each. Each is mirrored by chance 0.5; colours of the first change strongly, of the second
    slightly; outside the shared part, blocks of 64x64 are grey by chance 0.4, and void.

    Args:
        image: RGB ``uint8 [H,W,3]``.
        labels: ``uint8 [H,W]``.
        donors: what is pasted is cut from; if none, nothing is.
        size: rows and columns of a crop, multiples of ``stride`` and at most the image's.
        stride: of the crops' places.
        union: range of the share that the overlap has of what the crops cover together, of which
            the first pair of 10 000 is taken; if there is none, the pair of the smallest share.
        recipe: of patches.
        rng: decides everything.
    """
    (rows, columns), (height, width) = labels.shape, size
    tops, lefts = (
        rng.integers(0, (whole - part) // stride + 1, (_CROP_PAIRS, 2)) * stride
        for whole, part in ((rows, height), (columns, width))
    )
    shared = _shared(tops, height) * _shared(lefts, width)
    share = shared / (2 * height * width - shared)
    fits = (share > union[0]) & (share < union[1])
    chosen = int(fits.argmax() if fits.any() else np.where(shared > 0, share, 2).argmin())
    corners = [
        (int(top), int(left)) for top, left in zip(tops[chosen], lefts[chosen], strict=True)
    ]
    crops = [Box(top, left, top + height, left + width) for top, left in corners]
    images = np.stack([image[crop.region] for crop in crops])
    truths = np.stack([labels[crop.region] for crop in crops])
    boxes = [crop.shared_with(other) for crop, other in (crops, crops[::-1])]
    if donors:
        _paste_into_both(images, truths, boxes, donors, recipe, rng)
    flips = (bool(rng.random() < 0.5), bool(rng.random() < 0.5))
    for i, changes in enumerate((_STRONG, _WEAK)):
        if flips[i]:
            images[i], truths[i] = images[i, :, ::-1].copy(), truths[i, :, ::-1].copy()
            boxes[i] = boxes[i].mirrored(width)
        images[i] = changed(changes, rng, image=images[i])['image']
        _hide_blocks(images[i], truths[i], boxes[i], rng)
    return Crops(images, truths, (boxes[0], boxes[1]), flips)


def _shared(starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    return (length - abs(starts[:, 0] - starts[:, 1])).clip(0)


def _paste_into_both(
    images: Bytes,
    labels: Bytes,
    boxes: Sequence[Box],
    donors: Sequence[LabelledImage],
    recipe: PatchRecipe,
    rng: np.random.Generator,
) -> None:
    """Paste one shape into the shared part of both crops, of another patch in each."""
    patches = [cut_patch(donors[int(i)], recipe, rng) for i in rng.integers(len(donors), size=2)]
    if rng.random() < _SAME_PATCH:
        patches[1] = patches[0]
    rows, columns = boxes[0].bottom - boxes[0].top, boxes[0].right - boxes[0].left
    side = min(*(len(patch.labels) for patch in patches), rows, columns)
    shape = draw_shape(side, rng)
    top = int(rng.integers(rows - side + 1))
    left = int(rng.integers(columns - side + 1))
    for image, truth, box, patch in zip(images, labels, boxes, patches, strict=True):
        y, x = box.top + top, box.left + left
        region = np.s_[y : y + side, x : x + side]
        piece = patch.image[:side, :side]
        blend(image[region], truth[region], piece, shape, rng.uniform(0.9, 1))


def _hide_blocks(image: Bytes, labels: Bytes, overlap: Box, rng: np.random.Generator) -> None:
    """Make blocks outside the overlap grey and void, in place."""
    rows, columns = labels.shape
    block = 64
    chosen = rng.random((-(-rows // block), -(-columns // block))) < 0.4
    hidden = chosen.repeat(block, 0).repeat(block, 1)[:rows, :columns]
    hidden[overlap.region] = False
    image[hidden] = _GREY
    labels[hidden] = VOID


_PATCH_COLORS = A.Compose([A.ColorJitter(0.5, 0.5, 0.5, 0.2, p=1.0)])
_STRONG = A.Compose(
    [
        A.GaussianBlur((3, 7), (0.8, 1.4), p=0.5),
        A.ColorJitter(0.5, 0.5, 0.5, 0.2, p=0.8),
        A.ToGray(p=0.2),
    ]
)
_WEAK = A.Compose([A.ColorJitter(0.2, 0.2, 0.2, 0.05, p=0.8)])
