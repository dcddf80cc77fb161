# SPDX-License-Identifier: Apache-2.0
"""An engine over footage: files of every frame, and figures of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
import logging
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from multishift_perception.arrays import Bytes
from multishift_perception.destinations import PREDICT
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.files import METRICS, write_json
from multishift_perception.footage import Footage, Frame, distinct_names
from multishift_perception.images.frame_errors import FrameError
from multishift_perception.prediction.folder import FootageFolder, remove_earlier, remove_report
from multishift_perception.prediction.frame import Predictor
from multishift_perception.process.overlap import read_ahead
from multishift_perception.process.signals import Stopped, waiting_for_block
from multishift_perception.progress import track
from multishift_perception.report.provenance import provenance
from multishift_perception.rerun_file import RerunFile, writing_rerun

logger = logging.getLogger(__name__)

# Frames that wait decoded for the engine.
_AHEAD = 4


@dataclass
class FootageFigures:
    """What came of one footage.

    Attributes:
        name: of the footage, with a number where several are called so.
        folder: of its files.
        frames: frames that the engine saw.
        anomalous: those of them with an anomaly.
        dropped: frames that it did not see, by cause.
        seconds: from the first frame to the last file.
    """

    name: str
    folder: Path
    frames: int = 0
    anomalous: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


@dataclass(frozen=True)
class Options:
    """How predictions are made and what is written.

    Attributes:
        threshold: calibrated score from which a pixel is anomalous.
        min_area: pixels that an anomalous region has at least.
        outputs: of ``OUTPUTS``.
        only_anomalous: write images of anomalous frames alone.
    """

    threshold: float
    min_area: int
    outputs: Collection[str]
    only_anomalous: bool


def predict_footage(
    footage: Sequence[Footage],
    engine: Engine,
    out: Path,
    options: Options,
    *,
    sources: Sequence[str],
    rerun: Path | None = None,
) -> list[FootageFigures]:
    """Write what an engine says of some footage below a folder; of several, in a folder each.

    What an earlier run wrote there is removed first.

    Ctrl-C ends live footage, and what comes after it is next; SIGTERM and SIGHUP end all. What
    was written of live footage is whole either way.

    Args:
        footage: what is seen.
        engine: loaded.
        out: the folder.
        options: how predictions are made and what is written.
        sources: what the footage was opened from, for messages.
        rerun: recording for the Rerun viewer to write; None for none.

    Raises:
        MultishiftError: the disk is full, or a bag is damaged; what was written before is whole.
            Or no frame can be used; nothing is written then.
    """
    remove_earlier(out)
    predictor = Predictor(engine, threshold=options.threshold, min_area=options.min_area)
    found: list[FootageFigures] = []
    _write_figures(out, found, engine, options, finished=False)
    stop: Stopped | None = None
    with ExitStack() as stack:
        log = None if rerun is None else stack.enter_context(writing_rerun(rerun, engine.classes))
        for one, name in zip(footage, distinct_names(footage, {METRICS}), strict=True):
            found.append(FootageFigures(name, out if len(footage) == 1 else out / name))
            start = perf_counter()
            try:
                stop = _predict(one, predictor, engine.input_shape[0], found[-1], options, log)
            finally:
                found[-1].seconds = perf_counter() - start
                _write_figures(out, found, engine, options, finished=False)
            if stop is not None:
                break
        if stop is None and not any(one.frames for one in found):
            # Within the block: no recording appears.
            remove_report(out)
            causes = ', '.join(sorted({cause for one in found for cause in one.dropped}))
            raise MultishiftError(
                f'{", ".join(sources)}: no frame that can be used ({causes or "there are none"})'
            )
    if stop is not None:
        raise stop
    _write_figures(out, found, engine, options, finished=True)
    return found


def _predict(
    footage: Footage,
    predictor: Predictor,
    batch: int,
    found: FootageFigures,
    options: Options,
    log: RerunFile | None,
) -> Stopped | None:
    """Write what there is of one footage; return the signal that ended it and what comes next."""
    folder = FootageFolder(found.folder, options.outputs, footage)
    with folder.writing(), closing(_batches(footage, batch, found)) as batches:
        try:
            for frames in batches:
                start = perf_counter()
                predictions = predictor([image for _, image in frames])
                call_ms = (perf_counter() - start) * 1e3
                for (frame, _), prediction in zip(frames, predictions, strict=True):
                    anomalous = bool(np.any(prediction.mask))
                    shown = anomalous or not options.only_anomalous
                    with waiting_for_block():
                        folder.add(frame.name, frame.place, prediction, shown=shown)
                        found.frames += 1
                        found.anomalous += anomalous
                        if log is not None and shown:
                            log.add(found.name, frame.stamp_ns, call_ms, prediction.pixels)
        except KeyboardInterrupt as interrupt:
            if not footage.is_live:
                raise
            # Within the block, which keeps the video.
            logger.info('%s: ended', footage.name)
            if isinstance(interrupt, Stopped):
                return interrupt
    return None


def _batches(
    footage: Footage, size: int, found: FootageFigures
) -> Generator[list[tuple[Frame, Bytes]], None, None]:
    """Yield frames with their images, as many as an engine call takes; count those at fault.

    Of live footage, each frame is a batch of its own: it would wait for the next.
    """
    size = 1 if footage.is_live else size
    batch: list[tuple[Frame, Bytes]] = []
    read = (_read(frame) for frame in footage.frames)
    # A frame of live footage that waits grows old, and a camera that hangs would hold up the end.
    with closing(read if footage.is_live else read_ahead(read, _AHEAD)) as frames:
        for frame, image in track(frames, footage.name, footage.count, unit='frame'):
            if isinstance(image, FrameError):
                # Of a stream or bag with thousands alike, one of each kind is enough.
                level = logging.DEBUG if found.dropped[image.cause] else logging.WARNING
                logger.log(level, '%s: %s is left out: %s', footage.name, frame.name, image)
                found.dropped[image.cause] += 1
                continue
            batch.append((frame, image))
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch


def _read(frame: Frame) -> tuple[Frame, Bytes | FrameError]:
    try:
        return frame, frame.read()
    except FrameError as error:
        return frame, error


def figures(
    found: Sequence[FootageFigures], engine: Engine, options: Options, *, finished: bool
) -> dict[str, Any]:
    """Return what ``metrics.json`` holds."""
    return {
        'command': PREDICT,
        'finished': finished,
        'threshold': options.threshold,
        'min_area': options.min_area,
        'classes': [asdict(known) for known in engine.classes],
        'sources': [
            {
                'name': one.name,
                'frames': one.frames,
                'anomalous_frames': one.anomalous,
                'dropped': dict(one.dropped),
                'seconds': round(one.seconds, 3),
            }
            for one in found
        ],
        'provenance': provenance(engine),
    }


def _write_figures(
    out: Path,
    found: Sequence[FootageFigures],
    engine: Engine,
    options: Options,
    *,
    finished: bool,
) -> None:
    content = figures(found, engine, options, finished=finished)
    write_json(out / METRICS, content)
