# SPDX-License-Identifier: Apache-2.0
"""Runs a network on a GPU: one stream, page-locked memory, the calls captured as graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from multishift_perception.engine.cuda_graph import Recorded
from multishift_perception.engine.cuda_slot import FrameTensors, Slot
from multishift_perception.engine.page_locked import pinned, read_back
from multishift_perception.engine.stage_clock import StageClock
from multishift_perception.engine.types import EngineOutput, Parts, PictureCall
from multishift_perception.errors import MultishiftError, one_line

# Words of the driver, which loads kernels, and of the libraries: their errors have no own type.
_SHORTAGE = ('out of memory', 'ALLOC_FAILED')

Network = Callable[[Tensor], tuple[Tensor, ...]]


class CudaRunner:
    """A network with its input and output memory, ready to run frames of one shape."""

    def __init__(
        self,
        network: Network,
        shape: tuple[int, ...],
        device: torch.device,
        steps: NDArray[np.float32] | None = None,
    ) -> None:
        """Warm the network up and capture its CUDA graph.

        Args:
            network: takes frames ``uint8 [N,H,W,3]`` on the GPU, returns label, score, anomaly
                and, of graphs that have them, look and confidence.
            shape: of the frames.
            device: the GPU.
            steps: of a `Calibration` that the anomaly is made by anew; None: it stays.
        """
        self._stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pinned = pinned(torch.Size(shape), torch.uint8)
        self._frames = torch.zeros(shape, dtype=torch.uint8, device=device)
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            # The zeros above are written on another stream.
            torch.cuda.synchronize(device)
            if steps is not None:
                network = _recalibrated(network, torch.from_numpy(steps).to(device))
            self._network = Recorded(
                lambda: tuple(network(self._frames)), 'the network', self._stream
            )
            pool = torch.cuda.graph_pool_handle()
            self._slots = [
                Slot(frame, FrameTensors(*said), self._stream, pool)
                for frame, *said in zip(self._frames, *self._network.results, strict=True)
            ]

    def run(self, frames: NDArray[np.uint8]) -> EngineOutput:
        """Run frames; the outputs are the caller's own arrays."""
        np.copyto(self._pinned.numpy(), frames)
        with self._call():
            self._frames.copy_(self._pinned, non_blocking=True)
            results = [read_back(output) for output in self._network.run()]
        return EngineOutput(*(result.numpy() for result in results))

    def run_pictures(
        self, calls: Sequence[PictureCall], stages: dict[str, float] | None = None
    ) -> list[Parts]:
        """Run pictures, as `PictureBackend` does.

        Nothing waits for the GPU before the end, unless a picture or an output has a size that
        is new: then the work for it is captured first.
        """
        with self._call():
            clock = StageClock(stages)
            used = list(zip(self._slots, calls, strict=False))
            for slot, call in used:
                slot.take(call.picture, clock)
            self._network.run()
            clock.mark('engine')
            found = [slot.give(call.size, call.wanted, clock) for slot, call in used]
        clock.read()
        return [{part: there.numpy() for part, there in parts.items()} for parts in found]

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Have a block's work done on the stream when it ends, also where it fails.

        What is still copied would meet the next call's frames in the same memory.
        """
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            try:
                yield
            finally:
                self._stream.synchronize()


def _recalibrated(network: Network, steps: Tensor) -> Network:
    """Return a network whose anomaly is made of its score anew."""

    def run(frames: Tensor) -> tuple[Tensor, ...]:
        label, score, _, *others = network(frames)
        anomaly = torch.bucketize(score, steps, out_int32=True, right=True)
        return label, score, anomaly.to(torch.uint8), *others

    return run


class CudaBackend:
    """What backends have in common that run a network on a GPU."""

    _network: Network

    def __init__(self, file: Path, device: torch.device) -> None:
        """Start with nothing captured.

        Args:
            file: where the network comes from, for errors.
            device: the GPU.
        """
        self._file = file
        self._device = device
        self._runners: dict[int, CudaRunner] = {}
        self._steps: NDArray[np.float32] | None = None

    def run_pictures(
        self,
        calls: Sequence[PictureCall],
        shape: tuple[int, int, int],
        stages: dict[str, float] | None = None,
    ) -> list[Parts]:
        """Run pictures; see `PictureBackend`."""
        return self._runner(shape).run_pictures(calls, stages)

    def recalibrate(self, steps: NDArray[np.float32]) -> None:
        """Make the anomaly of the score anew; see `PictureBackend`."""
        self._steps = steps

    def _runner(self, shape: tuple[int, ...]) -> CudaRunner:
        """Return what runs calls of N frames of a height and width; new ones are captured."""
        batch = shape[0]
        if batch not in self._runners:
            with gpu_faults(self._file, self._device):
                self._runners[batch] = CudaRunner(
                    self._network, (*shape, 3), self._device, self._steps
                )
        return self._runners[batch]


@contextmanager
def gpu_faults(file: Path, device: torch.device) -> Iterator[None]:
    """Turn what a GPU may raise while ``file`` is loaded and first run into words."""
    try:
        yield
    except RuntimeError as error:
        reason = one_line(error)[:200]
        if isinstance(error, torch.OutOfMemoryError) or any(w in reason for w in _SHORTAGE):
            # Else what was allocated so far would be missing at the next trial.
            torch.cuda.empty_cache()
            raise MultishiftError(
                f'{device} has too little free memory for {file} ({reason}): end what else uses '
                'that GPU, or choose another one'
            ) from None
        raise MultishiftError(
            f'{device} cannot run {file} ({reason}): build the bundle again on this machine'
        ) from None
