# SPDX-License-Identifier: Apache-2.0
"""Anomaly metrics without any approximation, to measure ours by: scores are sorted on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
import tempfile
from typing import Self
import uuid

import numpy as np
from numpy.typing import NDArray

from multishift_perception import files
from multishift_perception.errors import MultishiftError
from multishift_perception.metrics.anomaly import AnomalyResult
from multishift_perception.metrics.binning import run_starts
from multishift_perception.metrics.ranking import RECALL, first_place
from multishift_perception.metrics.score_keys import (
    PIECE,
    KeyBuffer,
    Keys,
    Score,
    common_kind,
    kind_of,
    pieces,
)

_ROW = np.dtype([('key', '<u4'), ('count', '<u4')])
_CLASSES = ('known', 'novel')
_SUFFIX = '.scores'
_READ = 1 << 18  # rows of all files together that are in memory at a time


class ExactAnomalyMetrics:
    """The figures of ``AnomalyMetrics``, exact for any number of different scores.

    Every ``max_pending`` pixels are sorted and written to a folder, and the sorted files merged
    for the result. Memory: some 40 MB, whatever the number of images. Disk: 8 bytes for every
    different score of a file, so 8 bytes per pixel at most.

    The files are what another process or a later one needs: ``flush`` there, ``open`` and
    ``merge`` here.
    """

    def __init__(self, folder: Path | None = None, max_pending: int = 1 << 20) -> None:
        """Start empty.

        Args:
            folder: where the files go, empty or new; by default a temporary one, removed with
                this object.
            max_pending: pixels that are sorted at a time, 2^16 at least.

        Raises:
            MultishiftError: the folder has the scores of another evaluation.
        """
        if folder is None:
            self._temporary = [tempfile.TemporaryDirectory(prefix='multishift-scores-')]
            folder = Path(self._temporary[0].name)
        else:
            self._temporary = []
        if folder.is_dir() and any(folder.glob('*' + _SUFFIX)):
            raise MultishiftError(
                f'{folder} has the scores of another evaluation: remove them or name a new folder'
            )
        self._folder = folder
        self._kind = ''
        self._files: list[Path] = []
        self._pixels = np.zeros(2, np.int64)
        self._buffer = KeyBuffer(max(max_pending, PIECE))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Return metrics of what another object has written to its folder.

        Raises:
            MultishiftError: the folder has no scores, or a file is cut off.
        """
        metrics = cls()
        metrics._files = sorted(folder.glob('*' + _SUFFIX))
        if not metrics._files:
            raise MultishiftError(f'{folder} has no scores: name the folder of an evaluation')
        for path in metrics._files:
            if path.stat().st_size % _ROW.itemsize:
                raise MultishiftError(f'{path} is cut off: repeat its evaluation')
            kind, name = path.name.split('-')[:2]
            metrics._kind = common_kind(metrics._kind, kind)
            counts = np.fromfile(path, _ROW)['count']
            metrics._pixels[_CLASSES.index(name)] += counts.sum(dtype=np.int64)
        return metrics

    def update(self, score: Score, truth: NDArray[np.uint8]) -> None:
        """Add an image.

        Args:
            score: ``uint8`` or float (compared as float32), larger is more anomalous.
            truth: ground truth, ``uint8`` of the same shape.

        Raises:
            ValueError: the shapes differ, or a score is NaN, infinite or of another kind than
                before. Then nothing is counted.
            MultishiftError: the folder cannot be written.
        """
        self._kind = common_kind(self._kind, kind_of(score))
        for known, novel in pieces(score, truth):
            if not self._buffer.fits(known.size + novel.size):
                self.flush()
            self._buffer.append(known, novel)

    def merge(self, other: Self) -> None:
        """Add what another object has counted; its folder must stay until the last result."""
        other.flush()
        self._kind = common_kind(self._kind, other._kind)
        self._files += other._files
        self._pixels += other._pixels
        self._temporary += other._temporary

    def flush(self) -> None:
        """Write what is pending, so that ``open`` finds all scores so far.

        Raises:
            MultishiftError: the folder cannot be written.
        """
        for row, keys in enumerate(self._buffer.empty()):
            if keys.size:
                self._write(row, keys)

    def result(self) -> AnomalyResult:
        """Return the metrics of all images so far.

        Raises:
            MultishiftError: the folder cannot be written.
        """
        self.flush()
        known, novel = self._pixels.tolist()
        if not known or not novel:
            return AnomalyResult(None, None, None, novel, known, 0.0)
        sums = _RankSums(known, novel)
        for counts in _falling(self._files):
            sums.add(*counts)
        return sums.result()

    def _write(self, row: int, keys: Keys) -> None:
        starts = run_starts(keys)
        rows = np.empty(starts.size, _ROW)
        rows['key'] = keys[starts]
        rows['count'] = np.diff(np.append(starts, keys.size))
        path = self._folder / f'{self._kind}-{_CLASSES[row]}-{uuid.uuid4().hex}{_SUFFIX}'
        try:
            with files.replacing(path) as fresh:
                rows.tofile(fresh)
        except OSError as error:
            raise MultishiftError(
                f'{self._folder}: {rows.nbytes / 1e6:.0f} MB of scores cannot be written '
                f'({error.strerror or error}): free space or name another folder'
            ) from error
        self._files.append(path)
        self._pixels[row] += keys.size


