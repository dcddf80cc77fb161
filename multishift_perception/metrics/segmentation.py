# SPDX-License-Identifier: Apache-2.0
"""How well known classes are told apart: intersection over union, and accuracies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics import state as metric_state
from multishift_perception.metrics.checks import check_shapes, ratio
from multishift_perception.metrics.pairs import count_pairs


@dataclass(frozen=True)
class SegmentationResult:
    """How well known classes are told apart.

    Attributes:
        miou: mean of ``iou`` over the classes that have one.
        iou: intersection over union per class, ``TP / (TP + FP + FN)`` over known pixels; None
            where the class occurs neither in the ground truth nor in the prediction. So a class
            that is predicted, but absent from the ground truth, has 0, as MMSegmentation and
            cityscapesScripts count it. Where labels stand for groups of classes: of the units of
            ``SegmentationMetrics.units``, and None too for a class that is in no group and does
            not occur in the ground truth, which then has no word for it: that it is predicted is
            an error of the unit that the pixel is of, and of no other.
        pixel_accuracy: share of known pixels with the right class.
        pixels: known pixels counted.
        class_accuracy: share of a class's pixels that are found, also called recall; None where
            the class does not occur in the ground truth.
        mean_class_accuracy: its mean over the classes that occur.
    """

    miou: float | None
    iou: tuple[float | None, ...]
    pixel_accuracy: float | None
    pixels: int
    class_accuracy: tuple[float | None, ...]
    mean_class_accuracy: float | None


class SegmentationMetrics:
    """Confusion matrix over the known classes, or over groups of them where labels are coarser.

    With groups, a class counts as the group that it is in, in the prediction and in the ground
    truth: any class of the group is right.

    Attributes:
        num_classes: known classes.
        units: label values that figures are of: the classes in no group, then the groups.
    """

    def __init__(
        self, num_classes: int, groups: Mapping[int, Iterable[int]] | None = None
    ) -> None:
        """Start empty for classes ``0..num_classes-1``.

        Args:
            num_classes: known classes.
            groups: classes that each further label value of the ground truth stands for.

        Raises:
            ValueError: a class is in two groups.
        """
        self.num_classes = num_classes
        self._groups = {value: sorted(inside) for value, inside in sorted((groups or {}).items())}
        grouped = [c for inside in self._groups.values() for c in inside]
        if len(set(grouped)) < len(grouped):
            raise ValueError('a class is in two groups')
        alone = [c for c in range(num_classes) if c not in grouped]
        self.units = (*alone, *self._groups)
        # Pixels by predicted class (row) and value of the ground truth.
        self._joint = np.zeros((num_classes, 256), np.int64)

    def update(self, labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Add an image.

        Args:
            labels: predicted class per pixel, ``uint8 [...]``, ``0..C-1``.
            truth: ground truth, ``uint8`` of the same shape.

        Raises:
            ValueError: the shapes differ, or a value is neither a class, a group, novel nor void.
        """
        check_shapes(labels, truth)
        allowed = (*self._groups, NOVEL, VOID)
        if labels.max(initial=0) >= self.num_classes:
            _check_values('ground truth', _count_values(truth), self.num_classes, allowed)
            _check_values('prediction', _count_values(labels), self.num_classes)
        joint = count_pairs(labels, truth, firsts=self.num_classes)
        _check_values('ground truth', joint.sum(0), self.num_classes, allowed)
        self._joint += joint

    def merge(self, *others: Self) -> None:
        """Add what other objects have counted.

        Raises:
            ValueError: one has other classes, or other groups of them.
        """
        for other in others:
            if other.num_classes != self.num_classes:
                raise ValueError(
                    f'cannot merge {other.num_classes} into {self.num_classes} classes'
                )
            if other._groups != self._groups:
                raise ValueError('cannot merge what is counted by other groups of classes')
            self._joint += other._joint

    def to_bytes(self) -> bytes:
        """Return what has been counted."""
        joint = np.zeros((256, 256), np.int64)
        joint[:, : self.num_classes] = self._joint.T
        return metric_state.pack(
            'SegmentationMetrics',
            {
                'num_classes': np.array(self.num_classes),
                'joint': joint,
                **{f'group/{value}': np.array(c) for value, c in self._groups.items()},
            },
        )

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """Return the metrics that ``to_bytes`` described.

        Raises:
            ValueError: it describes no segmentation metrics.
        """
        arrays = metric_state.unpack('SegmentationMetrics', state)
        groups = {
            int(name.removeprefix('group/')): inside.tolist()
            for name, inside in arrays.items()
            if name.startswith('group/')
        }
        metrics = cls(int(arrays['num_classes']), groups)
        metrics._joint += arrays['joint'].T[: metrics.num_classes]
        return metrics

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Pixels by true (row) and predicted (column) unit, ``int64 [U, U]``.

        Without groups the units are the classes.
        """
        if not self._groups:
            return self._joint[:, : self.num_classes].T
        unit_of = {value: value for value in self.units}
        unit_of |= {c: value for value, inside in self._groups.items() for c in inside}
        # Which label values are of each unit; novel and void are of none.
        of_unit = np.zeros((len(self.units), 256), np.int64)
        for value, unit in unit_of.items():
            of_unit[self.units.index(unit), value] = 1
        return of_unit @ self._joint.T @ of_unit[:, : self.num_classes].T

    def result(self) -> SegmentationResult:
        """Return the metrics of all images so far."""
        hits = np.diag(self.confusion)
        truth, predicted = self.confusion.sum(1), self.confusion.sum(0)
        whole = truth + predicted - hits
        if self._groups:
            is_class = np.array([unit not in self._groups for unit in self.units])
            whole[is_class & (truth == 0)] = 0
        iou = _per_class(hits, whole)
        accuracy = _per_class(hits, truth)
        pixels = int(truth.sum())
        return SegmentationResult(
            miou=_mean(iou),
            iou=iou,
            pixel_accuracy=ratio(hits.sum(), pixels),
            pixels=pixels,
            class_accuracy=accuracy,
            mean_class_accuracy=_mean(accuracy),
        )


def _count_values(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.bincount(image.reshape(-1), minlength=256)


def _check_values(
    what: str, counts: NDArray[np.int64], num_classes: int, allowed: tuple[int, ...] = ()
) -> None:
    for value in np.flatnonzero(counts[num_classes:]) + num_classes:
        if value not in allowed:
            raise ValueError(
                f'{what} has the value {value}; known classes are 0..{num_classes - 1}'
            )


def _per_class(part: NDArray[np.int64], whole: NDArray[np.int64]) -> tuple[float | None, ...]:
    """Return a share per class."""
    return tuple(map(ratio, part.tolist(), whole.tolist()))


def _mean(values: tuple[float | None, ...]) -> float | None:
    """Return the mean of what is defined."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
