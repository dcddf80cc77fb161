# SPDX-License-Identifier: Apache-2.0
"""What the parts are given, and what they say when they cannot run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
import time

import torch

# Keeps a figure under a name; what was kept stays, whatever becomes of the part.
Note = Callable[[str, object], None]


class AbsentError(Exception):
    """Something that a part needs is not here; the text says what."""


@dataclass(frozen=True)
class Settings:
    """Where and how large.

    Attributes:
        device: the GPU, or the CPU.
        end: when the part's time is over, by the monotonic clock.
        multishiftseg: checkout of the published code, if any.
        detectron2: checkout that its Mask2Former needs, if any.
    """

    device: torch.device
    end: float
    multishiftseg: Path | None
    detectron2: Path | None

    @property
    def on_gpu(self) -> bool:
        """Whether there is a GPU: without one, sizes are tiny, and figures mean nothing."""
        return self.device.type == 'cuda'

    @property
    def left(self) -> float:
        """Seconds that the part has left."""
        return self.end - time.monotonic()

    def synchronize(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def seconds(
        self, work: Callable[[], object], *, runs: int = 20, warm_up: int = 3
    ) -> list[float]:
        """Return the seconds of runs of some work, fewer runs where the time is short."""
        runs, warm_up = (runs, warm_up) if self.on_gpu else (1, 0)
        for _ in range(warm_up):
            work()
        found: list[float] = []
        while len(found) < runs and (len(found) < 3 or self.left > 0):
            self.synchronize()
            start = time.perf_counter()
            work()
            self.synchronize()
            found.append(time.perf_counter() - start)
        return found
