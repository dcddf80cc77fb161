# SPDX-License-Identifier: Apache-2.0
"""What an engine said of a drive as a recording (``.rrd``) that the Rerun viewer opens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import logging
import os
from pathlib import Path
import queue
import threading
from time import monotonic, sleep
from typing import Any

import numpy as np

from multishift_perception.classes import NOVEL, NOVEL_COLOR, VOID, SemanticClass
from multishift_perception.destinations import RECORDING, check_file
from multishift_perception.errors import MultishiftError, install_extra, one_line
from multishift_perception.files import WRITTEN_BY, replacing
from multishift_perception.images.codec import encode_jpeg
from multishift_perception.pipeline import Pixels
from multishift_perception.regions import find_regions

logger = logging.getLogger(__name__)

# By this name the viewer knows recordings of one kind, and we our own.
APPLICATION = WRITTEN_BY[1]
_CLEAR = (0, 0, 0, 0)
# Frames after which all is handed over to the file, and how long that may take.
_FLUSH_EVERY, _PATIENCE_S = 16, 60.0
# How long it may take before it is told, and between two looks.
_SHORT_S, _POLL_S = 2.0, 0.01
# What the viewer shows at first.
_VIEWS = {
    'what the engine saw': ('image', 'labels', 'anomalies'),
    'anomalies': ('image', 'mask', 'anomalies'),
    'score': ('score',),
}
_CURVES = {'anomalous_share': 'anomalous share', 'latency_ms': 'latency (ms)'}


class RerunFile:
    """A new recording; use it as `writing_rerun` gives it.

    Below the name of each camera, which is one entity whatever is in it, are ``image``,
    ``labels``, ``score`` (levels, 128 is the operating point), ``mask``, ``anomalies`` (boxes with
    their mean score), ``truth`` where there is one, and the curves ``anomalous_share`` and
    ``latency_ms``; all by the timeline ``stamp``, or ``frame`` where frames have no stamps.
    """

    def __init__(
        self, rerun: Any, path: Path, classes: Sequence[SemanticClass], *, name: Path
    ) -> None:
        """Begin the recording.

        Args:
            rerun: the library.
            path: where to write it.
            classes: known classes.
            name: the file that it becomes, for messages.
        """
        self._rerun = rerun
        self._name = name
        self._frames = 0
        self._cameras: dict[str, int] = {}  # frames of each, in the order of their first ones
        self._recording = rerun.RecordingStream(APPLICATION)
        self._recording.set_log_tick_enabled(False)
        self._recording.set_log_time_enabled(False)
        self._file = _PipedFile(path)
        with self._file.inlet() as inlet:
            self._recording.save(inlet)
        named = [(i, known.name, known.color) for i, known in enumerate(classes)]
        extra = [(NOVEL, 'novel object', NOVEL_COLOR), (VOID, 'void', _CLEAR)]
        self._recording.log('/', rerun.AnnotationContext([*named, *extra]), static=True)

    def add(self, camera: str, stamp_ns: int | None, latency_ms: float, seen: Pixels) -> None:
        """Add a frame.

        Args:
            camera: name of the camera, below which it is found.
            stamp_ns: stamp of its header; None of what has none, which goes by numbers.
            latency_ms: how long it took.
            seen: the frame, and what the engine says of it.
        """
        rerun = self._rerun
        regions = find_regions(seen.mask, seen.anomaly)
        jpeg = encode_jpeg(seen.image).tobytes()
        outlined = np.where(seen.mask != 0, NOVEL, VOID).astype(np.uint8)
        parts = {
            'image': rerun.EncodedImage(contents=jpeg, media_type='image/jpeg'),
            'labels': rerun.SegmentationImage(seen.labels),
            'score': rerun.DepthImage(seen.anomaly, colormap='inferno', depth_range=(0, 255)),
            'mask': rerun.SegmentationImage(outlined),
            'anomalies': rerun.Boxes2D(
                array=np.array([region.box for region in regions], np.float32).reshape(-1, 4),
                array_format=rerun.Box2DFormat.XYWH,
                labels=[f'{region.mean_score:.2f}' for region in regions],
                class_ids=[NOVEL] * len(regions),
            ),
            'anomalous_share': rerun.Scalars(np.count_nonzero(seen.mask) / seen.mask.size),
            'latency_ms': rerun.Scalars(latency_ms),
        }
        if seen.truth is not None:
            parts['truth'] = rerun.SegmentationImage(seen.truth)
        number = self._cameras.get(camera, 0)
        if stamp_ns is None:
            self._recording.set_time('frame', sequence=number)
        else:
            self._recording.set_time('stamp', timestamp=np.datetime64(stamp_ns, 'ns'))
        for name, part in parts.items():
            self._recording.log(self._entity(camera, name), part)
        self._cameras[camera] = number + 1
        self._frames += 1
        if self._frames % _FLUSH_EVERY == 0:
            self.flush()

    def arrange(self) -> None:
        """Tell the viewer what to show at first: what was seen of each camera, and the curves."""
        blueprint = self._rerun.blueprint
        cameras = [
            blueprint.Horizontal(
                *(
                    blueprint.Spatial2DView(
                        name=f'{camera}: {name}',
                        origin=self._entity(camera),
                        contents=[self._entity(camera, part) for part in parts],
                    )
                    for name, parts in _VIEWS.items()
                )
            )
            for camera in self._cameras
        ]
        curves = [
            blueprint.TimeSeriesView(
                name=name,
                origin='/',
                contents=[self._entity(camera, part) for camera in self._cameras],
            )
            for part, name in _CURVES.items()
        ]
        rows = blueprint.Vertical(*cameras, blueprint.Horizontal(*curves))
        self._recording.send_blueprint(blueprint.Blueprint(rows, collapse_panels=True))

    def _entity(self, *names: str) -> str:
        return str(self._rerun.new_entity_path(list(names)))

    def flush(self) -> None:
        """Wait until hardly anything is left to be written.

        Raises:
            OSError: the file cannot be written.
            MultishiftError: it is written too slowly.
        """
        try:
            self._recording.flush(timeout_sec=_PATIENCE_S)
        except RuntimeError as error:  # of the library, which has no kind of its own for it
            raise self._too_slow(one_line(error)) from error
        self._await(self._file.is_written)

    def close(self) -> None:
        """End the recording.

        Raises:
            OSError: the file could not be written.
            MultishiftError: it is written too slowly.
        """
        self._recording.disconnect()
        self._await(self._file.is_closed)

    def abandon(self) -> None:
        """End a recording that nobody is to have; a disk that takes nothing is not waited for."""
        self._recording.disconnect()
        self._file.is_closed(_SHORT_S)

    def _await(self, is_done: Callable[[float], bool]) -> None:
        """Wait for the file, by what says whether it is done within some seconds."""
        if not is_done(_SHORT_S):
            logger.warning('waiting for the disk of %s; Ctrl-C gives it up', self._name)
            if not is_done(_PATIENCE_S):
                raise self._too_slow('nothing came back from the disk')
        self._file.check()

    def _too_slow(self, reason: str) -> MultishiftError:
        return MultishiftError(
            f'{self._name}: the last frames were not written within {_PATIENCE_S:.0f} s '
            f'({reason}): name a file on a faster disk with --rerun'
        )


class _PipedFile:
    """A file that is written through a pipe, which takes all, also where the file does not.

    The library's own writer ends at the first fault, does not say which it was, and leaves the
    next flush waiting for ever: it never gets to see one. Nor does it see a disk that takes
    nothing, as one of the network that is gone: no signal would end its waiting for that.
    """

    def __init__(self, path: Path) -> None:
        """Begin to write what comes through the pipe."""
        self._outlet, self._inlet = os.pipe()
        self._came: queue.SimpleQueue[bytes] = queue.SimpleQueue()  # nothing at the end
        self._fault: OSError | None = None
        self._writer = threading.Thread(
            target=self._write, args=(path,), name='rerun', daemon=True
        )
        self._writer.start()
        threading.Thread(target=self._take, name='rerun pipe', daemon=True).start()

    @contextmanager
    def inlet(self) -> Iterator[str]:
        """Yield what to open for writing in the block; the file ends with who opened it."""
        try:
            yield f'/dev/fd/{self._inlet}'
        finally:
            os.close(self._inlet)

    def check(self) -> None:
        """Raise the fault that writing met, an `OSError`, if any."""
        if self._fault is not None:
            raise self._fault

    def is_written(self, seconds: float) -> bool:
        """Wait until all that came but its last piece is written; return whether it is in time."""
        end = monotonic() + seconds
        while not self._came.empty() and monotonic() < end:
            sleep(_POLL_S)
        return self._came.empty()

    def is_closed(self, seconds: float) -> bool:
        """Wait until all up to the pipe's end is written; return whether it is in time."""
        self._writer.join(seconds)
        return not self._writer.is_alive()

    def _take(self) -> None:
        with open(self._outlet, 'rb') as pipe:
            while data := pipe.read1():
                self._came.put(data)
        self._came.put(b'')

    def _write(self, path: Path) -> None:
        is_at_end = False
        try:
            with path.open('wb') as file:
                while data := self._came.get():
                    file.write(data)
                is_at_end = True  # though the file may take the last of it only as it is closed
        except OSError as error:
            self._fault = error
            while not is_at_end:  # so that nobody waits for it to be written
                is_at_end = not self._came.get()


