# SPDX-License-Identifier: Apache-2.0
"""What is kept of a data set while its images are judged, and goes on after an interruption."""

from __future__ import annotations

from collections.abc import Callable
import json

import numpy as np

from multishift_perception.errors import MultishiftError
from multishift_perception.metrics import Sizes
from multishift_perception.metrics import state as metric_state
from multishift_perception.process.signals import waiting_for_block
from multishift_training.datasets import LabelledImages
from multishift_training.datasets.groups import members
from multishift_training.evaluation.frames import Frame, Images
from multishift_training.evaluation.showcase import Showcase
from multishift_training.evaluation.spread import ScoreSpread
from multishift_training.evaluation.tally import Tally
from multishift_training.inference.runners import Runner

_KIND = 'evaluation'
_FINE = 1 << 16  # thresholds among which that of the best F1 is looked for


class Counts:
    """Metrics, histograms and pictures of the images so far.

    Attributes:
        tally: the metrics.
        spreads: where the scores lie, by score.
        showcase: the images that did best and worst.
        done: images of the first pass that are judged or found damaged, from the first on.
        done_again: images of the second pass, in which components are counted.
    """

    def __init__(
        self, name: str, images: LabelledImages, runner: Runner, sizes: Sizes | None
    ) -> None:
        """Start empty; sizes of components are None to count none."""
        num_classes, has_classes = len(runner.classes), images.has_classes
        groups = members(images.groups, runner.classes)
        self.tally = Tally(
            num_classes, runner.scores, has_classes=has_classes, groups=groups, sizes=sizes
        )
        self.spreads = {score: ScoreSpread() for score in runner.scores}
        self.showcase = Showcase(num_classes, has_classes=has_classes, groups=groups)
        self.done = self.done_again = 0
        self._name, self._images = name, images
        self._first = runner.scores[0]

    def add(self, frame: Frame) -> None:
        """Count an image.

        Raises:
            MultishiftError: labels or scores are not what can be measured; the message names the
                file.
        """
        try:
            self.tally.add(frame.output, frame.truth, frame.condition)
        except ValueError as error:
            raise MultishiftError(
                f'{self._name}: {self._images.entries[frame.index].labels}: {error}: labels must '
                'be of the classes of what is evaluated, and its scores finite'
            ) from error
        for score, spread in self.spreads.items():
            spread.update(frame.output.scores[score], frame.truth, frame.condition)
        self.showcase.offer(frame.shown(self._first))

    def component_thresholds(self) -> dict[str, float]:
        """Return the threshold with the best F1 by pixel, by score; none without novel pixels."""
        curves = {score: self.tally.curve(score, points=_FINE) for score in self.spreads}
        return {s: curve.best_threshold() for s, curve in curves.items() if curve is not None}

    def add_components(self, frame: Frame, thresholds: dict[str, float]) -> None:
        """Count the components of an image, in the second pass."""
        for score, threshold in thresholds.items():
            mask = frame.output.scores[score] >= np.float32(threshold)
            self.tally.add_components(score, mask, frame.truth, frame.condition)

    def to_bytes(self, damaged: dict[int, str]) -> bytes:
        """Return all of it, and which images are damaged."""
        about = {
            'done': self.done,
            'done_again': self.done_again,
            'damaged': list(damaged.items()),
        }
        return metric_state.pack(
            _KIND,
            {
                'about': np.array(json.dumps(about)),
                'tally': metric_state.to_array(self.tally.to_bytes()),
                'showcase': metric_state.to_array(self.showcase.to_bytes()),
                **{
                    f'spread/{score}': metric_state.to_array(spread.to_bytes())
                    for score, spread in self.spreads.items()
                },
            },
            compressed=False,  # its parts are
        )

    def restore(self, state: bytes) -> dict[int, str]:
        """Take up, while empty, what `to_bytes` described; return which images are damaged.

        Raises:
            ValueError: it describes nothing of the kind.
        """
        arrays = metric_state.unpack(_KIND, state)
        about = json.loads(str(arrays['about']))
        self.done, self.done_again = about['done'], about['done_again']
        self.tally.restore(arrays['tally'].tobytes())
        self.showcase.restore(arrays['showcase'].tobytes())
        for score in self.spreads:
            self.spreads[score] = ScoreSpread.from_bytes(arrays[f'spread/{score}'].tobytes())
        return {int(index): fault for index, fault in about['damaged']}


def judge(images: Images, counts: Counts, keep: Callable[[bool], None], *, again: bool) -> None:
    """Count all images, and again their components.

    An interrupt finds all of a batch counted, or nothing of it.

    Args:
        images: those of the data set.
        counts: what is judged so far.
        keep: called after every batch, and with True where a pass ends.
        again: whether components are counted, in a second pass.

    Raises:
        MultishiftError: see `Images.batches`, `Images.warn_of_damaged` and `Counts.add`.
    """
    for done, frames in images.batches(counts.done):
        with waiting_for_block():
            for frame in frames:
                counts.add(frame)
            counts.done = done
        keep(False)
    images.warn_of_damaged()
    keep(True)
    if again and (thresholds := counts.component_thresholds()):
        for done, frames in images.batches(counts.done_again, again=True):
            with waiting_for_block():
                for frame in frames:
                    counts.add_components(frame, thresholds)
                counts.done_again = done
            keep(False)
        keep(True)
