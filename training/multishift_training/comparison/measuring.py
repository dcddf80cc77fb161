# SPDX-License-Identifier: Apache-2.0
"""Measures what an experiment trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from multishift_training.checkpoints.trained import open_trained
from multishift_training.comparison.config import Test
from multishift_training.comparison.folder import Figures
from multishift_training.datasets import open_validation
from multishift_training.evaluation.evaluate import evaluate
from multishift_training.evaluation.tally import Row
from multishift_training.inference.runners import NetworkRunner


def measure(
    weights: Path, tests: Mapping[str, Test], scores: Sequence[str], *, root: Path, cache: Path
) -> Iterator[tuple[str, Figures]]:
    """Yield the figures of each test by its name, as soon as they are taken.

    Args:
        weights: of `multishift train`.
        tests: by name.
        scores: names; all are taken in one pass.
        root: folder that relative data paths start from.
        cache: of rendered frames.

    Raises:
        MultishiftError: weights or tests are at fault.
    """
    model, origin = open_trained(weights, root=root)
    for name, test in tests.items():
        size = test.size or origin.run.engine_size
        runner = NetworkRunner(model, scores, size=size, classes=origin.classes)
        opened = open_validation(test, root=root, cache=cache)
        [result] = evaluate({name: opened}, runner)
        figures: Figures = {score: {} for score in scores}
        for row in result.rows:
            figures[row.score][row.condition] = _figures(row)
        yield name, figures


def _figures(row: Row) -> dict[str, float | None]:
    miou = None if row.segmentation is None else row.segmentation.miou
    return {'AP': row.anomaly.ap, 'FPR95': row.anomaly.fpr95, 'mIoU': miou}
