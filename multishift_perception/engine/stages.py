# SPDX-License-Identifier: Apache-2.0
"""What the stages of a call take, from a camera's picture to labels and anomaly of its size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from time import perf_counter

import cv2
import numpy as np

from multishift_perception.engine.engine import Engine
from multishift_perception.engine.types import Part, PictureCall
from multishift_perception.images.picture import Picture
from multishift_perception.images.resizing import fit, resize_labels, resize_scores

# Height and width of most cameras' pictures.
CAMERA_SIZE = (1080, 1920)
_WANTED: frozenset[Part] = frozenset({'labels', 'anomaly'})


def measure_stages(engine: Engine, batch: int, calls: int = 5) -> dict[str, float]:
    """Call an engine with pictures of a camera, blue first, and enlarge its labels and anomaly.

    Args:
        engine: the engine.
        batch: pictures of a call, any of the engine's ``batches``.
        calls: how many to measure, after one that does not count.

    Returns:
        The median seconds of a call's stages, in their order. On a GPU these are ``copy`` to
        page-locked memory, ``upload``, ``shrink``, ``engine``, ``enlarge`` and ``read back``, by
        the GPU's own clock; on a CPU ``shrink``, ``engine`` and ``enlarge``.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (*CAMERA_SIZE, 3), np.uint8)
    pictures = [Picture(pixels, cv2.COLOR_BGR2RGB)] * batch
    run = _on_gpu if engine.takes_pictures else _on_cpu
    _, *measured = [run(engine, pictures) for _ in range(calls + 1)]
    return {
        stage: float(np.median([seconds[stage] for seconds in measured])) for stage in measured[0]
    }


def _on_gpu(engine: Engine, pictures: Sequence[Picture]) -> dict[str, float]:
    stages: dict[str, float] = {}
    calls = [PictureCall(picture, CAMERA_SIZE, _WANTED) for picture in pictures]
    engine.run_pictures(calls, len(calls), stages)
    return stages


def _on_cpu(engine: Engine, pictures: Sequence[Picture]) -> dict[str, float]:
    _, height, width = engine.input_shape
    times = [perf_counter()]
    frames = [picture.like(fit(picture.pixels, (height, width))).rgb() for picture in pictures]
    times.append(perf_counter())
    said = engine.infer(np.stack(frames))
    times.append(perf_counter())
    for label, anomaly in zip(said.label, said.anomaly, strict=True):
        resize_labels(label, CAMERA_SIZE)
        resize_scores(anomaly, CAMERA_SIZE)
    times.append(perf_counter())
    seconds = [end - begin for begin, end in pairwise(times)]
    return dict(zip(('shrink', 'engine', 'enlarge'), seconds, strict=True))
