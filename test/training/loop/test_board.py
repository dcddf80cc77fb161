# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from multishift_perception.classes import CITYSCAPES, NOVEL, VOID, color_table
from multishift_training.loop.board import picture, selection_picture
from multishift_training.methods.multishift import trusted_labels
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.models.input_scale import IMAGENET

COLORS = color_table(CITYSCAPES)


def test_picture_shows_truth_classes_and_score() -> None:
    image = np.full((20, 30, 3), 100, np.uint8)
    truth = np.zeros((20, 30), np.uint8)
    truth[:10] = 10
    truth[5:15, 5:15] = NOVEL
    truth[:, -5:] = VOID
    labels = np.full((20, 30), 13, np.uint8)
    score = np.linspace(-3, 5, 600, dtype=np.float32).reshape(20, 30)
    found = picture(image, truth, labels, score, COLORS)
    assert found.shape == (20, 90, 3)
    assert found.dtype == np.uint8
    of_truth, of_labels, of_score = np.split(found, 3, axis=1)

    def seems(pixel: np.ndarray, label: int) -> bool:
        """Whether a pixel of the grey image leans to a class's colour, by the same share."""
        color = COLORS[label].astype(float)
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
    found = picture(np.zeros((4, 6, 3), np.uint8), labels, labels, flat, COLORS)
    assert (found[:, 12:] == found[0, 12]).all()


class Reading(SegmentationModel):
    """Sees class 0 in what is dark and class 1 in what is bright, the surer the further apart."""

    input_scale = IMAGENET

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        bright = image[:, 0]
        logits = torch.stack([-bright, bright], 1)
        return Prediction(logits, bright, logits)


def test_trusted_are_the_labels_that_the_network_finds_easiest() -> None:
    images = np.zeros((2, 8, 10, 3), np.uint8)
    images[:, :, 5:] = 255
    labels = np.zeros((2, 8, 10), np.uint8)
    labels[:, :, 5:] = 1
    labels[0, :4] = 1 - labels[0, :4]  # wrong
    labels[1, :, 0] = VOID
    labels[1, :2, 9] = NOVEL
    known = 160 - 8 - 2
    trusted = trusted_labels(Reading(), images, labels, 110 / known)
    assert trusted.sum() == 110
    # All that is right and known, of both images together, and nothing else.
    right = labels < NOVEL
    right[0, :4] = False
    assert (trusted == right).all()


def test_selection_picture_marks_what_is_not_trusted() -> None:
    image = np.full((5, 6, 3), 100, np.uint8)
    labels = np.zeros((5, 6), np.uint8)
    labels[0], labels[1] = VOID, NOVEL
    trusted = np.zeros((5, 6), np.bool_)
    trusted[2:4] = True
    found = selection_picture(image, labels, trusted, COLORS)
    assert found.shape == (5, 18, 3) and found.dtype == np.uint8
    plain, of_labels, chosen = np.split(found, 3, axis=1)
    assert (plain == 100).all()
    assert (of_labels[3] == of_labels[3, 0]).all() and of_labels[3, 0].tolist() != [100] * 3
    assert (chosen[:2] == 30).all()
    assert (chosen[2] == 100).all()
    red = chosen[4].astype(int)
    assert (red[:, 0] > red[:, 1] + 100).all() and (red[:, 0] > red[:, 2] + 100).all()
