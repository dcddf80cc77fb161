"""Runs a network over validation frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from tqdm import tqdm

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics import AnomalyMetrics, SegmentationMetrics
from multishift_training.deploy import Normalize
from multishift_training.mahalanobis import Mahalanobis, MahalanobisFit
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.scores import max_softmax


class Evaluated(NamedTuple):
    """A batch at input resolution.

    Attributes:
        labels: most likely class ``uint8 [B,H,W]``.
        score: uncertainty ``float32 [B,H,W]``.
        softmax: maximum softmax score ``float32 [B,H,W]``, the baseline.
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
        prediction: Prediction = model(normalize(images))
        yield Evaluated(
            prediction.logits.argmax(1).to(torch.uint8).numpy(),
            prediction.score.numpy(),
            max_softmax(prediction).numpy(),
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


@torch.no_grad()  # and not inference mode, whose tensors no later gradient may meet
def fit_mahalanobis(
    model: SegmentationModel, batches: Iterable[tuple[Tensor, Tensor]]
) -> Mahalanobis:
    """Return the Mahalanobis score fitted on labelled batches of (images, labels), both uint8.

    Raises:
        MultishiftError: no pixel of a known class was seen.
    """
    normalize = Normalize()
    model.eval()
    fit = MahalanobisFit()
    for images, truth in tqdm(batches, 'fit Mahalanobis', unit='batch', leave=False):
        fit.update(model(normalize(images)), truth)
    return fit.result()
