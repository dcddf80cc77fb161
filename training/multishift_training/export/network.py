# SPDX-License-Identifier: Apache-2.0
"""The network in the forms that targets are written from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram

from multishift_training.export.plan import Precision
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
    ) -> None:
        """Keep what is given."""
        self.program = program
        self.frames = frames
        self.samples = samples
        self._typed: dict[Precision, ExportedProgram] = {}

    def typed(self, precision: Precision) -> ExportedProgram:
        """Return the program with the types that an engine of a precision computes in.

        They are part of it: see `precision.typed`. Each is made once, for all who ask.
        """
        if precision not in self._typed:
            self._typed[precision] = typed(self.program, self.frames, precision)
        return self._typed[precision]
