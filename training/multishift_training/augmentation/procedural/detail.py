# SPDX-License-Identifier: Apache-2.0
"""The scene's own picture, recoloured: the fine structure that a sample keeps."""

from __future__ import annotations

import cv2
import numpy as np

from multishift_perception.arrays import Bytes, Mask
from multishift_training.augmentation.procedural.labels import PLANTS, SKY, only, present
from multishift_training.augmentation.procedural.view import Floats

_COARSE = 4
# How much brighter the sky must be than leaves, to tell it from them; and where between the two
# a pixel is partly sky.
_SKY_SHOWS, _GAP = 1.5, 0.3
_FIXED = 50  # of a gain of 1


def recolored(scene: Bytes, labels: Bytes, colors: Bytes, keep: Floats) -> Bytes:
    """Return the scene with the mean colours of its segments moved to others.

    In each class, pixels are scaled by the ratio of the wanted to the local mean colour; what
    distinguishes a pixel from its surroundings of the same class stays.

    Args:
        scene: RGB ``uint8 [H,W,3]``.
        labels: ``uint8 [H,W]``.
        colors: wanted mean colour of every label value, RGB ``uint8 [256,3]``.
        keep: share of its own colour that each label value keeps, ``float32 [256]``.
    """
    scene = _without_gaps(scene, labels)
    small, coarse = scene[::_COARSE, ::_COARSE], labels[::_COARSE, ::_COARSE]
    result = scene.copy()
    for label in present(labels):
        mask = only(labels, label)
        left, top, width, height = cv2.boundingRect(mask)
        area = np.s_[top : top + height, left : left + width]
        gain = _gain(small, coarse == label, colors[label], float(keep[label]))
        whole = cv2.resize(gain, labels.shape[::-1], interpolation=cv2.INTER_LINEAR)
        scaled = cv2.multiply(scene[area], whole[area], scale=1 / _FIXED)
        cv2.copyTo(scaled, mask[area], result[area])
    return result


def _without_gaps(scene: Bytes, labels: Bytes) -> Bytes:
    """Return the scene with leaves where its own sky shines through what is labelled plants.

    Those pixels have the light of the old sky: before a new one they would be bright speckle.
    """
    grey = np.asarray(cv2.cvtColor(scene, cv2.COLOR_RGB2GRAY), np.uint8)
    small, coarse = scene[::_COARSE, ::_COARSE], labels[::_COARSE, ::_COARSE]
    light = grey[::_COARSE, ::_COARSE]
    plants, sky = coarse == PLANTS, coarse == SKY
    if not (plants.any() and sky.any()):
        return scene
    dark, bright = float(np.percentile(light[plants], 25)), float(np.median(light[sky]))
    if bright < _SKY_SHOWS * dark:
        return scene
    least = dark + _GAP * (bright - dark)
    gaps = (labels == PLANTS) & (grey > least)
    inside = plants & (light <= least)
    local = _local_mean(small, inside, max(1.0, small.shape[0] / 24))
    result = scene.copy()
    whole = cv2.resize(local, labels.shape[::-1], interpolation=cv2.INTER_LINEAR)
    result[gaps] = np.clip(whole[gaps], 0, 255).astype(np.uint8)
    return result


def _local_mean(small: Bytes, inside: Mask, sigma: float) -> Floats:
    """Return the mean colour around each coarse pixel of what is ``inside``."""
    weight = inside.astype(np.float32)
    mean = small[inside].mean(axis=0) if inside.any() else np.full(3, 128.0)
    # A pull to the mean of the class decides where none of it is near.
    weight += np.float32(1e-4)
    masked = small * inside[..., None] + mean.astype(np.float32) * np.float32(1e-4)
    local = _smooth(masked.astype(np.float32), sigma) / _smooth(weight, sigma)[..., None]
    return np.asarray(local, np.float32)


def _gain(small: Bytes, inside: Mask, color: Bytes, keep: float) -> Bytes:
    """Return the gain of a class around each coarse pixel, times ``_FIXED``."""
    local = _local_mean(small, inside, max(1.0, small.shape[0] / 12))
    ratio = color / np.maximum(local, 8)
    gain = keep + (1 - keep) * ratio
    return np.asarray(np.clip(gain * _FIXED, 0, 255), np.uint8)


def _smooth(field: Floats, sigma: float) -> Floats:
    """Blur by three box filters, whose time does not depend on the width."""
    side = max(1, round(sigma * 2)) | 1
    for _ in range(3):
        field = np.asarray(cv2.blur(field, (side, side)), np.float32)
    return field
