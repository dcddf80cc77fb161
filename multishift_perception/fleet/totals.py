# SPDX-License-Identifier: Apache-2.0
"""Sums up what came of bags: merged metrics, never means of figures."""

from __future__ import annotations

from collections.abc import Iterable

from multishift_perception.fleet.result import BagResult
from multishift_perception.report.drive_counts import DriveCounts
from multishift_perception.report.drive_evaluation import DriveGroups, scores
from multishift_perception.report.drive_report import Latency
from multishift_perception.report.fleet_report import BagRow


class Totals:
    """Metrics over bags that are added one after the other; the order decides the last digit.

    Attributes:
        counts: of all bags.
        rows: of each bag.
    """

    def __init__(self, num_classes: int) -> None:
        """Start empty."""
        self.rows: list[BagRow] = []
        self._num_classes = num_classes
        self.counts = DriveGroups(num_classes)
        self._total_ms: list[float] = []

    def add(self, result: BagResult, folder: str) -> None:
        """Add a bag, whose own report is in a folder of that name."""
        whole = DriveCounts(self._num_classes)
        for key, counts in result.groups.items():
            self.counts[key].merge(counts)
        whole.merge(*result.groups.values())
        self._total_ms += result.total_ms.tolist()
        self.rows.append(
            BagRow(
                scores=scores(result.name, whole),
                folder=folder,
                minutes=result.minutes,
                latency=_latency(result.total_ms.tolist()),
                sent=sum(count.sent for count in result.counts),
                received=sum(count.received for count in result.counts),
                warnings=result.warnings,
                recording=result.recording,
            )
        )

    def latency(self) -> Latency:
        """Return the durations from decoding to mask of all frames."""
        return _latency(self._total_ms)


def _latency(total_ms: Iterable[float]) -> Latency:
    return Latency('decode to mask', tuple(total_ms))
