# SPDX-License-Identifier: Apache-2.0
"""What shifts, objects and confidence cost of CPU: 1280 x 720, by an engine of 512 x 288.

python test/benchmark/object_cost.py
"""

from __future__ import annotations

from collections.abc import Callable
import time

import cv2
import numpy as np

from multishift_perception.classes import CITYSCAPES
from multishift_perception.engine import Look
from multishift_perception.ground_plane import Calibration, Mounting
from multishift_perception.objects import ObjectFinder
from multishift_perception.pipeline import FrameOutput
from multishift_perception.shift import ShiftMeter

_CALLS = 200
_ENGINE, _CAMERA = (288, 512), (720, 1280)
_STATISTICS, _DOMAINS = 48, 2


def measure(name: str, call: Callable[[], object]) -> None:
    """Print the CPU time of a call, of all threads."""
    call()
    begin = time.process_time()
    for _ in range(_CALLS):
        call()
    print(f'{name:45} {1000 * (time.process_time() - begin) / _CALLS:6.3f} ms')


def main() -> None:
    """Print a line for each part."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    labels = np.zeros(_ENGINE, np.uint8)
    labels[:140] = 2
    coarse = rng.normal(100, 14, (36, 64)).astype(np.float32)
    smooth = cv2.resize(coarse, _ENGINE[::-1], interpolation=cv2.INTER_CUBIC)
    anomaly = np.clip(smooth, 0, 255).astype(np.uint8)
    anomaly[180:220, 230:280] = 220
    output = FrameOutput(labels, anomaly, anomaly.astype(np.float32), _CAMERA, confidence=anomaly)
    regions = cv2.connectedComponents((anomaly >= 128).astype(np.uint8))[0] - 1
    print(f'{(anomaly >= 128).mean():.1%} anomalous in {regions} regions')
    eye = np.eye(_STATISTICS, dtype=np.float32)
    look = Look(np.zeros((_DOMAINS, _STATISTICS), np.float32), np.stack([eye] * _DOMAINS))
    row = np.ones((1, _STATISTICS), np.float32)
    measure('covariate shift, always', lambda: look.distances(row))
    meter = ShiftMeter(CITYSCAPES)
    measure('semantic shift, if watched', lambda: meter.measure(output, 0.5))
    finder = ObjectFinder(CITYSCAPES)
    calibration, mounting = Calibration((700.0, 700.0, 640.0, 360.0)), Mounting(1.5)
    measure(
        'objects, if watched',
        lambda: finder.find(output, 0.5, min_hits=1, calibration=calibration, mounting=mounting),
    )
    place = np.empty(_CAMERA, np.uint8)
    measure('confidence, if watched', lambda: output.write_confidence(place))


if __name__ == '__main__':
    main()
