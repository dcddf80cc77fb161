# SPDX-License-Identifier: Apache-2.0
"""What our depthwise convolutions save a training step on the CPU: docs/benchmarks.md.

    python test/benchmark/depthwise.py

Forward and backward in bfloat16, as `multishift train` runs it, of networks whose depthwise
convolutions are PyTorch's as they are, and ours, step by step in turn.
"""

from __future__ import annotations

from collections.abc import Callable
import time
from unittest.mock import patch

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_training import models
from multishift_training.cli.options import SizeType
from multishift_training.models import efficientnet_lite, layers

_OURS = layers.convolve_depthwise


def _pytorchs(
    x: Tensor, weight: Tensor, *, stride: int = 1, padding: int = 0, dilation: int = 1
) -> Tensor:
    return F.conv2d(x, weight, None, stride, padding, dilation, groups=len(weight))


@click.command()
@click.option('--model', 'names', multiple=True, default=['deeplabv3plus_efficientnet_lite0'])
@click.option('--size', type=SizeType(), default='160x224', show_default=True)
@click.option('--batch', type=click.IntRange(min=1), default=8, show_default=True)
@click.option('--rounds', type=click.IntRange(min=3), default=20, show_default=True)
@click.option('--threads', type=click.IntRange(min=1), default=1, show_default=True)
def main(
    names: tuple[str, ...], size: tuple[int, int], batch: int, rounds: int, threads: int
) -> None:
    """Print medians of a step, and the ratios of the rounds with their quartiles."""
    torch.set_num_threads(threads)
    print('| network | PyTorch ms (CPU) | ours ms (CPU) | ratio (quartiles) | ratio of CPU |')
    print('|---|---|---|---|---|')
    for name in names:
        step = _make_step(name, size, batch)
        taken = np.array(
            [[_time(step, each) for each in (_pytorchs, _OURS)] for _ in range(rounds)]
        )
        (theirs, their_cpu), (ours, our_cpu) = 1000 * np.median(taken[1:], 0)
        cells = [name, f'{theirs:.0f} ({their_cpu:.0f})', f'{ours:.0f} ({our_cpu:.0f})']
        for ratios in (taken[1:, 1] / taken[1:, 0]).T:
            low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
            cells.append(f'{middle:.2f} ({low:.2f} to {high:.2f})')
        print(f'| {" | ".join(cells)} |', flush=True)


def _make_step(name: str, size: tuple[int, int], batch: int) -> Callable[[], None]:
    torch.manual_seed(0)
    model = models.create(name).train().to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, *size).to(memory_format=torch.channels_last)
    half = (size[0] // 2, size[1] // 2)
    labels = torch.randint(0, 19, (batch, *half))

    def step() -> None:
        with torch.autocast('cpu', torch.bfloat16):
            prediction = model(images, half)
        F.cross_entropy(prediction.logits.float(), labels).backward()
        model.zero_grad(set_to_none=True)

    return step


def _time(step: Callable[[], None], convolve: Callable[..., Tensor]) -> tuple[float, float]:
    """Return how long a step takes, and its CPU time, in s."""
    with (
        patch.object(layers, 'convolve_depthwise', convolve),
        patch.object(efficientnet_lite, 'convolve_depthwise', convolve),
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == '__main__':
    main()
