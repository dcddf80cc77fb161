"""Data sets through a runner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from multishift_perception.classes import CITYSCAPES
from multishift_perception.errors import MultishiftError
from multishift_perception.metrics import Curve, Sizes
from multishift_training.datasets import LabelledImages, ValidationSet
from multishift_training.evaluation.runners import Output, Runner
from multishift_training.evaluation.showcase import Drawing, Showcase, Shown, drawn
from multishift_training.evaluation.spread import ScoreSpread
from multishift_training.evaluation.tally import ALL, Row, Tally

_FINE = 1 << 16  # thresholds among which that of the best F1 is looked for
_RECALL = 0.95


@dataclass(frozen=True)
class DatasetResult:
    """What came of a data set.

    Attributes:
        name: of the data set.
        images: how many there are.
        has_classes: whether known pixels are labelled with their class.
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
    has_classes: bool
    rows: tuple[Row, ...]
    curves: Mapping[str, Mapping[str, Curve]]
    spreads: Mapping[str, ScoreSpread]
    thresholds: Mapping[str, float]
    measure: str
    best: tuple[Drawing, ...]
    worst: tuple[Drawing, ...]


def evaluate(
    datasets: Mapping[str, ValidationSet], runner: Runner, *, components: Sizes | None = None
) -> tuple[DatasetResult, ...]:
    """Run over each data set once, or twice if components count.

    The masks whose components count are at the threshold with the best F1 by pixel, as
    SegmentMeIfYouCan has it, which is known only after a first pass.

    Args:
        datasets: by name; the images at their own size.
        runner: what is evaluated.
        components: which components count; None to count none.

    Raises:
        MultishiftError: a file is at fault, or the classes do not match; the message names it.
    """
    for name, dataset in datasets.items():
        if dataset.images.has_classes:
            _check_classes(name, runner)
    return tuple(_one(*item, runner, components) for item in datasets.items())


def _one(
    name: str, dataset: ValidationSet, runner: Runner, components: Sizes | None
) -> DatasetResult:
    has_classes = dataset.images.has_classes
    num_classes = len(runner.classes)
    tally = Tally(num_classes, runner.scores, has_classes=has_classes, sizes=components)
    spreads = {score: ScoreSpread() for score in runner.scores}
    showcase = Showcase(num_classes, has_classes=has_classes)
    for frame in _frames(name, dataset, runner):
        output, truth = frame.output, frame.truth
        try:
            tally.add(output, truth, frame.condition)
        except ValueError as error:
            raise MultishiftError(
                f'{name}: {dataset.images.entries[frame.index].labels}: {error}: labels must be '
                'of the classes of what is evaluated, and its scores finite'
            ) from error
        for score, spread in spreads.items():
            spread.update(output.scores[score], truth, frame.condition)
        showcase.offer(frame.shown(runner.scores[0]))
    if components is not None:
        _count_components(name, dataset, runner, tally)
    return _result(name, dataset.images, runner, tally, spreads, showcase)


@dataclass(frozen=True)
class _Frame:
    index: int
    name: str
    condition: str
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    output: Output

    def shown(self, score: str) -> Shown:
        return Shown(
            self.name,
            self.condition,
            self.image,
            self.truth,
            self.output.labels,
            self.output.scores[score],
            self.output.mask,
        )


def _frames(task: str, dataset: ValidationSet, runner: Runner) -> Iterator[_Frame]:
    """Yield all images with what the runner says of them."""
    entries = dataset.images.entries
    with tqdm(total=len(dataset), desc=task, unit='image') as progress:
        for start in range(0, len(dataset), runner.batch):
            indices = range(start, min(start + runner.batch, len(dataset)))
            images, truths = zip(*map(dataset.__getitem__, indices), strict=True)
            outputs = runner.run([image.numpy() for image in images])
            for i, image, truth, output in zip(indices, images, truths, outputs, strict=True):
                entry = entries[i]
                yield _Frame(i, entry.name, entry.condition, image.numpy(), truth.numpy(), output)
                progress.update()


def _count_components(name: str, dataset: ValidationSet, runner: Runner, tally: Tally) -> None:
    curves = {score: tally.curve(score, points=_FINE) for score in runner.scores}
    thresholds = {s: curve.best_threshold() for s, curve in curves.items() if curve is not None}
    if not thresholds:
        return
    for frame in _frames(f'{name}, components', dataset, runner):
        for score, threshold in thresholds.items():
            mask = frame.output.scores[score] >= np.float32(threshold)
            tally.add_components(score, mask, frame.truth, frame.condition)


def _result(
    name: str,
    images: LabelledImages,
    runner: Runner,
    tally: Tally,
    spreads: Mapping[str, ScoreSpread],
    showcase: Showcase,
) -> DatasetResult:
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
        threshold=thresholds.get(first),
        score_range=spreads[first].range(),
    )
    return DatasetResult(
        name,
        len(images),
        images.has_classes,
        tally.rows(),
        curves,
        spreads,
        thresholds,
        showcase.measure,
        draw(showcase.best),
        draw(showcase.worst),
    )


def _curves(tally: Tally, score: str) -> dict[str, Curve]:
    found = {part: tally.curve(score, part) for part in (*tally.conditions, ALL)}
    return {part: curve for part, curve in found.items() if curve is not None}


def _check_classes(name: str, runner: Runner) -> None:
    """See that the known classes are those of the labels.

    Raises:
        MultishiftError: if not.
    """
    for value, (own, label) in enumerate(zip(runner.classes, CITYSCAPES, strict=False)):
        if own.name != label.name:
            raise MultishiftError(
                f'{name}: label {value} is {label.name} in the data set, but {own.name} in the '
                "engine: evaluate one whose classes are the data set's"
            )
    if len(runner.classes) > len(CITYSCAPES):
        raise MultishiftError(
            f'{name}: the engine has {len(runner.classes)} classes, the data set '
            f"{len(CITYSCAPES)}: evaluate one whose classes are the data set's"
        )
