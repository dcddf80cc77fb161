# SPDX-License-Identifier: Apache-2.0
"""An engine over footage: files of every frame, and figures of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
import json
import logging
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from multishift_perception.arrays import Bytes
from multishift_perception.destinations import METRICS, PREDICT
from multishift_perception.engine import Engine
from multishift_perception.files import write_text
from multishift_perception.footage import Footage, Frame, distinct_names
from multishift_perception.images.frame_errors import FrameError
from multishift_perception.prediction.folder import FootageFolder, remove_earlier
from multishift_perception.prediction.frame import Predictor
from multishift_perception.process.signals import waiting_for_block
from multishift_perception.progress import track
from multishift_perception.report.provenance import provenance

logger = logging.getLogger(__name__)


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
    footage: Sequence[Footage], engine: Engine, out: Path, options: Options
) -> list[FootageFigures]:
    """Write what an engine says of some footage below a folder; of several, in a folder each.

    What an earlier run wrote there is removed first.

    Ctrl-C ends live footage, and what comes after it is next.

    Raises:
        MultishiftError: the disk is full, or a bag is damaged; what was written before is whole.
    """
    remove_earlier(out)
    predictor = Predictor(engine, threshold=options.threshold, min_area=options.min_area)
    found: list[FootageFigures] = []
    _write_figures(out, found, engine, options, finished=False)
    for one, name in zip(footage, distinct_names(footage, {METRICS}), strict=True):
        found.append(FootageFigures(name, out if len(footage) == 1 else out / name))
        start = perf_counter()
        try:
            _predict(one, predictor, engine.input_shape[0], found[-1], options)
        finally:
            found[-1].seconds = perf_counter() - start
            _write_figures(out, found, engine, options, finished=False)
    _write_figures(out, found, engine, options, finished=True)
    return found


def _predict(
    footage: Footage, predictor: Predictor, batch: int, found: FootageFigures, options: Options
) -> None:
    folder = FootageFolder(found.folder, options.outputs, footage)
    with folder.writing():
        try:
            for frames in _batches(footage, batch, found):
                predictions = predictor([image for _, image in frames])
                for (frame, _), prediction in zip(frames, predictions, strict=True):
                    anomalous = bool(np.any(prediction.mask))
                    shown = anomalous or not options.only_anomalous
                    with waiting_for_block():
                        folder.add(frame.name, frame.place, prediction, shown=shown)
                        found.frames += 1
                        found.anomalous += anomalous
        except KeyboardInterrupt:
            if not footage.is_live:
                raise
            # Within the block, which keeps the video.
            logger.info('%s: ended', footage.name)


def _batches(
    footage: Footage, size: int, found: FootageFigures
) -> Iterator[list[tuple[Frame, Bytes]]]:
    """Yield frames with their images, as many as an engine call takes; count those at fault.

    Of live footage, each frame is a batch of its own: it would wait for the next.
    """
    size = 1 if footage.is_live else size
    batch: list[tuple[Frame, Bytes]] = []
    for frame in track(footage.frames, footage.name, footage.count, unit='frame'):
        try:
            batch.append((frame, frame.read()))
        except FrameError as error:
            # Of a stream or bag with thousands alike, one of each kind is enough.
            level = logging.DEBUG if found.dropped[error.cause] else logging.WARNING
            logger.log(level, '%s: %s is left out: %s', footage.name, frame.name, error)
            found.dropped[error.cause] += 1
            continue
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


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
    write_text(out / METRICS, json.dumps(content, indent=2) + '\n')
