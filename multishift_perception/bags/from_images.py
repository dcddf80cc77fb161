# SPDX-License-Identifier: Apache-2.0
"""A folder of images, with or without label images, becomes a bag."""

from __future__ import annotations

from collections.abc import Sequence
import logging
from pathlib import Path
import re

import numpy as np
from numpy.typing import NDArray

from multishift_perception import bags
from multishift_perception.errors import MultishiftError
from multishift_perception.files import command_of
from multishift_perception.folders import natural
from multishift_perception.images.decoding import decode_file
from multishift_perception.images.frame_errors import FrameError
from multishift_perception.images.label_map import read_labels
from multishift_perception.images.listing import PICTURES, list_files
from multishift_perception.progress import track

logger = logging.getLogger(__name__)

_TOPIC = re.compile(r'(/[A-Za-z][A-Za-z0-9_]*)+')
# Kinds of files that are named where there is no image.
_SHOWN = 6


def make_bag(
    images: Path,
    out: Path,
    *,
    topic: str,
    rate: float,
    labels: Path | None,
    label_map: NDArray[np.uint8],
) -> int:
    """Write every JPEG, PNG and WebP under ``images``, in natural order, as a bag.

    Beside each frame goes the CameraInfo of an uncalibrated camera, and its ground truth where
    there are labels.

    Args:
        images: folder that is searched with all its folders, linked ones too.
        out: bag to write, ``.mcap``.
        topic: image topic; the others have names beside it.
        rate: frames per second, > 0.
        labels: folder of label images named as the frames are, ``.png``: in the same folders, or
            all in one. None writes no ground truth.
        label_map: look-up table ``uint8 [256]`` for the values of the label images.

    Returns:
        Number of frames.

    Raises:
        MultishiftError: no image, an unreadable one, or labels that are missing or do not fit.
    """
    if not _TOPIC.fullmatch(topic):
        raise MultishiftError(f'{topic!r} is no absolute topic name, such as /camera/image_raw')
    frames = find_images(images)
    # Found before any work is done: a missing label must not surface after half an hour.
    truths = [None if labels is None else _label_file(labels, images, f) for f in frames]
    info_topic, truth_topic = bags.info_topic(topic), bags.truth_topic(topic)
    frame_id = f'{bags.camera_of(topic).replace("/", "_")}_optical_frame'
    with bags.BagWriter(out) as bag:
        pairs = track(zip(frames, truths, strict=True), 'make-bag', len(frames), unit='frame')
        for i, (file, truth) in enumerate(pairs):
            stamp = bags.EPOCH_NS + round(i * 1e9 / rate)
            image = _read_image(file)
            height, width = image.shape[:2]
            bag.image(topic, stamp, frame_id, image)
            bag.camera_info(info_topic, stamp, frame_id, width=width, height=height)
            if truth is not None:
                values = read_labels(truth, label_map)
                if values.shape != (height, width):
                    raise MultishiftError(
                        f'{truth}: has {values.shape[1]} x {values.shape[0]} pixels, '
                        f'its frame {file.name} {width} x {height}'
                    )
                bag.image(truth_topic, stamp, frame_id, values)
    return len(frames)


def find_images(folder: Path) -> list[Path]:
    """Return the images under a folder, numbers in their names in the order of their values.

    Reports in folders below it are left out: what `multishift predict` drew of images would be
    taken for more of them.

    Raises:
        MultishiftError: the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise MultishiftError(f'{folder}: no such folder of images')
    files = list(list_files(folder))
    found = without_reports([f for f in files if f.suffix.lower() in PICTURES], folder)
    if not found:
        others = sorted({f.suffix for f in files if f.suffix.lower() not in PICTURES} - {''})
        named = ', '.join(others[:_SHOWN]) + (', ...' if len(others) > _SHOWN else '')
        mend = f', but {named}: name videos and bags themselves, and convert images'
        raise MultishiftError(
            f'{folder}: no {", ".join(PICTURES)} image in it{mend if others else ""}'
        )
    return sorted(found, key=natural)


def without_reports(files: Sequence[Path], folder: Path) -> list[Path]:
    """Return the files under a folder that lie in no report below it, and name the reports."""
    holding = {file.parent for file in files}
    above = {f for held in holding for f in (held, *held.parents)}
    below = (f for f in above if f != folder and f.is_relative_to(folder))
    reports = {path: command for path in sorted(below) if (command := command_of(path))}
    for report, command in reports.items():
        logger.warning('%s is left out: it is a report of `%s`', report, command)
    return [file for file in files if reports.keys().isdisjoint(file.parents)]


def _label_file(labels: Path, images: Path, image: Path) -> Path:
    mirrored = labels / image.relative_to(images).with_suffix('.png')
    together = labels / f'{image.stem}.png'
    for candidate in (mirrored, together):
        if candidate.is_file():
            return candidate
    raise MultishiftError(f'{mirrored}: no such label image, for the frame {image}')


def _read_image(file: Path) -> NDArray[np.uint8]:
    try:
        return decode_file(file.read_bytes())
    except (FrameError, OSError) as error:
        raise MultishiftError(f'{file}: {error}; copy it again or take it away') from error
