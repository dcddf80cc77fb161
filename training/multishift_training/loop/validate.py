# SPDX-License-Identifier: Apache-2.0
"""Measures a network on validation frames."""

from __future__ import annotations

from collections.abc import Mapping

from lightning_fabric import Fabric
import torch

from multishift_perception.errors import MultishiftError
from multishift_perception.metrics import AnomalyMetrics, SegmentationMetrics
from multishift_perception.progress import track
from multishift_training.datasets.groups import members
from multishift_training.datasets.loading import ValidationSet, validation_loader
from multishift_training.inference.batches import predict_batches
from multishift_training.models import SegmentationModel

# The score that needs no training, beside which the network's own is measured.
_BASELINE = 'max_softmax'


def validate(
    model: SegmentationModel, validation: ValidationSet, fabric: Fabric, *, workers: int
) -> dict[str, float | None]:
    """Return mIoU, and AUROC, AP and FPR95 of the score, with the baseline's AP beside it.

    Each process takes its share of the images.
    """
    classes = validation.images.classes
    groups = members(validation.images.groups, classes)
    segmentation = SegmentationMetrics(len(classes), groups)
    anomaly, baseline = AnomalyMetrics(), AnomalyMetrics()
    loader = validation_loader(
        validation, workers=workers, rank=fabric.global_rank, ranks=fabric.world_size
    )
    silent = not fabric.is_global_zero
    batches = track(loader, 'validate', unit='image', leave=False, disable=silent)
    for batch in predict_batches(model, batches, others=[_BASELINE]):
        if validation.images.has_classes:
            segmentation.update(batch.labels, batch.truth)
        anomaly.update(batch.score, batch.truth)
        baseline.update(batch.others[_BASELINE], batch.truth)
    for metric in (segmentation, anomaly, baseline):
        merge_processes(fabric, metric)
    found = anomaly.result()
    return {
        'miou': segmentation.result().miou,
        'ap': found.ap,
        'auroc': found.auroc,
        'fpr95': found.fpr95,
        f'ap_{_BASELINE}': baseline.result().ap,
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
