# SPDX-License-Identifier: Apache-2.0
"""Measures what an experiment trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from multishift_training.checkpoints.trained import Checkpoint, open_trained
from multishift_training.comparison.config import Test
from multishift_training.comparison.folder import Figures
from multishift_training.datasets import (
    TrainingData,
    ValidationData,
    open_validation,
    validation_loader,
)
from multishift_training.evaluation.evaluate import evaluate
from multishift_training.evaluation.tally import Row
from multishift_training.inference.fitting import fit_scores
from multishift_training.inference.runners import NetworkRunner
from multishift_training.scores.fitted import FittedScore

_FITTED = 'fitted'


def measure(
    weights: Path,
    tests: Mapping[str, Test],
    scores: Sequence[str],
    *,
    data: TrainingData,
    root: Path,
    cache: Path,
) -> Iterator[tuple[str, Figures]]:
    """Yield the figures of each test by its name, as soon as they are taken.

    Scores that are fitted see the run's training images first, whole, at its engine's size; what
    they keep of them stays in the run's cache, so that all tests are measured with the same.

    Args:
        weights: of `multishift train`.
        tests: by name.
        scores: names; all are taken in one pass.
        data: what the run learned from.
        root: folder that relative data paths start from.
        cache: of rendered frames.

    Raises:
        MultishiftError: weights or tests are at fault.
    """
    trained = open_trained(weights, root=root)
    model, origin = trained
    fitted = fit_to_training(trained, weights, scores, data, root=root)
    for name, test in tests.items():
        size = test.size or origin.run.engine_size
        runner = NetworkRunner(model, scores, size=size, fitted=fitted, classes=origin.classes)
        opened = open_validation(test, root=root, cache=cache)
        [result] = evaluate({name: opened}, runner)
        figures: Figures = {score: {} for score in scores}
        for row in result.rows:
            figures[row.score][row.condition] = _figures(row)
        yield name, figures


def fit_to_training(
    trained: Checkpoint, weights: Path, scores: Sequence[str], data: TrainingData, *, root: Path
) -> dict[str, FittedScore]:
    """Fit those of some scores that are fitted on a run's training images, kept in its cache.

    Args:
        trained: what the run left.
        weights: the file that it was read from.
        scores: names.
        data: what the run learned from.
        root: folder that relative data paths start from.
    """
    own, size = weights.parent / 'cache', trained.origin.run.engine_size
    images = (  # opened only where a score is fitted
        open_validation(part, root=root, cache=own, size=size) for part in training_images(data)
    )
    batches = chain.from_iterable(map(validation_loader, images))
    return fit_scores(trained.model, scores, batches, kept=own / _FITTED)


def training_images(data: TrainingData) -> list[ValidationData]:
    """Return the originals of every domain, as they are read without any change."""
    return [ValidationData(images=domain.images) for domain in data.domains]


def _figures(row: Row) -> dict[str, float | None]:
    miou = None if row.segmentation is None else row.segmentation.miou
    return {'AP': row.anomaly.ap, 'FPR95': row.anomaly.fpr95, 'mIoU': miou}
