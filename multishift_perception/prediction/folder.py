# SPDX-License-Identifier: Apache-2.0
"""Predictions as files that other programs open: pictures, label images, scores, a video."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
import json
import os
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_perception.disk import full_disk, reporting_full_disk
from multishift_perception.errors import MultishiftError
from multishift_perception.files import (
    METRICS,
    remove_empty,
    remove_leftovers,
    replacing,
    write_bytes,
)
from multishift_perception.footage import Footage, check_for_opencv
from multishift_perception.prediction.frame import FramePrediction

REGIONS, VIDEO = 'regions.jsonl', 'overlay.mp4'
# A score of 1; the operating point, 0.5, is 32768.
_SCALE = 65535
# Frames a second that MPEG-4 can hold, given to a hundredth.
_SLOWEST, _FASTEST = 0.01, 600


def _score(prediction: FramePrediction) -> Any:
    return np.rint(prediction.score * np.float32(_SCALE)).astype(np.uint16)


# What is said of each pixel, as images in a folder each.
_MAPS: dict[str, Callable[[FramePrediction], Any]] = {
    'labels': lambda prediction: prediction.labels,
    'score': _score,
    'mask': lambda prediction: prediction.mask,
}
# How the files in each folder of images end.
_ENDINGS = {'overlay': '.jpg', **dict.fromkeys(_MAPS, '.png')}
_QUALITY = {
    '.jpg': [cv2.IMWRITE_JPEG_QUALITY, 90],
    '.png': [cv2.IMWRITE_PNG_COMPRESSION, 1],
}


class FootageFolder:
    """The files about one footage; use it as `writing` gives it."""

    def __init__(self, path: Path, outputs: Collection[str], footage: Footage) -> None:
        """Write below a folder.

        Args:
            path: of the folder.
            outputs: kinds of images, and ``video``; regions are written whatever is chosen: they
                say which frames there are.
            footage: what it is about; of one with a rate a video is written.
        """
        self._path = path
        self._maps = [kind for kind in _MAPS if kind in outputs]
        self._has_overlay = 'overlay' in outputs
        self._rate = footage.rate if 'video' in outputs else None
        self._unfinished: list[Future[None]] = []
        self._stack = ExitStack()
        self._video: cv2.VideoWriter | None = None
        self._fresh_video = path
        self._size = (0, 0)

    def add(self, name: str, place: PurePath, found: FramePrediction, *, shown: bool) -> None:
        """Add a frame; its images are drawn and written while the caller sees to the next.

        Args:
            name: of the frame, for people.
            place: what its files are called, without a suffix.
            found: what the engine says.
            shown: whether it has images, and a place in the video; its regions are written anyway.
        """
        # One frame at a time: a video has an order, and memory an end.
        self._finish()
        # Before the images: what a killed run leaves is found by its regions.
        self._regions.write(json.dumps(_record(name, place, found)) + '\n')
        self._regions.flush()
        if not shown:
            return
        jobs = [partial(self._write_map, kind, place, found) for kind in self._maps]
        if self._has_overlay or self._rate is not None:
            jobs.append(partial(self._write_overlay, place, found))
        self._unfinished = [self._pool.submit(job) for job in jobs]

    def _finish(self) -> None:
        """Wait for the images of the last frame, and raise what went wrong with them."""
        for job in self._unfinished:
            job.result()
        self._unfinished = []

    def _write_map(self, kind: str, place: PurePath, found: FramePrediction) -> None:
        self._write_image(kind, place, _MAPS[kind](found))

    def _write_overlay(self, place: PurePath, found: FramePrediction) -> None:
        frame = np.asarray(cv2.cvtColor(found.overlay(), cv2.COLOR_RGB2BGR), np.uint8)
        if self._has_overlay:
            self._write_image('overlay', place, frame)
        if self._rate is not None:
            self._add_to_video(frame, self._rate)

    def _write_image(self, kind: str, place: PurePath, image: Any) -> None:
        ending = _ENDINGS[kind]
        whole, data = cv2.imencode(ending, image, _QUALITY[ending])
        assert whole  # no image of these forms fails
        write_bytes(self._path / kind / f'{place}{ending}', data.tobytes())

    def _add_to_video(self, frame: Bytes, rate: float) -> None:
        height, width = frame.shape[:2]
        if self._video is None:
            path = self._path / VIDEO
            self._fresh_video = self._stack.enter_context(replacing(path))
            self._size = width, height
            rate = min(max(round(rate, 2), _SLOWEST), _FASTEST)
            fourcc = cv2.VideoWriter.fourcc(*'mp4v')
            self._video = cv2.VideoWriter(str(self._fresh_video), fourcc, rate, self._size)
            if not self._video.isOpened():
                raise MultishiftError(
                    f'{path}: OpenCV has no encoder for {width} x {height} pixels: leave video '
                    'out of --outputs'
                )
            self._stack.callback(self._video.release)
        if (width, height) != self._size:  # a camera may change its resolution
            frame = np.asarray(cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA))
        self._video.write(frame)

    def _end_video(self) -> None:
        """Write the end of the video, and see that it is there.

        Raises:
            FullDiskError: it is not: OpenCV says nothing of a write that fails.
        """
        if self._video is None:
            return
        self._video.release()
        # What tells of the frames stands behind them.
        if not cv2.VideoCapture(str(self._fresh_video)).isOpened():
            raise full_disk(self._path / VIDEO)

    @contextmanager
    def writing(self) -> Iterator[FootageFolder]:
        """Open the files of all frames, and put the video in its place at the end."""
        if self._rate is not None:
            check_for_opencv(self._path)
        self._path.mkdir(parents=True, exist_ok=True)
        with (
            reporting_full_disk(self._path),
            self._stack,
            (self._path / REGIONS).open('w') as self._regions,
            ThreadPoolExecutor(len(_ENDINGS)) as self._pool,
        ):
            yield self
            self._finish()
            self._end_video()


def _record(name: str, place: PurePath, found: FramePrediction) -> dict[str, Any]:
    height, width = found.mask.shape
    return {
        'frame': name,
        'file': place.as_posix(),
        'width': width,
        'height': height,
        'anomalous_share': np.count_nonzero(found.mask) / found.mask.size,
        'covariate_shift': _rounded(found.shift.covariate),
        'semantic_shift': _rounded(found.shift.semantic),
        'regions': [
            {
                'box': region.box,
                'area': region.area,
                'center': [round(x, 1) for x in region.center],
                'mean_score': round(region.mean_score, 4),
                'max_score': round(region.max_score, 4),
            }
            for region in found.regions
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def remove_earlier(root: Path) -> None:
    """Remove what an earlier run wrote below a folder, and nothing else.

    Its regions name its frames. Of fewer frames, or at another threshold, the pictures would be
    mixed with those of now. Whatever they name by now, nothing outside the folder is touched, nor
    a folder in it that is a report of its own.
    """
    remove_leftovers(root / METRICS)
    for regions in [root / REGIONS, *root.glob(f'*/{REGIONS}')]:
        folder = regions.parent
        if folder != root and (folder.is_symlink() or (folder / METRICS).exists()):
            continue
        places = _places(regions)
        for place in places:
            for path in _images(folder, place):
                if os.path.lexists(path) and not path.is_dir():
                    path.unlink()
                    remove_empty(path.parent, above=folder)
        for place in places[-1:]:  # a run that was killed was at it
            for path in _images(folder, place):
                remove_leftovers(path)
                remove_empty(path.parent, above=folder)
        remove_leftovers(folder / VIDEO)
        if (folder / VIDEO).is_file():
            (folder / VIDEO).unlink()
        if os.path.lexists(regions):
            regions.unlink()
        remove_empty(folder, above=root)


def remove_report(root: Path) -> None:
    """Remove a report; the folder stays."""
    remove_earlier(root)
    (root / METRICS).unlink()


def _places(regions: Path) -> list[str]:
    """Return what the lines of a file call their frames; lines that say nothing are left out."""
    places = []
    if regions.is_file() and not regions.is_symlink():
        for line in regions.read_text(errors='replace').splitlines():
            with suppress(ValueError, TypeError, KeyError):
                places.append(str(json.loads(line)['file']))
    return places


def _images(folder: Path, place: str) -> Iterator[Path]:
    """Yield where the images of a frame are, none that lies outside the folder of its kind."""
    for kind, ending in _ENDINGS.items():
        path = folder / kind / f'{place}{ending}'
        with suppress(OSError, ValueError):  # no name that a file can have
            if path.parent.resolve().is_relative_to(folder.resolve() / kind):
                yield path
