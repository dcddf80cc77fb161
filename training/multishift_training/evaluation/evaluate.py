# SPDX-License-Identifier: Apache-2.0
"""Data sets through a runner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from multishift_perception.classes import SemanticClass
from multishift_perception.errors import MultishiftError
from multishift_perception.metrics import Curve, SegmentationMetrics, Sizes
from multishift_training.datasets import LabelledImages, ValidationSet
from multishift_training.datasets.groups import Groups, members, with_groups
from multishift_training.evaluation.counts import Counts, judge
from multishift_training.evaluation.drawings import Drawing, drawn
from multishift_training.evaluation.frames import Images
from multishift_training.evaluation.progress import Progress
from multishift_training.evaluation.spread import ScoreSpread
from multishift_training.evaluation.tally import ALL, Row, Tally
from multishift_training.inference.runners import Runner

_RECALL = 0.95


@dataclass(frozen=True)
class DatasetResult:
    """What came of a data set.

    Attributes:
        name: of the data set.
        images: how many there are.
        damaged: what is wrong with those that cannot be read, by name; they are left out.
        has_classes: whether known pixels are labelled with their class.
        units: what intersections over union are of, in order: classes, or groups of them.
        groups: of classes that labels stand for.
        rows: metrics; see ``Tally.rows``.
        curves: by score and condition (``all`` among them), where there are novel pixels.
        spreads: where the scores lie, by score.
        thresholds: score that finds 95 % of all novel pixels, by score, where there are any.
        measure: what the images below were chosen by.
        best: images that did best with the first score.
        worst: images that did worst.
    """

    name: str
    images: int
    damaged: Mapping[str, str]
    has_classes: bool
    units: tuple[SemanticClass, ...]
    groups: Groups
    rows: tuple[Row, ...]
    curves: Mapping[str, Mapping[str, Curve]]
    spreads: Mapping[str, ScoreSpread]
    thresholds: Mapping[str, float]
    measure: str
    best: tuple[Drawing, ...]
    worst: tuple[Drawing, ...]


def evaluate(
    datasets: Mapping[str, ValidationSet],
    runner: Runner,
    *,
    components: Sizes | None = None,
    progress: Progress | None = None,
) -> tuple[DatasetResult, ...]:
    """Run over each data set once, or twice if components count.

    The masks whose components count are at the threshold with the best F1 by pixel, as
    SegmentMeIfYouCan has it, which is known only after a first pass.

    Args:
        datasets: by name; the images at their own size. Those that cannot be read are left out.
            Their classes are found among the runner's by name.
        runner: what is evaluated.
        components: which components count; None to count none.
        progress: where an interrupted evaluation left what it had judged, and this one does; None
            to keep nothing.

    Raises:
        MultishiftError: a data set has no readable image, labels are at fault, or have
            classes that the runner does not know; the message names what is.
    """
    # Before any work is done.
    named = {name: _in_classes(name, dataset, runner) for name, dataset in datasets.items()}
    return tuple(_one(*item, runner, components, progress) for item in named.items())


def _one(
    name: str,
    dataset: ValidationSet,
    runner: Runner,
    components: Sizes | None,
    progress: Progress | None,
) -> DatasetResult:
    counts = Counts(name, dataset.images, runner, components)
    images = Images(name, dataset, runner)
    if progress is not None and (state := progress.load(name, dataset.images)) is not None:
        try:
            images.damaged = counts.restore(state)
        except ValueError as error:
            raise MultishiftError(
                f'{progress.folder} does not hold what was judged so far ({error}): remove it'
            ) from error

    kept = (counts.done, counts.done_again)

    def keep(now: bool) -> None:
        nonlocal kept
        place = (counts.done, counts.done_again)
        if progress is not None and place != kept and (now or progress.due()):
            # Those of a batch that was not finished are read again.
            damaged = {i: fault for i, fault in images.damaged.items() if i < counts.done}
            progress.keep(name, lambda: counts.to_bytes(damaged))
            kept = place

    try:
        judge(images, counts, keep, again=components is not None)
    except KeyboardInterrupt:
        keep(True)
        raise
    return _result(name, dataset.images, runner, counts, images.damaged)


def _result(
    name: str,
    images: LabelledImages,
    runner: Runner,
    counts: Counts,
    damaged: Mapping[int, str],
) -> DatasetResult:
    tally, spreads, showcase = counts.tally, counts.spreads, counts.showcase
    curves = {score: _curves(tally, score) for score in runner.scores}
    thresholds = {
        score: float(found[ALL].threshold[np.argmax(found[ALL].tpr >= _RECALL)])
        for score, found in curves.items()
        if ALL in found
    }
    first = runner.scores[0]
    draw = partial(
        drawn,
        classes=runner.classes,
        has_classes=images.has_classes,
        groups=images.groups,
        threshold=thresholds.get(first),
        score_range=spreads[first].range(),
    )
    return DatasetResult(
        name,
        len(images),
        {images.entries[i].name: fault for i, fault in damaged.items()},
        images.has_classes,
        _units(runner, images.groups),
        images.groups,
        tally.rows(),
        curves,
        spreads,
        thresholds,
        showcase.measure,
        draw(showcase.best),
        draw(showcase.worst),
    )


def _units(runner: Runner, groups: Groups) -> tuple[SemanticClass, ...]:
    shown = with_groups(runner.classes, groups)
    metrics = SegmentationMetrics(len(runner.classes), members(groups, runner.classes))
    return tuple(shown[value] for value in metrics.units)


def _curves(tally: Tally, score: str) -> dict[str, Curve]:
    found = {part: tally.curve(score, part) for part in (*tally.conditions, ALL)}
    return {part: curve for part, curve in found.items() if curve is not None}


def _in_classes(name: str, dataset: ValidationSet, runner: Runner) -> ValidationSet:
    """Return a data set with the labels of the runner's classes, which are found by name.

    Raises:
        MultishiftError: it has others.
    """
    try:
        return dataset.in_classes(runner.classes)
    except MultishiftError as error:
        raise MultishiftError(f'{name}: {error}') from None
