# SPDX-License-Identifier: Apache-2.0
"""From ordinary footage to the operating point that a share of its pixels reach."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
import math

import numpy as np
from numpy.typing import NDArray

from multishift_perception import __version__
from multishift_perception.arrays import Bytes
from multishift_perception.calibration.bundle import built_calibration
from multishift_perception.calibration.knots import move_operating_point
from multishift_perception.calibration.shares import FrameShares, limit_of
from multishift_perception.engine import Calibration, Engine, Look
from multishift_perception.engine.look import LEAST_FRAMES
from multishift_perception.errors import MultishiftError
from multishift_perception.footage import Footage
from multishift_perception.images.blank import check_content, is_blank
from multishift_perception.images.frame_errors import FrameError
from multishift_perception.pipeline import FrameOutput, Pipeline
from multishift_perception.progress import track
from multishift_perception.report.calibration_report import CalibrationReport, Curve
from multishift_perception.report.provenance import provenance

# False alarms come in patches, many to a frame: fewer frames or pixels tell little of a share.
_LEAST_FRAMES, _LEAST_PIXELS = 10, 1000
# A share may come out this much smaller than asked for; by more only where many scores are equal.
_SHORT = 0.8


def check_share(false_alarms: float) -> None:
    """Raise MultishiftError where no operating point can have such a share above it."""
    if not 0 < false_alarms < 0.5:
        raise MultishiftError(
            f'--false-alarms {false_alarms:g} is no share of ordinary pixels between 0 and 0.5: '
            'give 0.01 for one in a hundred'
        )


def calibrate(
    engine: Engine, footage: Footage, *, false_alarms: float
) -> tuple[Calibration, CalibrationReport, Look | None]:
    """Find the operating point that a share of ordinary pixels reach, at the camera's size.

    How the frames look is fitted, too, where the engine tells it and there are enough of them.

    Frames that cannot be read are counted, and left out.

    Args:
        engine: loaded; whatever its bundle was calibrated on since, its first curve is moved.
        footage: ordinary frames; `shares` says what true anomalies among them do.
        false_alarms: the share, above 0 and below 0.5.

    Raises:
        MultishiftError: the share is out of range, no frame can be read, none shows anything, they
            are too few for the share, or their scores are all alike.
    """
    check_share(false_alarms)
    names: list[str] = []
    unreadable: list[str] = []
    blank: list[str] = []
    shares = FrameShares()
    looks: list[NDArray[np.float32]] = []
    for name, output in _outputs(engine, footage, unreadable, blank):
        names.append(name)
        shares.add(output.score)
        if output.look is not None:
            looks.append(output.look)
    if not names:
        raise MultishiftError(
            f'{footage.name}: none of {len(unreadable)} frames can be read; the first: '
            f'{unreadable[0] if unreadable else "there is none"}'
        )
    check_content(
        blank,
        len(names),
        every=f'{footage.name}: each of {len(names)} frames',
        some=f'{footage.name}: {len(blank)} of {len(names)} frames',
    )
    _check_amount(shares, false_alarms, footage.name)
    point = shares.threshold(false_alarms)
    _check_ties(shares, point, false_alarms, footage.name)
    calibration = move_operating_point(
        built_calibration(engine.manifest),
        point,
        rule=f'score that {100 * false_alarms:g}% of ordinary pixels reach',
        dataset=f'{len(names)} frames of {footage.name}, without labels',
    )
    found = shares.of_frames(point)
    enough = len(looks) >= LEAST_FRAMES
    look = Look.fit({footage.name: np.stack(looks)}) if enough else None
    report = CalibrationReport(
        footage=footage.name,
        frames=len(names) + len(unreadable),
        false_alarms=false_alarms,
        before=_curve(shares, engine.manifest.calibration),
        after=_curve(shares, calibration),
        names=tuple(names),
        shares=found,
        limit=limit_of(found),
        unreadable=tuple(unreadable),
        provenance={'footage': f'{footage.name}, {len(names)} frames', **provenance(engine)},
    )
    return calibration, report, look


def origin(report: CalibrationReport, engine: Engine) -> dict[str, str | float]:
    """Return where a calibration comes from, for the manifest."""
    return {
        'footage': report.footage,
        'frames': len(report.names),
        'false_alarms': report.false_alarms,
        'backend': engine.backend,
        'created': datetime.now(UTC).strftime('%Y-%m-%d %H:%M UTC'),
        'software': f'multishift_perception {__version__}',
    }


def _outputs(
    engine: Engine, footage: Footage, unreadable: list[str], blank: list[str]
) -> Iterator[tuple[str, FrameOutput]]:
    """Yield the name and what the engine says of every readable frame.

    The others, and which of them show nothing, are noted.
    """
    pipeline = Pipeline(engine)
    batch: list[tuple[str, Bytes]] = []

    def run() -> Iterator[tuple[str, FrameOutput]]:
        outputs = pipeline.run([image for _, image in batch])
        for (name, _), output in zip(batch, outputs, strict=True):
            yield name, output
        batch.clear()

    for frame in track(footage.frames, 'calibrate', footage.count, unit='frame'):
        try:
            image = frame.read()
        except FrameError as error:
            unreadable.append(f'{frame.name}: {error}')
            continue
        if is_blank(image):
            blank.append(frame.name)
        batch.append((frame.name, image))
        if len(batch) == engine.input_shape[0]:
            yield from run()
    yield from run()


def _check_amount(shares: FrameShares, false_alarms: float, name: str) -> None:
    least = max(
        _LEAST_FRAMES, math.ceil(_LEAST_PIXELS / (false_alarms * shares.pixels / len(shares)))
    )
    if len(shares) < least:
        raise MultishiftError(
            f'{name}: {len(shares)} frames of {shares.pixels // len(shares)} pixels are too few '
            f'for a share of {false_alarms:g}: give {least} at least, better some hundred'
        )


def _check_ties(shares: FrameShares, point: float, false_alarms: float, name: str) -> None:
    low, high = shares.range
    if shares.robust(point) < _SHORT * false_alarms:
        raise MultishiftError(
            f'{name}: no score parts a share of {false_alarms:g} from the rest: too many pixels '
            f'have one and the same (all lie in {low:.4g} to {high:.4g}): give other footage, or '
            'an engine whose score is not constant'
        )


def _curve(shares: FrameShares, calibration: Calibration) -> Curve:
    return Curve(
        operating_point=calibration.operating_point,
        levels=shares.distribution(calibration),
        ordinary=shares.robust(calibration.operating_point),
    )
