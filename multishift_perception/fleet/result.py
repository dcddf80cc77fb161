# SPDX-License-Identifier: Apache-2.0
"""What came of one bag, as bytes that keep everything that totals are made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
import json
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from multishift_perception.metrics import state as metric_state
from multishift_perception.replay import Replayed
from multishift_perception.report.drive_counts import DriveCounts
from multishift_perception.report.drive_evaluation import Key
from multishift_perception.report.drive_report import FrameCount

STATE = 'state.npz'
_KIND = 'BagResult 2'


@dataclass(frozen=True)
class BagResult:
    """What came of a bag.

    Attributes:
        name: of the bag.
        groups: what is counted, by camera and condition, in order of their first frames.
        counts: where the frames went, by topic.
        total_ms: from decoding to mask, of every frame, ``float64 [F]``.
        minutes: length of the bag.
        warnings: of the bag, a line each.
        recording: see ``Replayed``.
    """

    name: str
    groups: dict[Key, DriveCounts]
    counts: tuple[FrameCount, ...]
    total_ms: NDArray[np.float64]
    minutes: float
    warnings: tuple[str, ...]
    recording: str

    @classmethod
    def of(cls, name: str, replayed: Replayed) -> Self:
        """Return what is kept of a replay."""
        report = replayed.report
        return cls(
            name,
            replayed.groups,
            report.counts,
            np.array(replayed.total_ms),
            replayed.minutes,
            report.warnings,
            replayed.recording,
        )

    def to_bytes(self) -> bytes:
        """Return all of it."""
        about = {
            'name': self.name,
            'groups': list(self.groups),
            'counts': [asdict(count) for count in self.counts],
            'minutes': self.minutes,
            'warnings': self.warnings,
            'recording': self.recording,
        }
        arrays: dict[str, NDArray[Any]] = {
            'about': metric_state.to_array(json.dumps(about).encode()),
            'total_ms': self.total_ms,
        }
        for number, counts in enumerate(self.groups.values()):
            arrays[f'group/{number}'] = metric_state.to_array(counts.to_bytes())
        return metric_state.pack(_KIND, arrays, compressed=False)

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """Return what ``to_bytes`` described.

        Raises:
            ValueError: it describes nothing of the kind.
        """
        arrays = metric_state.unpack(_KIND, state)
        about = json.loads(arrays['about'].tobytes())
        return cls(
            name=about['name'],
            groups={
                (camera, condition): DriveCounts.from_bytes(arrays[f'group/{number}'].tobytes())
                for number, (camera, condition) in enumerate(about['groups'])
            },
            counts=tuple(FrameCount(**count) for count in about['counts']),
            total_ms=arrays['total_ms'],
            minutes=about['minutes'],
            warnings=tuple(about['warnings']),
            recording=about['recording'],
        )
