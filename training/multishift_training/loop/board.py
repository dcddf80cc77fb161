# SPDX-License-Identifier: Apache-2.0
"""What a training run shows in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
import torch
from torch.utils.data import DataLoader, Subset
from torch.utils.tensorboard import SummaryWriter

from multishift_perception.arrays import Bytes
from multishift_perception.classes import NOVEL
from multishift_perception.overlay import draw_overlay, draw_truth
from multishift_training.datasets import Samples
from multishift_training.datasets.groups import label_colors, membership
from multishift_training.datasets.loading import TrainingSet, ValidationSet
from multishift_training.inference.batches import predict_batches
from multishift_training.methods import Method
from multishift_training.models import SegmentationModel

_SAMPLES = 4
_ALPHA = 0.6
_DISTRUSTED = (255, 40, 40)
_TINT = 0.7


class Board:
    """Curves of losses and metrics, and a few images with what is made of them."""

    def __init__(self, folder: Path, validation: ValidationSet, epoch: int) -> None:
        """Write into the run's folder, from ``epoch`` on: what was there of it no longer shows."""
        self._writer = SummaryWriter(str(folder), purge_step=epoch)
        chosen = np.linspace(0, len(validation) - 1, min(_SAMPLES, len(validation)))
        self._samples = Subset(validation, sorted({int(i) for i in chosen}))
        self._colors = label_colors(validation.images.classes, validation.images.groups)

    def add(
        self, epoch: int, values: Mapping[str, float | None], model: SegmentationModel
    ) -> None:
        """Add an epoch."""
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, epoch)
        for i, batch in enumerate(predict_batches(model, DataLoader(self._samples))):
            image = self._samples[i][0].numpy()
            panels = picture(image, batch.truth[0], batch.labels[0], batch.score[0], self._colors)
            self._writer.add_image(f'validation/{i}', panels, epoch, dataformats='HWC')
        self._writer.flush()

    def add_selection(
        self, epoch: int, method: Method, samples: Samples, model: SegmentationModel
    ) -> None:
        """Add whose labels a method trusts in a few samples, the same in each epoch.

        Nothing is added, and no sample read, for a method that has nothing to show of it.
        """
        seen = TrainingSet(samples, 0, method.views, method.others)
        chosen = np.linspace(0, len(samples) - 1, min(_SAMPLES, len(samples)))
        classes = samples.classes
        groups = torch.from_numpy(membership(samples.groups, classes)) if samples.groups else None
        chosen_samples = (seen[i] for i in sorted({int(i) for i in chosen}))
        found = method.selection(model, chosen_samples, groups)
        if found is None:
            return
        colors = label_colors(classes, samples.groups)
        for i, shown in enumerate(zip(*found, strict=True)):
            panels = selection_picture(*shown, colors)
            self._writer.add_image(f'trusted/{i}', panels, epoch, dataformats='HWC')
        self._writer.flush()


def selection_picture(
    image: Bytes, labels: Bytes, trusted: NDArray[np.bool_], colors: Bytes
) -> Bytes:
    """Return an augmented image, its labels, and whose of them are trusted, side by side.

    In the third panel labels that are not trusted are red, and what has no known class is dark.

    Args:
        image: RGB ``uint8 [H,W,3]``.
        labels: ``uint8 [H,W]``.
        trusted: ``bool [H,W]``.
        colors: of label values, ``uint8 [256,3]``.

    Returns:
        RGB ``uint8 [H,3W,3]``.
    """
    known = labels < NOVEL
    panel = image.astype(np.float32)
    red = known & ~trusted
    panel[red] += _TINT * (np.array(_DISTRUSTED, np.float32) - panel[red])
    panel[~known] *= 1 - _TINT
    of_labels = draw_truth(image, labels, colors, _ALPHA)
    return np.concatenate([image, of_labels, np.rint(panel).astype(np.uint8)], axis=1)


def picture(
    image: Bytes, truth: Bytes, labels: Bytes, score: NDArray[np.float32], colors: Bytes
) -> Bytes:
    """Return truth, classes and score of an image side by side, RGB ``uint8 [H,3W,3]``.

    The score goes from blue, its lowest percentile in the image, to red, its highest.

    Args:
        image: RGB ``uint8 [H,W,3]``.
        truth: ground truth ``uint8 [H,W]``.
        labels: most likely class ``uint8 [H,W]``.
        score: ``float32 [H,W]``.
        colors: of label values, ``uint8 [256,3]``.
    """
    low, high = np.percentile(score, (1, 99))
    heat = np.clip((score - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    panels: list[Bytes] = [
        draw_truth(image, truth, colors, _ALPHA),
        draw_overlay(image, labels, np.zeros_like(labels), colors, _ALPHA),
        np.asarray(cv2.applyColorMap(heat, cv2.COLORMAP_JET), np.uint8)[..., ::-1],
    ]
    return np.concatenate(panels, axis=1)
