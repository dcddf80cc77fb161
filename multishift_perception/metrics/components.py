# SPDX-License-Identifier: Apache-2.0
"""Component metrics of SegmentMeIfYouCan: how well anomalies are found as objects, not as pixels.

Chan et al., "SegmentMeIfYouCan: A Benchmark for Anomaly Segmentation", NeurIPS Datasets and
Benchmarks 2021, section 3.2. A component is an 8-connected region of an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics import state as metric_state
from multishift_perception.metrics.checks import check_shapes

# Computed as the benchmark does: the eighth is 0.6000000000000001, so that 3/5 does not reach it.
THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.25, 0.75, 11).tolist())


@dataclass(frozen=True)
class Sizes:
    """The least pixels of a component that counts, in the ground truth and in the prediction."""

    truth: int
    prediction: int


# As the benchmark has them for its two tracks.
ANOMALY_TRACK = Sizes(truth=100, prediction=500)
OBSTACLE_TRACK = Sizes(truth=10, prediction=50)


@dataclass(frozen=True)
class ComponentResult:
    """Figures over all components of all images; None where there is no such component.

    Attributes:
        siou: mean sIoU of the components in the ground truth.
        ppv: mean positive predictive value of the predicted components.
        f1: mean of the F1 scores at the thresholds, the benchmark's F1*.
        f1_at: F1 score at each of ``THRESHOLDS``.
        truths: components in the ground truth.
        predictions: components in the prediction.
    """

    siou: float | None
    ppv: float | None
    f1: float | None
    f1_at: tuple[float, ...] | None
    truths: int
    predictions: int


class ComponentMetrics:
    """sIoU, PPV and F1* of anomaly masks; novel (254) is the anomaly, void is left out.

    - The sIoU of a component ``k`` of the ground truth is ``|k & K| / |(k | K) - A|``: ``K`` are
      all predicted components that touch ``k``, and ``A`` the pixels of ``K`` that belong to
      other components of the ground truth. So an object found in several parts is not found
      worse, nor one whose mask also covers its neighbour.
    - The PPV of a predicted component is the part of it that is novel.
    - At a threshold ``t``, a component of the ground truth with ``sIoU >= t`` is a true positive
      and any other a false negative, and a predicted component with ``PPV < t`` is a false
      positive. F1* is the mean of F1 over ``THRESHOLDS``, 0.25 to 0.75.

    As in the benchmark's code, void pixels are taken out of the prediction before it is parted
    into components, the ground truth's components below the least size become void after that,
    and predicted ones are measured for their least size before.
    """

    def __init__(self, sizes: Sizes = ANOMALY_TRACK) -> None:
        """Start empty."""
        self.sizes = sizes
        self._hits = np.zeros(len(THRESHOLDS), np.int64)
        self._misfits = np.zeros(len(THRESHOLDS), np.int64)
        self._counts = np.zeros(2, np.int64)  # ground truth, prediction
        self._sums = np.zeros(2)  # sIoU, PPV

    def update(self, mask: NDArray[np.generic], truth: NDArray[np.uint8]) -> None:
        """Add an image.

        Args:
            mask: not zero where an anomaly is reported, ``[h,w]``. The benchmark's own masks are
                at the threshold of the best F1 by pixel (``AnomalyMetrics.curve``).
            truth: ground truth, ``uint8 [h,w]``.

        Raises:
            ValueError: the shapes differ.
        """
        check_shapes(mask, truth)
        objects, small = _components(truth == NOVEL, self.sizes.truth)
        found, _ = _components((mask != 0) & (truth != VOID), self.sizes.prediction)
        found[small] = 0
        siou, ppv = _siou_and_ppv(objects, found)
        thresholds = np.array(THRESHOLDS)[:, None]
        self._hits += (siou >= thresholds).sum(1)
        self._misfits += (ppv < thresholds).sum(1)
        self._counts += (siou.size, ppv.size)
        self._sums += (siou.sum(), ppv.sum())

    def merge(self, *others: Self) -> None:
        """Add what other objects have counted.

        Raises:
            ValueError: one has other least sizes.
        """
        for other in others:
            if other.sizes != self.sizes:
                raise ValueError(f'cannot merge components of {other.sizes} into {self.sizes}')
            self._hits += other._hits
            self._misfits += other._misfits
            self._counts += other._counts
            self._sums += other._sums

    def to_bytes(self) -> bytes:
        """Return what has been counted."""
        arrays = {
            'sizes': np.array([self.sizes.truth, self.sizes.prediction]),
            'hits': self._hits,
            'misfits': self._misfits,
            'counts': self._counts,
            'sums': self._sums,
        }
        return metric_state.pack('ComponentMetrics', arrays)

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """Return the metrics that ``to_bytes`` described.

        Raises:
            ValueError: it describes no component metrics.
        """
        arrays = metric_state.unpack('ComponentMetrics', state)
        metrics = cls(Sizes(*arrays['sizes'].tolist()))
        metrics._hits += arrays['hits']
        metrics._misfits += arrays['misfits']
        metrics._counts += arrays['counts']
        metrics._sums += arrays['sums']
        return metrics

    def result(self) -> ComponentResult:
        """Return the metrics of all images so far."""
        truths, predictions = self._counts.tolist()
        f1 = None
        if truths or predictions:
            # Every object is either a hit or missed: TP + FN is their number.
            f1 = 2 * self._hits / np.maximum(self._hits + truths + self._misfits, 1)
        return ComponentResult(
            siou=float(self._sums[0] / truths) if truths else None,
            ppv=float(self._sums[1] / predictions) if predictions else None,
            # One after the other, as the benchmark adds them: a mean would round otherwise.
            f1=None if f1 is None else float(np.cumsum(f1)[-1] / len(THRESHOLDS)),
            f1_at=None if f1 is None else tuple(f1.tolist()),
            truths=truths,
            predictions=predictions,
        )


@dataclass(frozen=True)
class Regions:
    """The 8-connected regions of a mask.

    Attributes:
        places: pixels of all regions, as indices into the flat image, ``int64 [P]``.
        numbers: the region of each, from 0, ``int64 [P]``.
        boxes: left, top, width and height of each region, ``int64 [N,4]``.
        sizes: pixels of each, ``int64 [N]``.
    """

    places: NDArray[np.int64]
    numbers: NDArray[np.int64]
    boxes: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def count(self, pixels: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return how many pixels of each region are set in an image ``bool [h,w]``, ``[N]``."""
        inside = self.numbers[pixels.reshape(-1)[self.places]]
        return np.bincount(inside, minlength=self.sizes.size)


