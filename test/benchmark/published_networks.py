# SPDX-License-Identifier: Apache-2.0
"""Our networks beside the published code: same weights, same images, in turn, in one run.

    python test/benchmark/published_networks.py --multishiftseg DIR --detectron2 DIR \
        --robustnet DIR --mask2former DIR --rba DIR

Each option is a checkout of that repository (gaozhitong/MultiShiftSeg,
facebookresearch/detectron2, shachoi/RobustNet, facebookresearch/Mask2Former, NazirNayal8/RbA);
what is left out is not compared. detectron2 needs fvcore, iopath, omegaconf and yacs beside it.
SegFormer is compared with transformers' own.

For ours as created and in channels-last memory format, as trained and exported: the largest
difference from the published output as a share of its range (logits, score), the ratio of times
(ours / published: median, least and largest of the rounds), and the peak of memory that the
forward pass allocates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
import statistics
import subprocess
import sys
import time

import click
from published_code import (
    Rivals,
    mask2former,
    mask2former_swin,
    resnet50,
    segformer,
    wide_resnet38,
)
import torch
from torch import Tensor
from torch.profiler import profile

SIZE = (256, 512)


def range_error(ours: Tensor, published: Tensor) -> float:
    """Return the largest difference as a share of the published output's range."""
    return float((ours - published).abs().max() / (published.max() - published.min()))


def peak(run: Callable[[], object]) -> int:
    """Return the largest number of bytes allocated at a time during a run."""
    with profile(profile_memory=True) as recorded:
        run()
    now = most = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == '[memory]':
            now += event.nbytes()
            most = max(most, now)
    return most


def compare(name: str, rivals: Rivals, rounds: int) -> Iterator[str]:
    """Yield the rows of the table for a network."""
    torch.manual_seed(0)
    image = torch.randn(1, 3, *SIZE)
    channels_last = deepcopy(rivals.ours).to(memory_format=torch.channels_last)
    runs = {
        'published': partial(rivals.published, image),
        'ours': partial(rivals.ours, image),
        'ours, channels-last': partial(channels_last, image),
    }
    with torch.inference_mode():
        errors = {n: differences(run()[:2], runs['published']()) for n, run in runs.items()}
        seconds: dict[str, list[float]] = {n: [] for n in runs}
        for i in range(rounds):
            for n in list(runs) if i % 2 else reversed(runs):
                start = time.perf_counter()
                runs[n]()
                seconds[n].append(time.perf_counter() - start)
        for n, run in runs.items():
            ratios = [a / b for a, b in zip(seconds[n], seconds['published'], strict=True)]
            spread = f'{min(ratios):.2f} to {max(ratios):.2f}'
            yield (
                f'| `{name}` | {n} | {errors[n]} | {statistics.median(seconds[n]):.2f} s '
                f'| {statistics.median(ratios):.2f} ({spread}) | {peak(run) / 2**20:,.0f} MiB |'
            )


def differences(ours: Sequence[Tensor], published: Sequence[Tensor | None]) -> str:
    """Return the largest differences of logits and score; a dash where nothing is published."""
    pairs = zip(ours, published, strict=True)
    return ', '.join('-' if b is None else f'{range_error(a, b):.1e}' for a, b in pairs)


@click.command()
@click.option('--multishiftseg', type=click.Path(path_type=Path, exists=True))
@click.option('--detectron2', type=click.Path(path_type=Path, exists=True))
@click.option('--robustnet', type=click.Path(path_type=Path, exists=True))
@click.option('--mask2former', 'mask2former_', type=click.Path(path_type=Path, exists=True))
@click.option('--rba', type=click.Path(path_type=Path, exists=True))
@click.option('--rounds', default=7, show_default=True)
@click.option('--only', hidden=True, help='Compare this one, in this process.')
def main(
    multishiftseg: Path | None,
    detectron2: Path | None,
    robustnet: Path | None,
    mask2former_: Path | None,
    rba: Path | None,
    rounds: int,
    only: str | None,
) -> None:
    """Print a Markdown table."""
    builders: dict[str, Callable[[], Rivals]] = {}
    if multishiftseg:
        builders['deeplabv3plus_wideresnet38'] = partial(wide_resnet38, multishiftseg)
    if robustnet:
        builders['deeplabv3plus_resnet50'] = partial(resnet50, robustnet)
    if multishiftseg and detectron2:
        builders['mask2former_resnet50'] = partial(mask2former, multishiftseg, detectron2)
    for repository, names in (
        (mask2former_, ('mask2former_swin_b', 'mask2former_swin_l_uno')),
        (rba, ('mask2former_swin_b_rba',)),
    ):
        if repository and detectron2:
            builders |= {
                name: partial(mask2former_swin, name, repository, detectron2) for name in names
            }
    builders |= {f'segformer_b{i}': partial(segformer, i) for i in (0, 2)}
    if only:
        for row in compare(only, builders[only](), rounds):
            print(row, flush=True)
        return
    print(
        '| network | | logits, score differ by | time | ratio (spread) | peak |\n'
        '|---|---|---|---|---|---|',
        flush=True,
    )
    for name in builders:
        # The stand-ins for one repository's imports must not meet another's.
        subprocess.run([sys.executable, *sys.argv, '--only', name], check=True)


if __name__ == '__main__':
    main()
