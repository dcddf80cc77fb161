# SPDX-License-Identifier: Apache-2.0
"""Runs a network on a GPU: one stream, page-locked memory, the calls captured as a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from multishift_perception.engine.types import EngineOutput
from multishift_perception.errors import MultishiftError, one_line

logger = logging.getLogger(__name__)

# Libraries choose algorithms and allocate in their first calls, which must not be captured.
_CALLS_BEFORE_CAPTURE = 3

# Words of the driver, which loads kernels, and of the libraries: their errors have no own type.
_SHORTAGE = ('out of memory', 'ALLOC_FAILED')

Network = Callable[[Tensor], tuple[Tensor, ...]]


class CudaRunner:
    """A network with its input and output memory, ready to run frames of one shape."""

    def __init__(self, network: Network, shape: tuple[int, ...], device: torch.device) -> None:
        """Warm the network up and capture its CUDA graph.

        Args:
            network: takes frames ``uint8 [N,H,W,3]`` on the GPU, returns label, score, anomaly.
            shape: of the frames.
            device: the GPU.
        """
        self._network = network
        self._stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pinned = pinned(torch.Size(shape), torch.uint8)
        self._frames = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            # The zeros above are written on another stream.
            torch.cuda.synchronize(device)
            for _ in range(_CALLS_BEFORE_CAPTURE):
                self._outputs = network(self._frames)
            self._stream.synchronize()
            self._capture()

    def run(self, frames: NDArray[np.uint8]) -> EngineOutput:
        """Run frames; the outputs are the caller's own arrays."""
        np.copyto(self._pinned.numpy(), frames)
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            self._frames.copy_(self._pinned, non_blocking=True)
            if self._graph is None:
                self._outputs = self._network(self._frames)
            else:
                self._graph.replay()
            # PyTorch keeps page-locked memory and hands it out again once its array is gone: the
            # caller gets memory of its own, and none of it is allocated or copied once more.
            results = [pinned(o.shape, o.dtype) for o in self._outputs]
            for result, output in zip(results, self._outputs, strict=True):
                result.copy_(output, non_blocking=True)
        self._stream.synchronize()
        return EngineOutput(*(result.numpy() for result in results))

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._outputs = self._network(self._frames)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # an operator that waits for the GPU, or copies to it
            reason = one_line(error)[:200]
            logger.warning('the network runs without CUDA graph, slower: %s', reason)
        else:
            self._graph = graph


def pinned(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Return page-locked host memory, which the GPU copies to and from by itself."""
    return torch.empty(shape, dtype=dtype, pin_memory=True)


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
