# SPDX-License-Identifier: Apache-2.0
"""The same images as each way of an experiment sees them, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_perception.progress import track
from multishift_training.checkpoints.trained import open_trained
from multishift_training.comparison.config import Experiment, Test
from multishift_training.comparison.folder import ComparisonFolder, Seen
from multishift_training.comparison.jobs import Job
from multishift_training.comparison.measuring import fit_to_training
from multishift_training.datasets import open_validation
from multishift_training.evaluation.drawings import Drawing, drawn
from multishift_training.evaluation.showcase import Ranked, Shown
from multishift_training.inference.runners import NetworkRunner

# Of the novel pixels of an image: as in FPR95, where ways are compared at an equal recall.
_RECALL = 0.95


def draw_pictures(
    experiment: Experiment,
    folder: ComparisonFolder,
    jobs: Sequence[Job],
    *,
    root: Path,
    count: int,
) -> None:
    """Draw images of each test as every way that is done sees them, and record the pictures.

    A way is shown by the first seed that is done, with the first of its scores.

    Args:
        experiment: what is compared.
        folder: of the experiment.
        jobs: what there is to do for it; those that are not done are passed over.
        root: folder that relative data paths start from.
        count: images of each test, at most, at even steps.

    Raises:
        MultishiftError: nothing is done yet, or weights or tests are at fault.
    """
    wanted = folder.first_done(jobs)
    if not wanted:
        raise MultishiftError(f'{folder.path}: no run is done yet: leave out --pictures first')
    found: dict[str, dict[str, Seen]] = {name: {} for name in experiment.tests}
    for job in track(wanted, 'draw', unit='way', leave=False):
        for test, image in _drawings(experiment, folder, job, root=root, count=count):
            seen = Seen(
                name=image.name,
                condition=image.condition,
                image=image.image,
                truth=image.truth,
                ways={},
            )
            found[test].setdefault(image.name, seen).ways[job.way] = image.overlay
    folder.set_pictures({test: [*images.values()] for test, images in found.items()})


def _drawings(
    experiment: Experiment, folder: ComparisonFolder, job: Job, *, root: Path, count: int
) -> Iterator[tuple[str, Drawing]]:
    """Yield images of each test by its name, as a job's network sees them."""
    score = job.training.scores[0]
    weights = folder.weights(job)
    trained = open_trained(weights, root=root)
    model, origin = trained
    fitted = fit_to_training(trained, weights, [score], job.training.data, root=root)
    for name, test in experiment.tests.items():
        size = test.size or origin.run.engine_size
        runner = NetworkRunner(model, [score], size=size, fitted=fitted, classes=origin.classes)
        for drawing in _of_test(test, runner, score, root=root, cache=folder.cache, count=count):
            yield name, drawing


def _of_test(
    test: Test, runner: NetworkRunner, score: str, *, root: Path, cache: Path, count: int
) -> Iterator[Drawing]:
    opened = open_validation(test, root=root, cache=cache).in_classes(runner.classes)
    places = np.unique(np.linspace(0, len(opened) - 1, count).astype(int))
    for place in map(int, places):
        image, truth = (tensor.numpy() for tensor in opened[place])
        (output,) = runner.run([image])
        entry, scores = opened.images.entries[place], output.scores[score]
        shown = Shown(entry.name, entry.condition, image, truth, output.labels, scores, None)
        novel = scores[truth == NOVEL]
        (drawing,) = drawn(
            [Ranked(0, shown.small())],
            runner.classes,
            has_classes=opened.images.has_classes,
            groups=opened.images.groups,
            threshold=float(np.quantile(novel, 1 - _RECALL)) if novel.size else None,
            score_range=(float(scores.min()), float(scores.max()) + 1e-6),
        )
        yield drawing
