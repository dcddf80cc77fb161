# SPDX-License-Identifier: Apache-2.0
"""What the steps of augmentation hand to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes, Mask
from multishift_perception.images.resizing import resize_labels

# Why an attempt was given up, in the words of the record.
Reason = Literal[
    'no drivable ground',
    'object is empty',
    'object covers the image',
    'object unreadable',
    'object not seen',
    'object not novel',
    'labels not kept',
]


class Rejection(Exception):
    """An attempt came to nothing; the run counts it and goes on.

    Attributes:
        reason: why.
        figures: what was measured, by name.
        origin: of the object, where it could not be drawn.
    """

    def __init__(
        self, reason: Reason, figures: Mapping[str, float] | None = None, *, origin: str = ''
    ) -> None:
        """Say why."""
        super().__init__(reason)
        self.reason: Reason = reason
        self.figures = dict(figures or {})
        self.origin = origin


class Scene(NamedTuple):
    """A labelled image that augmentation starts from.

    Attributes:
        name: unique within the data set, fit for a file name.
        image: RGB ``uint8 [H,W,3]``.
        labels: ``uint8 [H,W]``: 0..C-1, 254 novel, 255 void.
        label_ids: Cityscapes' label ids ``uint8 [H,W]``, 0..33, which tell more things apart; None
            where there are none, or nobody asks.
    """

    name: str
    image: Bytes
    labels: Bytes
    label_ids: Bytes | None = None


class NovelObject(NamedTuple):
    """An object of no known class.

    Attributes:
        name: its class in words, such as ``traffic cone``.
        origin: where it comes from: a file and what in it, or a seed.
        mask: its shape, cropped to it, ``bool [h,w]``.
        picture: its own looks, RGB ``uint8 [h,w,3]``; None where only the shape is known.
        ade_index: index in ADE20K's 150 classes, for the colour that a ControlNet knows it by;
            None where it is none of them.
    """

    name: str
    origin: str
    mask: Mask
    picture: Bytes | None
    ade_index: int | None


class Composition(NamedTuple):
    """A label map with a novel object in it.

    Attributes:
        scene: what it was made from, unchanged.
        object: the object, resized to what it measures in the image.
        labels: the scene's labels with 254 at the object, ``uint8 [H,W]``.
        mask: where the object is, ``bool [H,W]``.
    """

    scene: Scene
    object: NovelObject
    labels: Bytes
    mask: Mask


def nearest(values: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Return bytes or booleans ``[H,W]`` at ``size`` (rows, columns), none mixed with another."""
    return resize_labels(values.view(np.uint8), size).view(values.dtype)


class Generated(NamedTuple):
    """An image painted from a composition.

    Attributes:
        image: RGB ``uint8 [H,W,3]``, of the scene's size.
        prompt: what a generator that reads was told; else empty.
        domain: look of the image in words, by what they say of it (weather, time, place); words
            hold letters, digits and hyphens only, so that file names may hold them.
        painted: the image as it was painted, RGB ``uint8 [h,w,3]``; None where that is its size.
    """

    image: Bytes
    prompt: str
    domain: Mapping[str, str]
    painted: Bytes | None = None


class Generator(Protocol):
    """Paints images from label maps.

    Attributes:
        version: name, revision, and digest of weights, for the record.
        batch: compositions that are best painted together.
    """

    version: str
    batch: int

    def generate(
        self, compositions: Sequence[Composition], seeds: Sequence[np.random.SeedSequence]
    ) -> list[Generated]:
        """Paint an image for each composition; each depends on its own seed alone."""


class Segmenter(Protocol):
    """Finds the object that a box points at.

    Attributes:
        version: name, revision, and digest of weights, for the record.
        exact: whether its mask is a better label than the composition's; if not, it only judges.
    """

    version: str
    exact: bool

    def segment(self, image: Bytes, mask: Mask) -> Mask:
        """Return what is seen in the box around ``mask``, ``bool [H,W]``."""
