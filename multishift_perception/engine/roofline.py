# SPDX-License-Identifier: Apache-2.0
"""What an engine call computes and moves at least, and what its device could do in that time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch.export.passes import move_to_device_pass
from torch.utils.flop_counter import FlopCounterMode

from multishift_perception.engine.manifest import InputShape
from multishift_perception.engine.torch_backend import load_program

_BYTES_OF = {'fp32': 4, 'fp16': 2, 'bf16': 2, 'int8': 1, 'fp8': 1}
_FRAME_BYTES_PER_PIXEL = 3 + 1 + 4 + 1  # RGB in; label, score and anomaly out


class Work(NamedTuple):
    """What one engine call needs.

    Attributes:
        flops: multiplications and additions of convolutions, matrix products and attention.
        weights: how many numbers the network holds.
        frame_bytes: input and output.
    """

    flops: int
    weights: int
    frame_bytes: int

    def times(self, calls: int) -> Work:
        """Return the work of several calls, whose weights are read once."""
        return Work(self.flops * calls, self.weights, self.frame_bytes * calls)

    def bytes_moved(self, precision: str) -> int:
        """Return input, output and weights, each once: intermediate results may stay on chip."""
        return self.frame_bytes + self.weights * _BYTES_OF[precision]


class Peak(NamedTuple):
    """A GPU's peaks by its data sheet, without sparsity.

    Attributes:
        tflops: by precision, in 10^12 per second; fp32 is TF32, which PyTorch convolves in.
        memory: in 10^12 bytes per second.
    """

    tflops: dict[str, float]
    memory: float

    def seconds(self, work: Work, precision: str) -> float:
        """Return the least time for the work: its arithmetic or its memory, whichever is more."""
        arithmetic = work.flops / (self.tflops[precision] * 1e12)
        return max(arithmetic, work.bytes_moved(precision) / (self.memory * 1e12))


def _peak(tf32: float, fp16: float, int8: float, memory: float) -> Peak:
    tflops = {'fp32': tf32, 'fp16': fp16, 'bf16': fp16, 'int8': int8, 'fp8': 2 * fp16}
    return Peak(tflops, memory)


# By the name that the driver gives. Published rates without sparsity; those of 16 bits are with
# float32 sums, as are those of fp8, which is twice as fast on what has it.
_PEAKS = {
    'NVIDIA A100-SXM4-80GB': _peak(156, 312, 624, 2.039),
    'NVIDIA H100 80GB HBM3': _peak(494.5, 989, 1979, 3.35),
    'NVIDIA H200': _peak(494.5, 989, 1979, 4.8),
    'NVIDIA L4': _peak(60, 121, 242, 0.3),
    'NVIDIA GeForce RTX 4090': _peak(82.6, 165.2, 660.6, 1.008),
}


def peak_of(gpu: str) -> Peak | None:
    """Return a GPU's peaks by its name, None where they are not known."""
    return _PEAKS.get(gpu)


def work_of(program: Path, shape: InputShape) -> Work:
    """Count what one call of an exported program needs, without running it.

    Args:
        program: the bundle's artifact of backend torch.
        shape: of its input.
    """
    moved = move_to_device_pass(load_program(program), 'meta')
    weights = sum(tensor.numel() for tensor in moved.state_dict.values())
    return count_work(moved.module(check_guards=False), weights, shape)


def count_work(network: Callable[[torch.Tensor], object], weights: int, shape: InputShape) -> Work:
    """Count what one call of a network needs, without running it.

    Args:
        network: on the device ``meta``; takes frames ``uint8 [N,H,W,3]``.
        weights: how many numbers it holds.
        shape: of its input.
    """
    size = (shape.batch, shape.height, shape.width)
    frames = torch.zeros((*size, 3), dtype=torch.uint8, device='meta')
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(frames)
    pixels = shape.batch * shape.height * shape.width
    return Work(counter.get_total_flops(), weights, pixels * _FRAME_BYTES_PER_PIXEL)