class _Reader:
    """Reads a file from its end, the highest scores, to its beginning."""

    def __init__(self, path: Path, rows: int) -> None:
        self.row = _CLASSES.index(path.name.split('-')[1])
        self.rows: NDArray[np.void] = np.zeros(0, _ROW)
        self._path, self._at_once = path, rows
        self._left = path.stat().st_size // _ROW.itemsize

    def fill(self) -> None:
        """Have some rows as long as the file has any."""
        if self._left and not self.rows.size:
            count = min(self._left, self._at_once)
            self._left -= count
            self.rows = np.fromfile(self._path, _ROW, count, offset=self._left * _ROW.itemsize)

    def complete_down_to(self) -> int:
        """Return the lowest key at and above which all rows are here."""
        return int(self.rows['key'][0]) if self._left else 0

    def take(self, key: int) -> NDArray[np.void]:
        """Return the rows at and above a key, and forget them."""
        split = int(np.searchsorted(self.rows['key'], key))
        taken, self.rows = self.rows[split:], self.rows[:split]
        return taken


def _falling(paths: Iterable[Path]) -> Iterator[NDArray[np.int64]]:
    """Yield known and novel pixels by score, ``int64 [2,K]``, from the highest score on."""
    paths = list(paths)
    readers = [_Reader(path, max(256, _READ // len(paths))) for path in paths]
    while True:
        for reader in readers:
            reader.fill()
        readers = [reader for reader in readers if reader.rows.size]
        if not readers:
            return
        key = max(reader.complete_down_to() for reader in readers)
        taken = [reader.take(key) for reader in readers]
        rows = np.concatenate(taken)
        order = np.argsort(rows['key'], kind='stable')[::-1]
        counts = np.zeros((2, rows.size), np.int64)
        sizes = [part.size for part in taken]
        counts[np.repeat([r.row for r in readers], sizes), np.arange(rows.size)] = rows['count']
        yield np.add.reduceat(counts[:, order], run_starts(rows['key'][order]), axis=1)


class _RankSums:
    """The figures of known and novel pixels that come by falling score."""

    def __init__(self, known: int, novel: int) -> None:
        self._known, self._novel = known, novel
        self._false = self._true = 0
        self._pairs = self._precisions = 0.0
        self._fpr95 = 1.0
        self._nearest, self._distance = 0.0, np.inf

    def add(self, known: NDArray[np.int64], novel: NDArray[np.int64]) -> None:
        """Add the pixels of different scores, at least one pixel of each."""
        false, true = self._false + np.cumsum(known), self._true + np.cumsum(novel)
        self._pairs += float((novel * (false - known / 2)).sum())
        self._precisions += float((novel * (true / (true + false))).sum())
        place = first_place(self._novel)
        if self._true < place <= true[-1]:
            self._fpr95 = int(false[np.searchsorted(true, place)]) / self._known
        self._look_for_nearest(false, true)
        self._false, self._true = int(false[-1]), int(true[-1])

    def _look_for_nearest(self, false: NDArray[np.int64], true: NDArray[np.int64]) -> None:
        if self._true == self._novel:
            return  # of full recall only the first threshold counts
        stop = int(np.searchsorted(true, self._novel)) + 1
        distance = np.abs(true[:stop] / self._novel - RECALL)
        last = distance.size - 1 - int(np.argmin(distance[::-1]))
        if distance[last] <= self._distance:
            self._nearest, self._distance = int(false[last]) / self._known, distance[last]

    def result(self) -> AnomalyResult:
        """Return the figures, all pixels having been added."""
        auroc = 1 - self._pairs / (float(self._known) * self._novel)
        ap = self._precisions / self._novel
        return AnomalyResult(
            auroc=auroc,
            ap=ap,
            fpr95=self._fpr95,
            novel_pixels=self._novel,
            known_pixels=self._known,
            error=0.0,
            fpr95_nearest=self._nearest,
            auroc_bounds=(auroc, auroc),
            ap_bounds=(ap, ap),
            fpr95_bounds=(self._fpr95, self._fpr95),
            fpr95_nearest_bounds=(self._nearest, self._nearest),
        )
