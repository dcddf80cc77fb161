# SPDX-License-Identifier: Apache-2.0
"""What the relative contrastive loss over all pairs costs, beside the released code's sampling.

    python test/benchmark/contrastive_loss.py [cpu|cuda]

Forward and backward over 4 images of 700x700, runs of both taken in turns. Sampling is our
`losses.sampled`, which draws and gathers what the released code does, in less time than that.
"""

from __future__ import annotations

from collections.abc import Callable
import statistics
import sys
import time

import torch
from torch import Tensor
from tqdm import trange

from multishift_perception.classes import NOVEL, VOID
from multishift_training.losses.contrastive import ContrastiveTerms, Margins, relative_contrastive
from multishift_training.losses.sampled import sampled_contrastive

SHAPE = (4, 700, 700)
MARGINS = Margins(10.0, 5.0, 5.0)
RUNS, WARM_UP = 40, 3

Loss = Callable[..., ContrastiveTerms]


def batch(novel: float, device: str) -> tuple[Tensor, Tensor]:
    """Return scores about as training begins with, every pixel by itself, and labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 19, SHAPE, generator=generator)
    chance = torch.rand(SHAPE, generator=generator)
    labels[chance < 0.1] = VOID
    labels[chance > 1 - novel] = NOVEL
    score = 2 * torch.randn(SHAPE, generator=generator) - 8
    score[labels == NOVEL] += 4
    return score.to(device), labels.to(device)


def seconds(loss: Loss, score: Tensor, labels: Tensor) -> float:
    """Return the time of one forward and backward."""
    score = score.clone().requires_grad_()
    synchronize = torch.cuda.synchronize if score.is_cuda else lambda: None
    synchronize()
    start = time.perf_counter()
    loss(score, labels, margins=MARGINS, third_term='code').total.backward()
    synchronize()
    return time.perf_counter() - start


def main(device: str) -> None:
    """Print a Markdown table by share of novel pixels."""
    print(f'{device}, {torch.get_num_threads()} threads, torch {torch.__version__}')
    print('| novel pixels | all pairs | sampled | ratio, median | 10 % to 90 % of runs |')
    print('|---|---|---|---|---|')
    for novel in (0.005, 0.02, 0.05, 0.2):
        score, labels = batch(novel, device)
        turns = [
            (
                seconds(relative_contrastive, score, labels),
                seconds(sampled_contrastive, score, labels),
            )
            for _ in trange(WARM_UP + RUNS, unit='turn', leave=False)
        ][WARM_UP:]
        ours, sampled = (statistics.median(side) for side in zip(*turns, strict=True))
        ratios = sorted(a / b for a, b in turns)
        low, high = ratios[RUNS // 10], ratios[-RUNS // 10 - 1]
        print(
            f'| {novel:.1%} | {1e3 * ours:.0f} ms | {1e3 * sampled:.0f} ms '
            f'| {statistics.median(ratios):.2f} | {low:.2f} to {high:.2f} |'
        )


if __name__ == '__main__':
    main(sys.argv[1] if len(sys.argv) > 1 else 'cpu')
