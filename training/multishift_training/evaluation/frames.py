# SPDX-License-Identifier: Apache-2.0
"""The images of a data set, with what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import logging

from multishift_perception.arrays import Bytes
from multishift_perception.errors import MultishiftError
from multishift_perception.progress import bar
from multishift_training.datasets import ValidationSet
from multishift_training.datasets.entries import some
from multishift_training.datasets.reading import ForeignLabelsError
from multishift_training.evaluation.showcase import Shown
from multishift_training.inference.runners import Output, Runner

logger = logging.getLogger(__name__)

_REASONS = 3  # that are said; `some` names as many images


@dataclass(frozen=True)
class Frame:
    """An image of a data set.

    Attributes:
        index: its place in the data set.
        name: of the image.
        condition: weather or light; empty where unknown.
        image: RGB ``uint8 [h,w,3]``.
        truth: ground truth ``uint8 [h,w]``.
        output: what the runner says of it.
    """

    index: int
    name: str
    condition: str
    image: Bytes
    truth: Bytes
    output: Output

    def shown(self, score: str) -> Shown:
        """Return what a picture of it needs, with one of the scores."""
        return Shown(
            self.name,
            self.condition,
            self.image,
            self.truth,
            self.output.labels,
            self.output.scores[score],
            self.output.mask,
        )


class Images:
    """The images of a data set that can be read.

    Attributes:
        damaged: what is wrong with each of the others, by place.
    """

    def __init__(self, name: str, dataset: ValidationSet, runner: Runner) -> None:
        """Wrap a data set."""
        self.damaged: dict[int, str] = {}
        self._name = name
        self._dataset = dataset
        self._runner = runner

    def batches(self, start: int, *, again: bool = False) -> Iterator[tuple[int, list[Frame]]]:
        """Yield images with what the runner says of them, and the place after the batch.

        Args:
            start: place to start at, one that was yielded or 0.
            again: these images have been read before: one that cannot be read now is an error.

        Raises:
            MultishiftError: labels are not of the data set, or a file has become unreadable.
        """
        count, step = len(self._dataset), self._runner.batch
        task = f'{self._name}, components' if again else self._name
        with bar(task, count, initial=start, unit='image') as shown:
            for first in range(start, count, step):
                indices = range(first, min(first + step, count))
                yield indices.stop, self._judged(indices, again)
                shown.update(len(indices))

    def warn_of_damaged(self) -> None:
        """Name the images that cannot be read, and why, after all have been tried.

        Raises:
            MultishiftError: none can be read.
        """
        if not self.damaged:
            return
        count, entries = len(self._dataset), self._dataset.images.entries
        # In the order in which `some` has the names.
        places = sorted(self.damaged, key=lambda i: entries[i].name)
        faults = '; '.join(self.damaged[i] for i in places[:_REASONS])
        if len(places) > _REASONS:
            faults += '; ...'
        if len(places) == count:
            raise MultishiftError(f'{self._name}: none of {count} images can be read: {faults}')
        names = some(entries[i].name for i in places)
        message = '%s: of %d images %s cannot be read and are left out: %s'
        logger.warning(message, self._name, count, names, faults)

    def _judged(self, indices: range, again: bool) -> list[Frame]:
        read = [(i, *pair) for i in indices if (pair := self._read(i, again)) is not None]
        if not read:
            return []
        outputs = self._runner.run([image for _, image, _ in read])
        entries = self._dataset.images.entries
        return [
            Frame(i, entries[i].name, entries[i].condition, image, truth, output)
            for (i, image, truth), output in zip(read, outputs, strict=True)
        ]

    def _read(self, index: int, again: bool) -> tuple[Bytes, Bytes] | None:
        if again and index in self.damaged:
            return None
        try:
            image, truth = self._dataset[index]
        except ForeignLabelsError:
            raise  # the description's fault, not this file's
        except MultishiftError as error:
            if again:
                raise
            self.damaged[index] = str(error)
            return None
        return image.numpy(), truth.numpy()
