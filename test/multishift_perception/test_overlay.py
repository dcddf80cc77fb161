# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import cv2
import numpy as np
import pytest

from multishift_perception.classes import CITYSCAPES, NOVEL, NOVEL_COLOR, VOID, color_table
from multishift_perception.images.resizing import resize_labels
from multishift_perception.overlay import OUTLINE_COLOR, draw_overlay, draw_truth

COLORS = color_table(CITYSCAPES)
UNKNOWN = 100


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def draw(image, *, label=0, mask=None, alpha=0.5):
    labels = np.full(image.shape[:2], label, np.uint8)
    mask = np.zeros(image.shape[:2], np.uint8) if mask is None else mask
    return draw_overlay(image, labels, mask, COLORS, alpha)


@pytest.mark.parametrize('alpha', [0.0, 0.3, 1.0])
@pytest.mark.parametrize('label', [0, 13])
def test_class_colours_are_blended_by_alpha(image, alpha, label):
    wanted = image * (1 - alpha) + COLORS[label].astype(float) * alpha
    np.testing.assert_allclose(draw(image, label=label, alpha=alpha), wanted, atol=1)


@pytest.mark.parametrize('label', [VOID, UNKNOWN])
def test_void_and_unknown_are_left_as_they_are(image, label):
    np.testing.assert_array_equal(draw(image, label=label, alpha=1.0), image)


def test_each_pixel_has_its_own_class(image):
    labels = np.arange(image.size // 3, dtype=np.int64).reshape(image.shape[:2]) % 19
    mask = np.zeros(image.shape[:2], np.uint8)
    drawn = draw_overlay(image, labels.astype(np.uint8), mask, COLORS, 1.0)
    np.testing.assert_array_equal(drawn, COLORS[labels])


def test_anomalies_are_tinted_inside_and_outlined_outside(image):
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[10:20, 30:45] = 255
    drawn = draw(image, label=VOID, mask=mask)
    inside = mask != 0
    tinted = image[inside] * 0.4 + np.array(NOVEL_COLOR) * 0.6
    np.testing.assert_allclose(drawn[inside], tinted, atol=1)
    ring = np.zeros_like(inside)
    ring[9:21, 29:46] = True
    ring &= ~inside
    assert (drawn[ring] == OUTLINE_COLOR).all()
    np.testing.assert_array_equal(drawn[~ring & ~inside], image[~ring & ~inside])


def test_coarse_labels_are_enlarged_as_the_pipeline_does(image):
    rng = np.random.default_rng(1)
    coarse = rng.choice(np.array([0, 1, 13, VOID], np.uint8), (13, 17))
    mask = rng.choice(np.array([0, 0, 0, 255], np.uint8), image.shape[:2])
    fine = resize_labels(coarse, image.shape[:2])
    wanted = draw_overlay(image, fine, mask, COLORS, 0.5)
    np.testing.assert_array_equal(draw_overlay(image, coarse, mask, COLORS, 0.5), wanted)
    draw_overlay(image, coarse, mask, COLORS, 0.5, out=image)
    np.testing.assert_array_equal(image, wanted)


def test_colours_may_be_put_in_order_while_drawing(image):
    labels = np.random.default_rng(1).choice(np.array([0, 1, VOID], np.uint8), (13, 17))
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[3:9, 3:9] = 255
    wanted = draw_overlay(image, labels, mask, COLORS, 0.5)
    swapped = np.ascontiguousarray(image[..., ::-1])
    code = cv2.COLOR_BGR2RGB
    drawn = draw_overlay(swapped, labels, mask, COLORS, 0.5, conversion=code)
    np.testing.assert_array_equal(drawn, wanted)


@pytest.mark.parametrize('top', [55, 58, 60])
def test_regions_are_outlined_across_the_bands_that_are_drawn_at_once(top):
    image = np.zeros((130, 40, 3), np.uint8)
    mask = np.zeros((130, 40), np.uint8)
    mask[top : top + 3, 10:20] = 255
    drawn = draw(image, label=VOID, mask=mask)
    ring = np.zeros(mask.shape, bool)
    ring[top - 1 : top + 4, 9:21] = True
    np.testing.assert_array_equal((drawn == OUTLINE_COLOR).all(axis=2), ring & (mask == 0))


def test_the_frame_itself_is_not_changed(image):
    image.flags.writeable = False
    before = image.copy()
    draw(image, mask=np.full(image.shape[:2], 255, np.uint8))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize('has_classes', [True, False])
def test_truth_is_drawn_with_its_novel_objects_marked(image, has_classes):
    truth = np.zeros(image.shape[:2], np.uint8)
    truth[:, 30:] = VOID
    truth[10:20, 10:20] = NOVEL
    drawn = draw_truth(image, truth, COLORS, 0.5, has_classes=has_classes)
    labels = truth if has_classes else np.full_like(truth, VOID)
    mask = np.where(truth == NOVEL, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(drawn, draw_overlay(image, labels, mask, COLORS, 0.5))
    known = (slice(30, None), slice(0, 10))
    painted = image[known] * 0.5 + COLORS[0] * 0.5 if has_classes else image[known]
    np.testing.assert_allclose(drawn[known], painted, atol=1)
    assert tuple(drawn[9, 15]) == OUTLINE_COLOR
    np.testing.assert_array_equal(drawn[:, 40:], image[:, 40:])
