from __future__ import annotations

import numpy as np

from multishift_perception.classes import CITYSCAPES, NOVEL, VOID, color_table
from multishift_training.board import picture


def test_picture_shows_truth_classes_and_score() -> None:
    image = np.full((20, 30, 3), 100, np.uint8)
    truth = np.zeros((20, 30), np.uint8)
    truth[:10] = 10
    truth[5:15, 5:15] = NOVEL
    truth[:, -5:] = VOID
    labels = np.full((20, 30), 13, np.uint8)
    score = np.linspace(-3, 5, 600, dtype=np.float32).reshape(20, 30)
    found = picture(image, truth, labels, score)
    assert found.shape == (20, 90, 3)
    assert found.dtype == np.uint8
    of_truth, of_labels, of_score = np.split(found, 3, axis=1)

    def seems(pixel: np.ndarray, label: int) -> bool:
        """Whether a pixel of the grey image leans to a class's colour, by the same share."""
        color = color_table(CITYSCAPES)[label].astype(float)
        return bool(np.abs(pixel - (100 + 0.6 * (color - 100))).max() <= 2)

    assert seems(of_truth[1, 1], 10)
    assert seems(of_truth[18, 1], 0)
    assert (of_labels == of_labels[0, 0]).all()
    assert seems(of_labels[0, 0], 13)
    assert not seems(of_truth[10, 10], 0)
    assert not seems(of_truth[10, 10], 10)
    # Red where the score is high, blue where it is low.
    low, high = of_score[0, 0].astype(int), of_score[-1, -1].astype(int)
    assert low[2] > low[0] + 100
    assert high[0] > high[2] + 100


def test_score_without_spread() -> None:
    flat = np.zeros((4, 6), np.float32)
    labels = np.zeros((4, 6), np.uint8)
    found = picture(np.zeros((4, 6, 3), np.uint8), labels, labels, flat)
    assert (found[:, 12:] == found[0, 12]).all()
