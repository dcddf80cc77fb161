# SPDX-License-Identifier: Apache-2.0
"""Predictions as files that other programs open: pictures, label images, scores, a video."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
import json
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_perception.errors import MultishiftError
from multishift_perception.files import replacing, write_bytes
from multishift_perception.footage import Footage
from multishift_perception.prediction.frame import FramePrediction

REGIONS, VIDEO = 'regions.jsonl', 'overlay.mp4'
_JPEG = '.jpg', [cv2.IMWRITE_JPEG_QUALITY, 90]
_PNG = '.png', [cv2.IMWRITE_PNG_COMPRESSION, 1]
# A score of 1; the operating point, 0.5, is 32768.
_SCALE = 65535


def _bgr(image: Bytes) -> Bytes:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)


def _score(prediction: FramePrediction) -> Any:
    return np.rint(prediction.score * np.float32(_SCALE)).astype(np.uint16)


# A folder for each kind of image: how its files end, how they are written, and what they show.
_IMAGES: dict[str, tuple[tuple[str, list[int]], Callable[[FramePrediction], Any]]] = {
    'overlay': (_JPEG, lambda prediction: _bgr(prediction.overlay())),
    'labels': (_PNG, lambda prediction: prediction.labels),
    'score': (_PNG, _score),
    'mask': (_PNG, lambda prediction: prediction.mask),
}
# Regions are written whatever is chosen: they say which frames there are.
OUTPUTS = (*_IMAGES, 'video')


class FootageFolder:
    """The files about one footage; use it as `writing` gives it."""

    def __init__(self, path: Path, outputs: Collection[str], footage: Footage) -> None:
        """Write below a folder.

        Args:
            path: of the folder.
            outputs: of ``OUTPUTS``.
            footage: what it is about; of one with a rate a video is written.
        """
        self._path = path
        self._images = [name for name in _IMAGES if name in outputs]
        self._rate = footage.rate if 'video' in outputs else None
        self._stack = ExitStack()
        self._video: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def add(self, name: str, place: PurePath, found: FramePrediction, *, shown: bool) -> None:
        """Add a frame.

        Args:
            name: of the frame, for people.
            place: what its files are called, without a suffix.
            found: what the engine says.
            shown: whether it has images, and a place in the video; its regions are written anyway.
        """
        if shown:
            for kind in self._images:
                (ending, how), draw = _IMAGES[kind]
                whole, data = cv2.imencode(ending, draw(found), how)
                assert whole  # no image of these forms fails
                write_bytes(self._path / kind / f'{place}{ending}', data.tobytes())
            self._add_to_video(found)
        self._regions.write(json.dumps(_record(name, place, found)) + '\n')
        self._regions.flush()

    def _add_to_video(self, found: FramePrediction) -> None:
        if self._rate is None:
            return
        height, width = found.image.shape[:2]
        if self._video is None:
            fresh = self._stack.enter_context(replacing(self._path / VIDEO))
            self._size = width, height
            fourcc = cv2.VideoWriter.fourcc(*'mp4v')
            self._video = cv2.VideoWriter(str(fresh), fourcc, self._rate, self._size)
            if not self._video.isOpened():
                raise MultishiftError(
                    f'{self._path / VIDEO}: OpenCV has no encoder for it: leave video out'
                )
            self._stack.callback(self._video.release)
        frame = _bgr(found.overlay())
        if (width, height) != self._size:  # a camera may change its resolution
            frame = np.asarray(cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA))
        self._video.write(frame)

    @contextmanager
    def writing(self) -> Iterator[FootageFolder]:
        """Open the files of all frames, and put the video in its place at the end."""
        self._path.mkdir(parents=True, exist_ok=True)
        with self._stack, (self._path / REGIONS).open('w') as self._regions:
            yield self


def _record(name: str, place: PurePath, found: FramePrediction) -> dict[str, Any]:
    height, width = found.mask.shape
    return {
        'frame': name,
        'file': place.as_posix(),
        'width': width,
        'height': height,
        'anomalous_share': np.count_nonzero(found.mask) / found.mask.size,
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


def remove_earlier(root: Path) -> None:
    """Remove what an earlier run wrote below a folder, and nothing else.

    Its regions name its frames. Of fewer frames, or at another threshold, the pictures would be
    mixed with those of now.
    """
    for regions in [root / REGIONS, *root.glob(f'*/{REGIONS}')]:
        if not regions.is_file():
            continue
        folder = regions.parent
        for line in regions.read_text().splitlines():
            place = json.loads(line)['file']
            for kind, ((ending, _), _) in _IMAGES.items():
                (folder / kind / f'{place}{ending}').unlink(missing_ok=True)
        (folder / VIDEO).unlink(missing_ok=True)
        regions.unlink()