_NO_PLACES = np.zeros(0, np.int64)
_NO_REGIONS = Regions(_NO_PLACES, _NO_PLACES, np.zeros((0, 4), np.int64), _NO_PLACES)


def regions_of(mask: NDArray[np.bool_], least: int) -> Regions:
    """Return the regions of a mask ``bool [h,w]`` that have so many pixels at least."""
    if not mask.any():
        return _NO_REGIONS
    # Around all of them: most of an image is in no region.
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    part = mask[top : top + height, left : left + width]
    # Regions of 8 neighbours are in every other row and column at most; short numbers are faster.
    most = (height + 1) // 2 * ((width + 1) // 2)
    numbering = cv2.CV_16U if most < 1 << 16 else cv2.CV_32S
    _, found, stats, _ = cv2.connectedComponentsWithStats(
        part.view(np.uint8), connectivity=8, ltype=numbering
    )
    places, numbers = np.flatnonzero(mask), found[part]
    large = stats[:, cv2.CC_STAT_AREA] >= least
    large[0] = False  # what is not in the mask
    kept = large[numbers]
    consecutive = np.cumsum(large) - 1
    return Regions(
        places[kept],
        consecutive[numbers[kept]],
        stats[large, :4].astype(np.int64) + (left, top, 0, 0),
        stats[large, cv2.CC_STAT_AREA].astype(np.int64),
    )


def _components(
    mask: NDArray[np.bool_], least: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Number the components of a mask from 1; return those too small as a mask of their own."""
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    large = stats[:, cv2.CC_STAT_AREA] >= least
    large[0] = False  # what is not in the mask
    renumbered = np.where(large, np.cumsum(large), 0).astype(np.int32)
    return renumbered[numbers], mask & ~large[numbers]


def _siou_and_ppv(
    objects: NDArray[np.int32], found: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sIoU of each numbered object and the PPV of each numbered find."""
    object_sizes, found_sizes = _sizes_of(objects), _sizes_of(found)
    both = (objects > 0) & (found > 0)
    pairs, overlap = np.unique(
        objects[both].astype(np.int64) * found_sizes.size + found[both], return_counts=True
    )
    of_object, of_found = pairs // found_sizes.size, pairs % found_sizes.size
    hit = _sums(of_object, overlap, object_sizes.size)
    novel = _sums(of_found, overlap, found_sizes.size)
    # What touches an object, but for its pixels in other objects: |K| - |A|.
    reach = _sums(of_object, found_sizes[of_found] - novel[of_found] + overlap, object_sizes.size)
    # A find that lay in objects too small to count is gone.
    left = np.flatnonzero(found_sizes[1:]) + 1
    return hit[1:] / (object_sizes + reach - hit)[1:], novel[left] / found_sizes[left]


def _sizes_of(numbers: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.bincount(numbers.ravel())


def _sums(index: NDArray[np.int64], values: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    return np.bincount(index, values, size).astype(np.float64)
