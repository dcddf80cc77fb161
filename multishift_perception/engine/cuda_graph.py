# SPDX-License-Identifier: Apache-2.0
"""Work on a GPU that is started with one call: operations recorded as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
import logging
from typing import Any

import torch
from torch import Tensor

from multishift_perception.errors import one_line

logger = logging.getLogger(__name__)

# Libraries choose algorithms and allocate in their first calls, which must not be captured.
_CALLS_BEFORE_CAPTURE = 3

Work = Callable[[], tuple[Tensor, ...]]


class Recorded:
    """Operations on tensors that stay where they are; so do their results.

    Attributes:
        results: of the last run, in the same memory each time.
        is_captured: whether it is a CUDA graph; if not, the log has said so.
    """

    def __init__(self, work: Work, name: str, stream: Any, pool: Any = None) -> None:
        """Warm the work up and capture it, on the stream, which is the current one.

        Args:
            work: the operations.
            name: what to call them where they cannot be captured.
            stream: a ``torch.cuda.Stream``.
            pool: where what lies between them is kept, shared with other work that is never
                done at the same time and whose results are used before; None: their own.
        """
        self._work = work
        self._graph: torch.cuda.CUDAGraph | None = None
        for _ in range(_CALLS_BEFORE_CAPTURE):
            self.results = work()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=stream, pool=pool):
                self.results = work()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # an operator that waits for the GPU, or copies to it
            reason = one_line(error)[:200]
            logger.warning('%s runs without CUDA graph, slower: %s', name, reason)
        else:
            self._graph = graph

    @property
    def is_captured(self) -> bool:
        """Whether it is a CUDA graph."""
        return self._graph is not None

    def run(self) -> tuple[Tensor, ...]:
        """Start the work on the current stream, and return where its results will be."""
        if self._graph is not None:
            self._graph.replay()
            return self.results
        for kept, fresh in zip(self.results, self._work(), strict=True):
            kept.copy_(fresh)
        return self.results
