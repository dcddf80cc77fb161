# SPDX-License-Identifier: Apache-2.0
"""The metrics of a data set, by condition and by score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multishift_perception.metrics import (
    AnomalyMetrics,
    AnomalyResult,
    ComponentMetrics,
    ComponentResult,
    Curve,
    Grouped,
    OperatingPoint,
    OperatingResult,
    SegmentationMetrics,
    SegmentationResult,
    Sizes,
)
from multishift_perception.metrics import state as metric_state
from multishift_training.inference.runners import Output

ALL = 'all'


@dataclass(frozen=True)
class Row:
    """The metrics of a score over the images of a condition, or over all.

    Attributes:
        score: name of the score.
        condition: weather or light; ``all`` for all images.
        images: how many there are.
        segmentation: None where known pixels are not labelled with their class.
        anomaly: its figures are None where there is no novel pixel.
        operating: of the anomaly mask at the operating point; None where there is no such point.
        components: of the anomaly mask at the threshold with the best F1 over all images; None
            where they were not asked for.
    """

    score: str
    condition: str
    images: int
    segmentation: SegmentationResult | None
    anomaly: AnomalyResult
    operating: OperatingResult | None
    components: ComponentResult | None


class Tally:
    """Counts image by image, in memory that does not grow with their number."""

    def __init__(
        self,
        num_classes: int,
        scores: Sequence[str],
        *,
        has_classes: bool,
        groups: Mapping[int, Sequence[int]] | None = None,
        sizes: Sizes | None = None,
    ) -> None:
        """Start empty.

        Args:
            num_classes: known classes.
            scores: names of the scores.
            has_classes: whether known pixels are labelled with their class.
            groups: classes that further label values stand for.
            sizes: which components count; None to count none.
        """
        self.scores = tuple(scores)
        self._images: Counter[str] = Counter()
        self._segmentation: Grouped[str, SegmentationMetrics] | None = (
            Grouped(lambda: SegmentationMetrics(num_classes, groups)) if has_classes else None
        )
        self._anomaly: Grouped[tuple[str, str], AnomalyMetrics] = Grouped(AnomalyMetrics)
        self._operating: Grouped[str, OperatingPoint] = Grouped(OperatingPoint)
        self._components: Grouped[tuple[str, str], ComponentMetrics] | None = (
            Grouped(lambda: ComponentMetrics(sizes)) if sizes is not None else None
        )

    def add(self, output: Output, truth: NDArray[np.uint8], condition: str) -> None:
        """Count an image.

        Args:
            output: what was said of it.
            truth: ground truth ``uint8 [h,w]``.
            condition: weather or light; empty where unknown.

        Raises:
            ValueError: shapes differ, a label is of no known class, or a score is not finite.
        """
        self._images[condition] += 1
        if self._segmentation is not None:
            self._segmentation[condition].update(output.labels, truth)
        for name in self.scores:
            self._anomaly[name, condition].update(output.scores[name], truth)
        if output.mask is not None:
            self._operating[condition].update(output.mask, truth)

    def add_components(
        self, score: str, mask: NDArray[np.bool_], truth: NDArray[np.uint8], condition: str
    ) -> None:
        """Count the components of an image's anomaly mask ``[h,w]``."""
        if self._components is not None:
            self._components[score, condition].update(mask, truth)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The known conditions, in the order of their first images."""
        return tuple(condition for condition in self._images if condition)

    def curve(self, score: str, condition: str = ALL, *, points: int = 400) -> Curve | None:
        """Return the trade-off of a score; None where known or novel pixels are missing."""
        groups = [(score, part) for part in self._parts(condition)]
        return self._anomaly.merged(groups).curve(points)

    def rows(self) -> tuple[Row, ...]:
        """Return the metrics: of each score, one row per condition and one for all images."""
        return tuple(
            self._row(score, condition)
            for score in self.scores
            for condition in (*self.conditions, ALL)
        )

    def to_bytes(self) -> bytes:
        """Return what has been counted; who goes on from there ends with the same figures."""
        keys = {name: list(grouped.groups) for name, grouped in self._grouped().items()}
        about = {'images': list(self._images.items()), 'keys': keys}
        arrays = {
            f'{name}/{i}': metric_state.to_array(metrics.to_bytes())
            for name, grouped in self._grouped().items()
            for i, metrics in enumerate(grouped.groups.values())
        }
        return metric_state.pack(
            'Tally', {'about': np.array(json.dumps(about)), **arrays}, compressed=False
        )

    def restore(self, state: bytes) -> None:
        """Take up, while empty, what `to_bytes` of another of the same data set described.

        Raises:
            ValueError: it describes no tally.
        """
        arrays = metric_state.unpack('Tally', state)
        about = json.loads(str(arrays['about']))
        self._images.update(dict(about['images']))
        for name, grouped in self._grouped().items():
            for i, key in enumerate(about['keys'][name]):
                group = tuple(key) if isinstance(key, list) else key
                empty = grouped[group]
                grouped.groups[group] = type(empty).from_bytes(arrays[f'{name}/{i}'].tobytes())

    def _grouped(self) -> dict[str, Grouped[Any, Any]]:
        """Return all metrics, by what they measure."""
        named = {
            'segmentation': self._segmentation,
            'anomaly': self._anomaly,
            'operating': self._operating,
            'components': self._components,
        }
        return {name: grouped for name, grouped in named.items() if grouped is not None}

    def _row(self, score: str, condition: str) -> Row:
        parts = list(self._parts(condition))
        of_score = [(score, part) for part in parts]
        segmentation, components = self._segmentation, self._components
        return Row(
            score,
            condition,
            sum(self._images[part] for part in parts),
            None if segmentation is None else segmentation.merged(parts).result(),
            self._anomaly.merged(of_score).result(),
            self._operating.merged(parts).result() if self._operating.groups else None,
            # Without a novel pixel there is no threshold, and nothing was counted.
            None
            if components is None
            else components.merged(k for k in of_score if k in components.groups).result(),
        )

    def _parts(self, condition: str) -> Iterable[str]:
        return list(self._images) if condition == ALL else [condition]
