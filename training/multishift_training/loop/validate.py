"""Runs a network over validation frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from lightning_fabric import Fabric
import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from multishift_perception.classes import CITYSCAPES, NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_perception.metrics import AnomalyMetrics, SegmentationMetrics
from multishift_perception.progress import track
from multishift_training.datasets.groups import members
from multishift_training.datasets.loading import ValidationSet, validation_loader
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.models.input_scale import Normalize
from multishift_training.scores.mahalanobis import Mahalanobis, MahalanobisFit
from multishift_training.scores.posthoc import max_softmax


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
    device = next(model.parameters()).device
    normalize = Normalize(model.input_scale).to(device)
    model.eval()
    for images, truth in batches:
        prediction: Prediction = model(normalize(images.to(device, non_blocking=True)))
        yield Evaluated(
            prediction.logits.argmax(1).to(torch.uint8).cpu().numpy(),
            prediction.score.cpu().numpy(),
            max_softmax(prediction).cpu().numpy(),
            truth.numpy(),
        )


def validate(
    model: SegmentationModel, validation: ValidationSet, fabric: Fabric, *, workers: int
) -> dict[str, float | None]:
    """Return mIoU, and AUROC, AP and FPR95 of the score, with the baseline's AP beside it.

    Each process takes its share of the images.
    """
    segmentation = SegmentationMetrics(len(CITYSCAPES), members(validation.images.groups))
    anomaly, softmax = AnomalyMetrics(), AnomalyMetrics()
    loader = validation_loader(
        validation, workers=workers, rank=fabric.global_rank, ranks=fabric.world_size
    )
    silent = not fabric.is_global_zero
    batches = track(loader, 'validate', unit='image', leave=False, disable=silent)
    for batch in evaluate(model, batches):
        if validation.images.has_classes:
            segmentation.update(batch.labels, batch.truth)
        anomaly.update(batch.score, batch.truth)
        softmax.update(batch.softmax, batch.truth)
    for metric in (segmentation, anomaly, softmax):
        merge_processes(fabric, metric)
    found = anomaly.result()
    return {
        'miou': segmentation.result().miou,
        'ap': found.ap,
        'auroc': found.auroc,
        'fpr95': found.fpr95,
        'ap_max_softmax': softmax.result().ap,
    }


def monitored(names: str, found: Mapping[str, float | None]) -> float:
    """Return the sum of what `validate` found under names joined by ``+``.

    Raises:
        MultishiftError: the validation images have no labels to measure one of them with.
    """
    total = 0.0
    for name in names.split('+'):
        value = found[name]
        if value is None:
            raise _unmeasured(names, name)
        total += value
    return total


def check_monitor(names: str, validation: ValidationSet) -> None:
    """See, without reading images, that there can be labels to measure with what is monitored.

    Args:
        names: of metrics, joined by ``+``.
        validation: the images. That they may have novel pixels does not mean that they do:
            `monitored` finds out.

    Raises:
        MultishiftError: there can be none.
    """
    for name in names.split('+'):
        measurable = validation.images.has_classes if name == 'miou' else validation.may_have_novel
        if not measurable:
            raise _unmeasured(names, name)


def _unmeasured(names: str, name: str) -> MultishiftError:
    needed = 'known classes' if name == 'miou' else 'novel pixels'
    return MultishiftError(
        f'monitor: {names}, but the validation labels have no {needed} to measure {name} '
        'with: monitor something else, or validate on other images'
    )


def merge_processes(fabric: Fabric, metric: SegmentationMetrics | AnomalyMetrics) -> None:
    """Add to a metric what the other processes counted; all of them end with the same."""
    if fabric.world_size == 1:
        return
    states: list[bytes] = [b''] * fabric.world_size
    torch.distributed.all_gather_object(states, metric.to_bytes())
    for rank, state in enumerate(states):
        if rank != fabric.global_rank:
            metric.merge(type(metric).from_bytes(state))  # type: ignore[arg-type]


def pooled_scores(
    model: SegmentationModel, batches: Iterable[tuple[Tensor, Tensor]], *, stride: int = 3
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the scores of known and of novel pixels, every ``stride``-th row and column."""
    known: list[NDArray[np.float32]] = []
    novel: list[NDArray[np.float32]] = []
    for batch in evaluate(model, track(batches, 'calibrate', unit='batch', leave=False)):
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
    device = next(model.parameters()).device
    normalize = Normalize(model.input_scale).to(device)
    model.eval()
    fit = MahalanobisFit()
    for images, truth in track(batches, 'fit Mahalanobis', unit='batch', leave=False):
        fit.update(model(normalize(images.to(device))), truth.to(device))
    return fit.result()
