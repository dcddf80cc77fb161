# SPDX-License-Identifier: Apache-2.0
"""The network in the forms that targets are written from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.export import ExportedProgram

from multishift_training.export.eight_bits import measured_ranges, quantized
from multishift_training.export.plan import EIGHT_BITS, Precision
from multishift_training.export.precision import typed


class Network:
    """An exported program, with what some targets ask beside it.

    Attributes:
        program: in float32.
        frames: an input of the engine's shape, ``uint8 [N,H,W,3]``.
        samples: inputs to quantise with, ``uint8 [N,H,W,3]`` each.
    """

    def __init__(
        self,
        program: ExportedProgram,
        frames: Tensor,
        samples: Sequence[NDArray[np.uint8]] = (),
        export: Callable[[Tensor], ExportedProgram] | None = None,
    ) -> None:
        """Keep what is given; ``export`` makes the program for other frames."""
        self.program = program
        self.frames = frames
        self.samples = samples
        self._export = export
        self._typed: dict[Precision, ExportedProgram] = {}
        self._ranges: dict[Precision, dict[str, float]] = {}
        self._measured_by = self

    def of(self, batch: int) -> Network:
        """Return the same network for calls of so many frames."""
        if batch == len(self.frames):
            return self
        assert self._export is not None, 'given wherever a plan has several sizes'
        frames = self.frames[torch.arange(batch) % len(self.frames)]
        sized = Network(self._export(frames), frames, export=self._export)
        sized._measured_by = self._measured_by
        return sized

    def typed(self, precision: Precision) -> ExportedProgram:
        """Return the program with the types that an engine of a precision computes in.

        They are part of it: see `precision.typed`. Of 8 bits are the products that `quantized`
        names, all else is of ``fp16``. Each is made once, for all who ask.
        """
        if precision not in self._typed:
            if precision in EIGHT_BITS:
                ranges = self._measured_by._measured(precision)
                program = quantized(self.program, self.frames, ranges, precision)
                self._typed[precision] = typed(program, self.frames, 'fp16')
            else:
                self._typed[precision] = typed(self.program, self.frames, precision)
        return self._typed[precision]

    def _measured(self, precision: Precision) -> dict[str, float]:
        if precision not in self._ranges:
            self._ranges[precision] = measured_ranges(self.program, self.samples, precision)
        return self._ranges[precision]