@contextmanager
def writing_rerun(path: Path, classes: Sequence[SemanticClass]) -> Iterator[RerunFile]:
    """Yield a recording that appears at ``path``, whole, when the block ends without an error.

    Args:
        path: the file, ``.rrd``.
        classes: known classes, for their names and colours.

    Raises:
        MultishiftError: the library is not installed, or the disk is full or too slow.
    """
    rerun = load_rerun()
    with replacing(path) as fresh:
        recording = RerunFile(rerun, fresh, classes, name=path)
        try:
            yield recording
            recording.arrange()
        except BaseException:
            recording.abandon()
            raise
        recording.close()


def check_rerun(path: Path, *, force: bool, reads: Sequence[Path | None]) -> None:
    """See that a recording can be written, before anything is done for it.

    Args:
        path: where.
        force: whether one that was made here is replaced.
        reads: what is read, and so not written.

    Raises:
        MultishiftError: it cannot.
    """
    if path.suffix != '.rrd':  # as that of a file of the report, or of --record
        raise MultishiftError(f'{path}: the name that --rerun takes must end in .rrd')
    check_file(path, RECORDING, force=force, reads=reads)
    load_rerun()


def load_rerun() -> Any:
    """Return the library.

    Raises:
        MultishiftError: it is not installed.
    """
    try:
        import rerun
        import rerun.blueprint
    except ImportError as error:
        raise MultishiftError(
            f'a Rerun recording needs rerun-sdk, which is not installed: run '
            f'{install_extra("rerun")}'
        ) from error
    return rerun
