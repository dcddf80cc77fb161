# SPDX-License-Identifier: Apache-2.0
"""Frames to calibrate on: those of a folder, or of a bag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from multishift_perception.arrays import Bytes
from multishift_perception.bags import BagReader
from multishift_perception.bags.from_images import find_images
from multishift_perception.images.codec import decode
from multishift_perception.images.decoding import decode_file
from multishift_perception.images.frame_errors import BrokenFrame

Read = Callable[[], Bytes]


@dataclass(frozen=True)
class Footage:
    """Frames of one camera or several, in no order that matters.

    Attributes:
        name: of the folder or the bag.
        count: number of frames, unreadable ones too.
        frames: name of each, and what reads it as RGB ``uint8 [h,w,3]`` or raises FrameError.
    """

    name: str
    count: int
    frames: Iterator[tuple[str, Read]]


def images_footage(folder: Path, *, every: int = 1) -> Footage:
    """Return every n-th image under a folder, in natural order.

    Raises:
        MultishiftError: the folder is missing or holds no image.
    """
    files = find_images(folder)[::every]
    frames = ((str(file.relative_to(folder)), partial(_read, file)) for file in files)
    return Footage(folder.resolve().name, len(files), frames)


def bag_footage(reader: BagReader, topics: Sequence[str], *, every: int = 1) -> Footage:
    """Return every n-th frame of each of some image topics of an opened bag."""
    count = sum(-(-reader.count([topic]) // every) for topic in topics)
    return Footage(reader.path.resolve().name, count, _of_bag(reader, topics, every))


def _of_bag(reader: BagReader, topics: Sequence[str], every: int) -> Iterator[tuple[str, Read]]:
    seen: Counter[str] = Counter()
    start: int | None = None
    for topic, message, time in reader.messages(topics):
        start = time if start is None else start
        if seen[topic] % every == 0:
            yield f'{topic} at {(time - start) / 1e9:.2f} s', partial(decode, message)
        seen[topic] += 1


def _read(file: Path) -> Bytes:
    try:
        return decode_file(file.read_bytes())
    except OSError as error:
        raise BrokenFrame(f'it cannot be read ({error.strerror})') from error
