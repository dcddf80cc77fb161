# SPDX-License-Identifier: Apache-2.0
"""What a bundle shall be built for, in plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

DEFAULT_TARGETS = ('openvino', 'torch')
Precision = Literal['fp16', 'bf16', 'fp32', 'int8', 'fp8']
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
# Those that need samples to quantise with.
EIGHT_BITS: tuple[Precision, ...] = ('int8', 'fp8')


@dataclass(frozen=True)
class Plan:
    """What to build.

    Attributes:
        targets: which artifacts, by the names in ``targets.TARGETS``.
        precision: of those for TensorRT, or ``int8`` for OpenVINO too; else that computes in
            float32, as PyTorch does.
        capabilities: compute capabilities that ``tensorrt-rtx`` builds for, such as ``8.9``.
        batches: how many frames engine calls may have. An artifact may serve several of them.
        onnx: where to write the network as ONNX too, in float32; nowhere when left out.
    """

    targets: Sequence[str] = DEFAULT_TARGETS
    precision: Precision = 'fp16'
    capabilities: Sequence[str] = ()
    onnx: Path | None = None
    batches: Sequence[int] = (1,)

    @property
    def least(self) -> int:
        """The fewest frames of a call, which the program is exported for."""
        return min(self.batches)

    @property
    def ascending(self) -> tuple[int, ...]:
        """The sizes of calls, each once."""
        return tuple(sorted(set(self.batches)))
