# SPDX-License-Identifier: Apache-2.0
"""Latency and memory of engines: each in a process of its own, called in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
import re
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np

from multishift_perception.engine.engine import Engine
from multishift_perception.engine.manifest import read_manifest
from multishift_perception.engine.probe import ProbeSet
from multishift_perception.engine.selection import Choice, choose
from multishift_perception.engine.stages import measure_stages
from multishift_perception.errors import MultishiftError
from multishift_perception.process.workers import WorkerProcess
from multishift_perception.progress import track

# Between them the engines take turns, so that a machine that slows down slows all of them.
_ROUNDS = 10
# A library may hang as its process ends, when all that was asked of it has been answered.
_ENDING_S = 30.0


class Candidate(NamedTuple):
    """What to measure: a bundle's backend, and frames per call; None for the fewest it takes."""

    bundle: Path
    backend: str
    batch: int | None = None


@dataclass
class Timing:
    """One engine's measurements.

    Attributes:
        bundle: its directory.
        choice: which artifact ran, and where.
        batch: frames per call.
        memory: most memory its process ever had, in bytes.
        gpu_memory: memory it takes on the GPU, without what CUDA itself does; None on the CPU.
        shrinks_on: where it shrinks pictures, as PyTorch writes it.
        stages: seconds of the stages of a call with pictures of a camera; see `measure_stages`.
        rounds: seconds of every call, by round.
        cpu: seconds that all threads of its process computed, by round.
    """

    bundle: Path
    choice: Choice
    batch: int
    memory: int = 0
    gpu_memory: int | None = None
    shrinks_on: str = 'cpu'
    stages: dict[str, float] = field(default_factory=dict)
    rounds: list[list[float]] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def calls(self) -> list[float]:
        """Seconds of every call."""
        return [call for calls in self.rounds for call in calls]

    @property
    def frames_per_second(self) -> float:
        """Frames over the time of all calls."""
        return self.batch * len(self.calls) / sum(self.calls)

    @property
    def cpu_per_frame(self) -> float:
        """Seconds that all threads compute for a frame; other processes hardly change it."""
        return sum(self.cpu) / (self.batch * len(self.calls))

    def percentile(self, share: float) -> float:
        """Return the percentile of a call's seconds."""
        return float(np.percentile(self.calls, share))

    def ratios(self, other: Timing) -> list[float]:
        """Return how many times faster than ``other`` it was, by the median of every round."""
        return [
            float(np.median(theirs) / np.median(ours))
            for ours, theirs in zip(self.rounds, other.rounds, strict=True)
        ]


def measure(engines: Sequence[Candidate], *, seconds: float, device: int = 0) -> list[Timing]:
    """Call engines in turn on their probe frames.

    Args:
        engines: what to call.
        seconds: how long each is called, in all.
        device: index of the GPU.

    Raises:
        MultishiftError: an engine cannot be loaded.
    """
    with ExitStack() as stack:
        # One after the other: loading takes all cores, and GPU memory is told by difference.
        loading = track(engines, 'load', unit='engine', leave=False)
        running = [stack.enter_context(_worker(candidate, device)) for candidate in loading]
        timings = [timing for _, timing in running]
        counts = [_calls_for(connection, seconds / _ROUNDS) for connection, _ in running]
        for _ in track(range(_ROUNDS), 'measure', unit='round', leave=False):
            for (connection, timing), count in zip(running, counts, strict=True):
                seconds_of_calls, cpu = _ask(connection, count)
                timing.rounds.append(seconds_of_calls)
                timing.cpu.append(cpu)
        for connection, timing in running:
            timing.memory, timing.stages = _ask(connection, 0)
    return timings


def _calls_for(connection: Connection, seconds: float) -> int:
    calls, _ = _ask(connection, 3)
    return max(1, round(seconds / float(np.median(calls))))


def _ask(connection: Connection, request: int) -> Any:
    connection.send(request)
    return _answer(connection)


def _answer(connection: Connection) -> Any:
    try:
        answer = connection.recv()
    except EOFError:
        raise MultishiftError(
            'an engine ended its process, perhaps for lack of memory: measure fewer at a time'
        ) from None
    if isinstance(answer, MultishiftError):
        raise answer
    return answer


@contextmanager
def _worker(candidate: Candidate, device: int) -> Iterator[tuple[Connection, Timing]]:
    """Load an engine in a new process."""
    connection, theirs = multiprocessing.Pipe()
    process = WorkerProcess(target=_serve, args=(theirs, candidate, device), daemon=True)
    process.start()
    theirs.close()
    try:
        yield connection, _answer(connection)
    except BaseException:
        process.kill()
        raise
    finally:
        connection.close()
        process.join(_ENDING_S)
        process.kill()
        process.join()


def _serve(connection: Connection, candidate: Candidate, device: int) -> None:
    """Load an engine, then answer every number of calls.

    The answer is the seconds of each and the CPU's of all; to 0 it is the process's memory, and
    what the stages of a call take.
    """
    bundle, backend, batch = candidate
    try:
        manifest = read_manifest(bundle)
        choice = choose(bundle, manifest, backend, device)
        before = _free_gpu_memory(choice.device)
        engine = Engine.load(bundle, backend=backend, device=device)
    except MultishiftError as error:
        connection.send(error)
        return
    after = _free_gpu_memory(choice.device)
    taken = None if before is None or after is None else before - after
    batch = batch or engine.batches[0]
    connection.send(Timing(bundle, choice, batch, gpu_memory=taken, shrinks_on=engine.shrinks_on))
    frames = ProbeSet.load(bundle / manifest.probe.file).in_calls_of(batch).frames[0]
    with engine:
        # The other side closes the connection when it is done.
        while (count := _next(connection)) is not None:
            if count == 0:
                memory = _peak_memory()
                connection.send((memory, measure_stages(engine, batch)))
                continue
            seconds = []
            cpu = process_time()
            for _ in range(count):
                start = perf_counter()
                engine.infer(frames)
                seconds.append(perf_counter() - start)
            connection.send((seconds, process_time() - cpu))


def _next(connection: Connection) -> int | None:
    try:
        return int(connection.recv())
    except EOFError:
        return None


def _free_gpu_memory(device: str) -> int | None:
    if device == 'cpu':
        return None
    import torch

    free, _ = torch.cuda.mem_get_info(torch.device(device))
    return int(free)


def _peak_memory() -> int:
    """Return the most memory this process had; `getrusage` would count its parent's too."""
    status = Path('/proc/self/status').read_text()
    match = re.search(r'^VmHWM:\s+(\d+) kB$', status, re.MULTILINE)
    assert match is not None, 'every Linux has it'
    return int(match[1]) * 1024
