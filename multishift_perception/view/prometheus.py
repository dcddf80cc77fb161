# SPDX-License-Identifier: Apache-2.0
"""The state of all cameras as Prometheus reads it: its text format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from multishift_perception.view.board import Board
from multishift_perception.view.feed import Feed

CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

Sample = tuple[dict[str, str], float]


def metrics_text(feed: Feed, board: Board) -> str:
    """Return the figures of a feed, and how many look at each picture."""
    return ''.join(
        f'# HELP multishift_{name} {about}\n# TYPE multishift_{name} {kind}\n'
        + ''.join(
            f'multishift_{name}{_labels(labels)} {value:.15g}\n' for labels, value in samples
        )
        for name, kind, about, samples in _metrics(feed, board)
        if samples
    )


def _metrics(feed: Feed, board: Board) -> Iterator[tuple[str, str, str, Sequence[Sample]]]:
    cameras = [({'camera': camera.name}, camera) for camera in feed.cameras()]
    threshold = feed.threshold
    yield (
        'anomaly_threshold',
        'gauge',
        'Calibrated score from which a pixel is anomalous.',
        [] if threshold is None else [({}, threshold)],
    )
    level = 'How it is: 0 is well, 1 a warning, 2 an error, 3 silence.'
    yield 'level', 'gauge', level, [({}, feed.notice().level)]
    yield 'camera_level', 'gauge', level, [(at, camera.notice.level) for at, camera in cameras]
    yield (
        'processed_rate_hertz',
        'gauge',
        'Frames processed a second, of late.',
        [(at, camera.rate) for at, camera in cameras],
    )
    yield (
        'frame_age_seconds',
        'gauge',
        'Since the newest frame that somebody sees was taken.',
        [(at, camera.age) for at, camera in cameras if camera.age is not None],
    )
    yield (
        'frames_received_total',
        'counter',
        'Frames that came.',
        [(at, camera.received) for at, camera in cameras],
    )
    yield (
        'frames_processed_total',
        'counter',
        'Frames whose results came out.',
        [(at, camera.processed) for at, camera in cameras],
    )
    yield (
        'frames_dropped_total',
        'counter',
        'Frames that were dropped, by cause.',
        [
            ({**at, 'cause': cause}, count)
            for at, camera in cameras
            for cause, count in camera.dropped.items()
        ],
    )
    yield (
        'anomalous_regions',
        'gauge',
        'Anomalies of the newest frame; of cameras whose list somebody reads.',
        [(at, len(camera.regions)) for at, camera in cameras if camera.regions is not None],
    )
    yield (
        'covariate_shift',
        'gauge',
        'Distance of how frames look from the training images; above 1 they look as none did.',
        [(at, c.shift.covariate) for at, c in cameras if c.shift.covariate is not None],
    )
    yield (
        'semantic_shift',
        'gauge',
        'Anomalous share of the ground in the newest frame, of footage.',
        [(at, c.shift.semantic) for at, c in cameras if c.shift.semantic is not None],
    )
    yield (
        'viewers',
        'gauge',
        'Browsers that look at a picture.',
        [
            ({'camera': camera, 'picture': kind}, count)
            for (camera, kind), count in board.viewers().items()
        ],
    )


def _labels(labels: dict[str, str]) -> str:
    text = ','.join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f'{{{text}}}' if text else ''


def _escaped(value: str) -> str:
    return value.replace('\\', r'\\').replace('"', r'\"').replace('\n', r'\n')
