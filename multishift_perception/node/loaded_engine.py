# SPDX-License-Identifier: Apache-2.0
"""Loading the engine while the node goes on answering: it takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
import time
from typing import Any

import numpy as np
from rclpy.exceptions import InvalidHandle
from rclpy.task import Future

from multishift_perception.engine import Engine
from multishift_perception.node.parameters import Settings
from multishift_perception.pipeline import Pipeline

_WARM_UP_CALLS = 2


@dataclass(frozen=True)
class LoadedEngine:
    """An engine that has had its slow first calls.

    Attributes:
        engine: the engine.
        pipeline: what runs frames through it.
        usual_s: what the slowest call of a warm engine took, of all sizes, in seconds.
    """

    engine: Engine
    pipeline: Pipeline
    usual_s: float


def load_engine(settings: Settings) -> LoadedEngine:
    """Load and warm up the engine that the parameters name.

    Raises:
        MultishiftError: it cannot be loaded.
    """
    engine = Engine.load(
        settings.engine_bundle,
        backend=settings.backend,
        device=settings.device,
        threads=settings.engine_threads,
    )
    try:
        pipeline = Pipeline(engine, output_size=settings.output_size)
        return LoadedEngine(engine, pipeline, _warm_up(engine, pipeline))
    except BaseException:
        engine.close()
        raise


def work_aside(work: Callable[[], Any], wake: Callable[[], None]) -> Future:
    """Do something in a thread of its own.

    Args:
        work: what to do.
        wake: called when it is done: an executor does not see by itself that what its callback
            awaits is there.

    Returns:
        Its result, or what it raised, to be awaited.
    """
    future = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
        with suppress(InvalidHandle):  # nobody waits any more: the process ends
            wake()

    # A daemon: a process that ends does not wait for what cannot be interrupted.
    Thread(target=run, name='engine_loader', daemon=True).start()
    return future


def _warm_up(engine: Engine, pipeline: Pipeline) -> float:
    """Have the slow first calls behind us before a frame waits for them."""
    # Of a camera's size: what shrinks frames, and enlarges outputs, has slow first calls too.
    frame = np.zeros((1080, 1920, 3), np.uint8)
    slowest = 0.0
    for batch in engine.batches:
        for _ in range(_WARM_UP_CALLS):
            begin = time.monotonic()
            pipeline.run([frame] * batch)
        slowest = max(slowest, time.monotonic() - begin)
    return slowest
