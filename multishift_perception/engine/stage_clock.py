# SPDX-License-Identifier: Apache-2.0
"""Times the stages of a call on a GPU, without waiting for it between them."""

from __future__ import annotations

from itertools import pairwise

import torch


class StageClock:
    """Marks where stages end on a stream; without a place for the times, does nothing."""

    def __init__(self, stages: dict[str, float] | None) -> None:
        """Start, on the current stream.

        Args:
            stages: gets the seconds of each stage by its name.
        """
        self._stages = stages
        self._marks: list[tuple[str, torch.cuda.Event]] = []
        self.mark('')

    def mark(self, stage: str) -> None:
        """Say that a stage ends here; one that comes several times is added up."""
        if self._stages is None:
            return
        event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        self._marks.append((stage, event))

    def read(self) -> None:
        """Write the times down; the stream has come to its end."""
        if self._stages is None:
            return
        for (_, begin), (stage, end) in pairwise(self._marks):
            seconds = begin.elapsed_time(end) / 1e3
            self._stages[stage] = self._stages.get(stage, 0.0) + seconds
