# SPDX-License-Identifier: Apache-2.0
"""Draws the best and the worst images of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from multishift_perception.classes import SemanticClass
from multishift_perception.overlay import draw_overlay, draw_truth
from multishift_perception.report.pictures import jpeg
from multishift_training.datasets.groups import Groups, label_colors
from multishift_training.evaluation.showcase import Ranked

_ALPHA = 0.5


@dataclass(frozen=True)
class Drawing:
    """An image of the report; all pictures are JPEG bytes.

    Attributes:
        name: of the image.
        condition: weather or light; empty where unknown.
        value: the figure it was chosen by, a fraction 0..1.
        image: as it is.
        truth: with its true classes and novel objects.
        overlay: with the most likely classes, and what is taken for novel.
        score: bright where the score is high.
    """

    name: str
    condition: str
    value: float
    image: bytes
    truth: bytes
    overlay: bytes
    score: bytes


def drawn(
    entries: Sequence[Ranked],
    classes: Sequence[SemanticClass],
    *,
    has_classes: bool,
    groups: Groups,
    threshold: float | None,
    score_range: tuple[float, float],
) -> tuple[Drawing, ...]:
    """Draw images for the report.

    Args:
        entries: the images.
        classes: known classes, for their colours.
        has_classes: whether known pixels are labelled with their class; if not, only novel
            objects are drawn over the ground truth.
        groups: of classes that labels stand for, drawn in the colour of their first class.
        threshold: score from which pixels are marked where there is no mask; None marks none.
        score_range: scores that are darkest and brightest.
    """
    colors = label_colors(classes, groups)
    low, high = score_range
    drawings = []
    for entry in entries:
        shown = entry.shown
        truth = draw_truth(shown.image, shown.truth, colors, _ALPHA, has_classes=has_classes)
        mask = shown.mask
        if mask is None:
            least = np.inf if threshold is None else threshold
            mask = np.where(shown.score >= least, 255, 0).astype(np.uint8)
        unit = np.clip((shown.score - low) / (high - low), 0, 1)
        heat = cv2.applyColorMap(np.rint(255 * unit).astype(np.uint8), cv2.COLORMAP_INFERNO)
        drawings.append(
            Drawing(
                shown.name,
                shown.condition,
                entry.value,
                jpeg(shown.image),
                jpeg(truth),
                jpeg(draw_overlay(shown.image, shown.labels, mask, colors, _ALPHA)),
                jpeg(np.asarray(heat[..., ::-1], np.uint8)),
            )
        )
    return tuple(drawings)
