# SPDX-License-Identifier: Apache-2.0
"""What became of every frame of a drive: a line each, in little memory, and as CSV."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
import csv
from dataclasses import dataclass
import math
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from multishift_perception.files import replacing
from multishift_perception.metrics.checks import ratio
from multishift_perception.metrics.operating_point import OperatingPoint


class TruthCounts(NamedTuple):
    """Pixels of a frame by what they truly are and what the mask says of them.

    Attributes:
        novel: of novel objects.
        found: those of them that the mask covers.
        known: of known classes.
        false: those of them that the mask covers.
    """

    novel: int
    found: int
    known: int
    false: int

    @classmethod
    def of(cls, operating: OperatingPoint) -> Self:
        """Return the pixels that are counted."""
        (right, false), (missed, found) = operating.pixels.tolist()
        return cls(missed + found, found, right + false, false)


@dataclass(frozen=True)
class FrameRecord:
    """What became of one frame; None where nobody knows.

    Attributes:
        stamp_ns: stamp of its header.
        time: seconds since the start of the drive.
        camera: name of the camera.
        condition: light and weather; empty where unknown.
        dropped: why there are no outputs; empty where there are.
        anomalous: share of its pixels that the mask covers.
        latency_ms: from the frame to its mask.
        shift: how far from the training's domain the engine says that it is.
        miou: over its own known pixels.
        truth: its pixels by the ground truth.
    """

    stamp_ns: int
    time: float
    camera: str
    condition: str
    dropped: str = ''
    anomalous: float | None = None
    latency_ms: float | None = None
    shift: float | None = None
    miou: float | None = None
    truth: TruthCounts | None = None

    @property
    def found(self) -> float | None:
        """Share of the novel pixels that the mask covers."""
        return ratio(self.truth.found, self.truth.novel) if self.truth else None

    @property
    def false_alarms(self) -> float | None:
        """Share of the known pixels that the mask covers."""
        return ratio(self.truth.false, self.truth.known) if self.truth else None

    @property
    def novel(self) -> float | None:
        """Share of the novel pixels among those that are not void."""
        return ratio(self.truth.novel, self.truth.novel + self.truth.known) if self.truth else None


COLUMNS = (
    'stamp_ns',
    'time_s',
    'camera',
    'condition',
    'dropped',
    'anomalous_share',
    'latency_ms',
    'domain_shift',
    'miou',
    'novel_pixels',
    'found_pixels',
    'known_pixels',
    'false_alarm_pixels',
)
_WORDS = ('camera', 'condition', 'dropped')
_NUMBERS = ('anomalous', 'latency_ms', 'shift', 'miou')
_UNKNOWN = -1


class FrameTable:
    """The records of a drive, some 80 bytes each.

    An hour of six cameras at 10 Hz takes 17 MB.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._stamps = array('q')
        self._times = array('d')
        self._words = array('I')
        self._numbers = array('f')
        self._pixels = array('q')
        self._names: dict[str, int] = {}

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._stamps)

    def add(self, record: FrameRecord) -> None:
        """Add a frame."""
        self._stamps.append(record.stamp_ns)
        self._times.append(record.time)
        for word in (record.camera, record.condition, record.dropped):
            self._words.append(self._names.setdefault(word, len(self._names)))
        for name in _NUMBERS:
            value = getattr(record, name)
            self._numbers.append(math.nan if value is None else value)
        self._pixels.extend(record.truth or [_UNKNOWN] * len(TruthCounts._fields))

    def __iter__(self) -> Iterator[FrameRecord]:
        """Yield the records in order of time; shares and latencies are rounded to seven digits."""
        names = list(self._names)
        words, numbers, pixels = len(_WORDS), len(_NUMBERS), len(TruthCounts._fields)
        # A frame that is dropped is known before one that still waits for its engine call.
        for i in np.argsort(np.array(self._times), kind='stable').tolist():
            camera, condition, dropped = self._words[words * i : words * (i + 1)]
            values = self._numbers[numbers * i : numbers * (i + 1)]
            measured = [None if math.isnan(value) else value for value in values]
            counts = self._pixels[pixels * i : pixels * (i + 1)]
            yield FrameRecord(
                self._stamps[i],
                self._times[i],
                names[camera],
                names[condition],
                names[dropped],
                **dict(zip(_NUMBERS, measured, strict=True)),
                truth=None if counts[0] == _UNKNOWN else TruthCounts(*counts),
            )

    def cameras(self) -> tuple[str, ...]:
        """Return the names of the cameras in the order of their first frames."""
        codes, first = np.unique(self._column_of_words('camera'), return_index=True)
        names = list(self._names)
        return tuple(names[code] for code in codes[np.argsort(first)])

    def column(self, name: str, *, camera: str | None = None) -> NDArray[np.float64]:
        """Return a figure of every frame, NaN where nobody knows it, ``float64 [F]``.

        Args:
            name: ``time``, ``anomalous``, ``latency_ms``, ``shift``, ``miou``, ``dropped`` (1 or
                0) or ``novel`` (share of the pixels that are not void).
            camera: of this camera alone.
        """
        values = self._column(name)
        if camera is None:
            return values
        code = self._names.get(camera, len(self._names))
        return np.asarray(values[self._column_of_words('camera') == code])

    def _column(self, name: str) -> NDArray[np.float64]:
        if name == 'time':
            return np.array(self._times)
        if name == 'dropped':
            is_empty = self._column_of_words('dropped') == self._names.get('', len(self._names))
            return np.asarray(~is_empty, np.float64)
        if name == 'novel':
            pixels = np.array(self._pixels).reshape(-1, len(TruthCounts._fields))
            novel, known = pixels[:, 0], pixels[:, 2]
            whole = np.where(known == _UNKNOWN, 0, novel + known)
            return np.asarray(
                np.divide(novel, whole, out=np.full(len(self), np.nan), where=whole > 0)
            )
        numbers: NDArray[np.float64] = np.array(self._numbers, np.float64)
        return np.asarray(numbers.reshape(-1, len(_NUMBERS))[:, _NUMBERS.index(name)])

    def _column_of_words(self, name: str) -> NDArray[np.uint32]:
        # Copied, as all columns are: an array whose memory is lent takes no more frames.
        words: NDArray[np.uint32] = np.array(self._words, np.uint32)
        return words.reshape(-1, len(_WORDS))[:, _WORDS.index(name)]

    def write_csv(self, path: Path) -> None:
        """Write the table with a line of names; what nobody knows is empty."""
        with replacing(path) as fresh, fresh.open('w', newline='') as file:
            writer = csv.writer(file, lineterminator='\n')
            writer.writerow(COLUMNS)
            writer.writerows(map(_cells, self))


def _cells(record: FrameRecord) -> tuple[object, ...]:
    numbers = (record.anomalous, record.latency_ms, record.shift, record.miou)
    return (
        record.stamp_ns,
        f'{record.time:.6f}',
        record.camera,
        record.condition,
        record.dropped,
        *('' if value is None else f'{value:.6g}' for value in numbers),
        *(record.truth or [''] * len(TruthCounts._fields)),
    )
