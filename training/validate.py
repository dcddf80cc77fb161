"""Runs a network over validation frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics import AnomalyMetrics, SegmentationMetrics
from multishift_training.deploy import Normalize
from multishift_training.models import SegmentationModel


class Evaluated(NamedTuple):
    """A batch at input resolution.

    Attributes:
        labels: most likely class ``uint8 [B,H,W]``.
        score: uncertainty ``float32 [B,H,W]``.
        softmax: 1 - largest softmax probability ``float32 [B,H,W]``, the baseline score.
        truth: ground truth ``uint8 [B,H,W]``.
    """

    labels: NDArray[np.uint8]
    score: NDArray[np.float32]
    softmax: NDArray[np.float32]
    truth: NDArray[np.uint8]


@torch.inference_mode()
def evaluate(
    model: SegmentationModel, batches: Iterable[tuple[Tensor, Tensor]]
) -> Iterator[Evaluated]:
    """Yield the network's outputs for batches of (images, labels), both uint8."""
    normalize = Normalize()
    model.eval()
    for images, truth in batches:
        logits, score = model(normalize(images))
        size = images.shape[1:3]
        logits = F.interpolate(logits, size=size, mode='bilinear', align_corners=False)
        score = F.interpolate(score[:, None], size=size, mode='bilinear', align_corners=False)
        confidence, labels = logits.softmax(1).max(1)
        yield Evaluated(
            labels.to(torch.uint8).numpy(),
            score[:, 0].numpy(),
            (1 - confidence).numpy(),
            truth.numpy(),
        )


def metrics(
    model: SegmentationModel, batches: Iterable[tuple[Tensor, Tensor]], num_classes: int
) -> dict[str, float | None]:
    """Return mIoU, and AUROC, AP and FPR95 of the score, with the baseline's AP beside it."""
    segmentation = SegmentationMetrics(num_classes)
    anomaly, softmax = AnomalyMetrics(), AnomalyMetrics()
    for batch in evaluate(model, tqdm(batches, 'validate', unit='batch', leave=False)):
        segmentation.update(batch.labels, batch.truth)
        anomaly.update(batch.score, batch.truth)
        softmax.update(batch.softmax, batch.truth)
    found = anomaly.result()
    return {
        'miou': segmentation.result().miou,
        'ap': found.ap,
        'auroc': found.auroc,
        'fpr95': found.fpr95,
        'ap_max_softmax': softmax.result().ap,
    }


def pooled_scores(
    model: SegmentationModel, batches: Iterable[tuple[Tensor, Tensor]], *, stride: int = 3
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the scores of known and of novel pixels, every ``stride``-th row and column."""
    known: list[NDArray[np.float32]] = []
    novel: list[NDArray[np.float32]] = []
    for batch in evaluate(model, tqdm(batches, 'calibrate', unit='batch', leave=False)):
        score = batch.score[:, ::stride, ::stride]
        truth = batch.truth[:, ::stride, ::stride]
        known.append(score[(truth != NOVEL) & (truth != VOID)])
        novel.append(score[truth == NOVEL])
    return np.concatenate(known), np.concatenate(novel)
