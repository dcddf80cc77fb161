# SPDX-License-Identifier: Apache-2.0
"""Frames from wherever they are: images, folders, videos, cameras, streams, bags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
import glob
import logging
import os
from pathlib import Path, PurePath
from typing import NamedTuple

import cv2

from multishift_perception.arrays import Bytes, as_bytes
from multishift_perception.bags import BagReader, camera_name, choose_topics, stamp_ns
from multishift_perception.bags.from_images import find_images, without_reports
from multishift_perception.bags.location import is_bag
from multishift_perception.errors import MultishiftError
from multishift_perception.folders import matching, named_folder, natural
from multishift_perception.images.codec import decode
from multishift_perception.images.decoding import decode_file, exif_orientation
from multishift_perception.images.frame_errors import BrokenFrame
from multishift_perception.images.listing import PICTURES, is_listed, list_files

logger = logging.getLogger(__name__)

# What containers say of their length is now and then a guess: so much less is a fault.
_WHOLE = 0.95


class Frame(NamedTuple):
    """A frame that has not been decoded yet.

    Attributes:
        name: for people.
        place: what files about it are called, without a suffix, below a folder of their own.
        read: decodes it to RGB ``uint8 [h,w,3]`` or raises FrameError; once, and before the next
            frame is asked for.
        stamp_ns: of its header; None where there is none.
    """

    name: str
    place: PurePath
    read: Callable[[], Bytes]
    stamp_ns: int | None = None


@dataclass(frozen=True)
class Footage:
    """Frames of one camera or several.

    Attributes:
        name: of the folder, the video or the bag.
        count: number of frames, unreadable ones too; None where nobody knows.
        frames: in order.
        rate: frames a second; None where they are no video.
        is_live: whether it goes on until someone ends it, and frames wait for nothing.
    """

    name: str
    count: int | None
    frames: Iterator[Frame]
    rate: float | None = None
    is_live: bool = False


def open_footage(source: str, stack: ExitStack, *, every: int = 1) -> list[Footage]:
    """Open whatever a person may call footage; a bag is one footage for each of its cameras.

    Args:
        source: an image, a folder of images, a pattern such as ``photos/*.jpg``, a video, a bag,
            the index of a camera of this machine, or the URL of a stream.
        stack: closes it.
        every: take every n-th frame.

    Raises:
        MultishiftError: there is no such thing, or it cannot be opened.
    """
    if not source:
        raise MultishiftError('SOURCE is an empty text: name an image, a folder, a video or a bag')
    try:
        return _opened(source, stack, every)
    except PermissionError as error:
        raise MultishiftError(
            f'{source}: cannot be read ({error.strerror}): mend its permissions'
        ) from error


def is_live(source: str) -> bool:
    """Return whether a source is a camera of this machine or a stream, by its name."""
    return '://' in source or (source.isdecimal() and not Path(source).exists())


def _opened(source: str, stack: ExitStack, every: int) -> list[Footage]:
    path = Path(source)
    if is_live(source):
        return [video_footage(source, stack, every=every)]
    if not path.exists() and glob.has_magic(source):
        # Not the pattern's: a folder called * is removed together with all others.
        name = named_folder(source).resolve().name or 'images'
        return [files_footage(_matching(source), name, every=every)]
    if not path.exists():
        raise MultishiftError(
            f'{source}: no such file or folder: give an image, a folder, a video, a bag, the '
            "index of a camera, or a stream's URL"
        )
    if is_bag(path):
        if path.is_dir() and any(is_picture(file) for file in list_files(path, depth=1)):
            logger.warning('%s is read as a bag: the images in it are left out', source)
        reader = stack.enter_context(BagReader(path))
        return [
            replace(bag_footage(reader, [topic], every=every), name=camera_name(topic))
            for topic in choose_topics(reader)
        ]
    if path.is_dir():
        return [images_footage(path, every=every)]
    if is_picture(path):
        return [files_footage([path], path.stem, every=every)]
    return [video_footage(source, stack, every=every)]


def distinct_names(footage: Iterable[Footage], taken: Iterable[str] = ()) -> list[str]:
    """Return a name for each footage, with a number where one of them is called so already.

    Args:
        footage: any; two topics of a bag may be of one camera.
        taken: names that none may have.
    """
    used = set(taken)
    names = []
    for one in footage:
        # A video may be called `...mp4`, and a bag's topics anything; folders are called so.
        plain = one.name if PurePath(one.name).name == one.name != '..' else 'footage'
        name, number = plain, 1
        while name in used:
            number += 1
            name = f'{plain}_{number}'
        used.add(name)
        names.append(name)
    return names


def find_cameras(source: str) -> list[str]:
    """Return a name for each footage of a source, which is opened and closed; see `open_footage`.

    Raises:
        MultishiftError: it cannot be opened.
    """
    with ExitStack() as stack:
        return distinct_names(open_footage(source, stack))


def is_picture(path: Path) -> bool:
    """Return whether a path is an image file, by its name."""
    return path.suffix.lower() in PICTURES and os.path.isfile(path)


def images_footage(folder: Path, *, every: int = 1) -> Footage:
    """Return every n-th image under a folder, in natural order.

    Raises:
        MultishiftError: the folder is missing or holds no image.
    """
    return files_footage(find_images(folder), folder.resolve().name, root=folder, every=every)


def files_footage(
    files: Sequence[Path], name: str, *, root: Path | None = None, every: int = 1
) -> Footage:
    """Return every n-th of some image files.

    Args:
        files: in order; one that is given again is left out.
        name: of them all.
        root: what their names start below; None for the lowest folder that holds all.
        every: take every n-th.
    """
    chosen = list(dict.fromkeys(files))[::every]
    if root is None:
        # Resolved: a `..` in a name of today would lead out of the folder that is written.
        full = [file.parent.resolve() / file.name for file in chosen]
        top = os.path.commonpath([file.parent for file in full])
    else:
        full, top = chosen, str(root)
    below = [path.relative_to(top) for path in full]
    turned: list[Path] = []
    frames = (
        Frame(str(path), place, partial(_read_file, file, turned))
        for path, place, file in zip(below, _places(below), chosen, strict=True)
    )
    return Footage(name, len(chosen), frames)


def _places(files: Sequence[Path]) -> list[Path]:
    """Return files without their suffixes, where no two are then the same."""
    bare = [path.with_suffix('') for path in files]
    # a.jpg beside a.png, or beside a.jpg.png
    shared = {path for path, count in Counter(bare).items() if count > 1} | set(files)
    return [full if short in shared else short for full, short in zip(files, bare, strict=True)]


def bag_footage(reader: BagReader, topics: Sequence[str], *, every: int = 1) -> Footage:
    """Return every n-th frame of each of some image topics of an opened bag."""
    count = sum(-(-reader.count([topic]) // every) for topic in topics)
    count_of_each, seconds = count / len(topics), reader.duration
    return Footage(
        reader.path.resolve().name,
        count,
        _of_bag(reader, topics, every),
        rate=(count_of_each - 1) / seconds if seconds and count_of_each > 1 else None,
    )


def video_footage(source: str, stack: ExitStack, *, every: int = 1) -> Footage:
    """Return every n-th frame of what OpenCV opens: a video, a camera of this machine, a stream.

    Args:
        source: path, index or URL.
        stack: closes it.
        every: take every n-th frame.

    Raises:
        MultishiftError: it cannot be opened.
    """
    path = Path(source)
    is_file = path.exists()
    check_for_opencv(source)
    capture = cv2.VideoCapture()
    stack.callback(capture.release)
    try:
        with _quiet_opencv():
            capture.open(int(source) if source.isdecimal() and not is_file else source)
    except cv2.error as error:  # an index that no machine word holds
        raise MultishiftError(_unopened(source, is_file)) from error
    if not capture.isOpened():
        raise MultishiftError(_unopened(source, is_file))
    rate = capture.get(cv2.CAP_PROP_FPS)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if is_file else 0
    return Footage(
        path.stem if is_file else ('camera' if source.isdecimal() else 'stream'),
        -(-count // every) if count > 0 else None,
        _of_video(capture, every, source, count),
        rate=rate / every if 0 < rate < 1000 else None,
        is_live=not is_file,
    )


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Silence what OpenCV says of each way that does not fit: that none did is said at the end."""
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def check_for_opencv(path: Path | str) -> None:
    """See that OpenCV takes the path of a video: of one that is not UTF-8 it dies.

    Raises:
        MultishiftError: it does not.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise MultishiftError(
            f'{str(path)!r}: OpenCV takes no video with a name that is not UTF-8: rename it'
        ) from error


def _unopened(source: str, is_file: bool) -> str:
    if is_file:
        return (
            f'{source}: neither an image ({", ".join(PICTURES)}) nor a bag, nor a video that '
            'OpenCV opens: convert it'
        )
    if source.isdecimal():
        return f'camera {source} cannot be opened: see `ls /dev/video*`, and who else uses it'
    return f'{source}: the stream cannot be opened: see whether another player does'


def _matching(pattern: str) -> list[Path]:
    """Return the images that a pattern matches, in natural order, but those of reports.

    As with a folder, that is of reports below what the pattern names as it is.
    """
    pictures = [
        path
        for path in matching(pattern)
        if path.suffix.lower() in PICTURES and not path.is_dir() and is_listed(path)
    ]
    found = without_reports(pictures, named_folder(pattern))
    if not found:
        raise MultishiftError(f'{pattern}: matches no {", ".join(PICTURES)} image')
    return sorted(found, key=natural)


def _of_bag(reader: BagReader, topics: Sequence[str], every: int) -> Iterator[Frame]:
    seen: Counter[str] = Counter()
    start: int | None = None
    for topic, message, time in reader.messages(topics):
        start = time if start is None else start
        if seen[topic] % every == 0:
            yield Frame(
                f'{topic} at {(time - start) / 1e9:.2f} s',
                PurePath(f'{seen[topic]:06d}'),
                partial(decode, message),
                stamp_ns(message),
            )
        seen[topic] += 1


def _of_video(
    capture: cv2.VideoCapture, every: int, source: str, promised: int
) -> Iterator[Frame]:
    number = 0
    while capture.grab():
        if number % every == 0:
            place = PurePath(f'{number:06d}')
            yield Frame(f'frame {number}', place, partial(_retrieve, capture))
        number += 1
    if number < promised * _WHOLE:
        logger.warning(
            '%s: only the first %d of its %d frames can be read: it is damaged',
            source,
            number,
            promised,
        )


def _retrieve(capture: cv2.VideoCapture) -> Bytes:
    whole, image = capture.retrieve()
    if not whole:
        raise BrokenFrame('it cannot be decoded')
    return as_bytes(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _read_file(file: Path, turned: list[Path]) -> Bytes:
    """Read an image, and tell of the first that is to be turned; which it was is noted."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BrokenFrame(f'it cannot be read ({error.strerror})') from error
    image = decode_file(data)
    if not turned and (orientation := exif_orientation(data)) != 1:
        turned.append(file)
        logger.warning(
            '%s is taken as the sensor stored it, though its EXIF orientation is %d: turn such '
            'images themselves if the sensor was held otherwise than it drives',
            file,
            orientation,
        )
    return image
