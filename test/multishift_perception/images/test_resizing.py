# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import cv2
import numpy as np
import pytest

from multishift_perception.images.resizing import fit, resize_labels


@pytest.mark.parametrize(
    ('size', 'wanted', 'far'),
    [
        ((1080, 1920), (288, 512), 2.5),
        ((720, 1280), (288, 512), 3.0),
        ((361, 641), (72, 128), 0.0),  # odd sides are not halved
        ((640, 640), (72, 512), 0.0),  # one side shrinks far more than the other
    ],
)
def test_a_shrunken_frame_is_near_that_of_exact_areas(
    size: tuple[int, int], wanted: tuple[int, int], far: float
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.float32)
    low, high = blurred.min(), blurred.max()
    image = ((blurred - low) * 255 / (high - low)).astype(np.uint8)
    areas = cv2.resize(image, wanted[::-1], interpolation=cv2.INTER_AREA)
    off = fit(image, wanted).astype(float) - areas
    assert np.sqrt((off**2).mean()) <= far


def test_thin_objects_stay_when_a_frame_shrinks():
    """Interpolation alone would skip three of four columns."""
    image = np.zeros((288 * 4, 512 * 4, 3), np.uint8)
    image[:, 8::16] = 255
    assert fit(image, (288, 512)).mean() == pytest.approx(image.mean(), rel=0.05)


def test_an_exact_size_is_given_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    assert fit(image, (8, 6)) is image
    out = np.empty_like(image)
    assert fit(image, (8, 6), out=out) is out
    np.testing.assert_array_equal(out, image)
    halved = fit(image, (4, 3), out=np.empty((4, 3, 3), np.uint8))
    means = image.reshape(4, 2, 3, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(halved, means, atol=0.5)


@pytest.mark.parametrize('size', [(7, 5), (40, 3), (2, 60), (13, 29)])
def test_labels_are_enlarged_as_opencv_does(size):
    labels = np.random.default_rng(0).integers(0, 256, (7, 5), np.uint8)
    wanted = cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    np.testing.assert_array_equal(resize_labels(labels, size), wanted)
    out = np.empty(size, np.uint8)
    assert resize_labels(labels, size, out=out) is out
    np.testing.assert_array_equal(out, wanted)
