# SPDX-License-Identifier: Apache-2.0
"""What painting with a ControlNet costs outside of the diffusion model.

    python test/benchmark/controlnet_overhead.py BASE CONTROLNET [STEPS]

Draws an object of the sample drive, places it in a label map of 1024 x 2048, and paints it at 512
x 1024, as published. The time outside of the diffusion model does not depend on its weights:
random ones of any width do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
import statistics
import sys
import time
from typing import Any, Literal

import numpy as np
import torch
from tqdm import trange

from multishift_training.augmentation.config import ControlNetGenerator, PerspectivePlacement
from multishift_training.augmentation.controlnet import ControlNet
from multishift_training.augmentation.objects import open_objects
from multishift_training.augmentation.parts import Scene
from multishift_training.augmentation.placement import place
from multishift_training.datasets.config import SampleObjects

RUNS, WARM_UP = 10, 2
PLACEMENT = PerspectivePlacement(kind='perspective')


class Clock:
    """Adds up seconds by what they were spent on."""

    def __init__(self) -> None:
        self.runs: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def measuring(self, what: str) -> Iterator[None]:
        """Add the time of the block."""
        start = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.runs[what].append(time.perf_counter() - start)

    def wrapped(self, what: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose calls are measured."""

        def measured(*args: object, **options: object) -> Any:
            with self.measuring(what):
                return call(*args, **options)

        return measured


def street() -> Scene:
    """Return bands of sky, houses, pavement and road."""
    labels = np.repeat(np.array([10, 2, 1, 0], np.uint8), 256)[:, None].repeat(2048, axis=1)
    return Scene('street', np.zeros((1024, 2048, 3), np.uint8), np.ascontiguousarray(labels))


def main(base: Path, controlnet: Path, steps: int) -> None:
    """Print a Markdown table."""
    precision: Literal['fp16', 'fp32'] = 'fp16' if torch.cuda.is_available() else 'fp32'
    painter = ControlNet(
        ControlNetGenerator(
            kind='controlnet', base=base, controlnet=controlnet, steps=steps, precision=precision
        )
    )
    clock, scene = Clock(), street()
    painter.pipeline = clock.wrapped('diffusion model', painter.pipeline)
    objects = open_objects(SampleObjects(kind='sample_objects', split='train'), Path())
    for run in trange(WARM_UP + RUNS, desc='paint', unit='image'):
        if run == WARM_UP:
            clock.runs.clear()
        rng = np.random.default_rng(run)
        with clock.measuring('whole'):
            with clock.measuring('object'):
                novel = objects.draw(rng)
            with clock.measuring('placement'):
                composition = place(PLACEMENT, scene, novel, rng)
            with clock.measuring('generator'):
                painter.generate([composition], [np.random.SeedSequence(run)])
    medians = {what: statistics.median(runs) for what, runs in clock.runs.items()}
    outside = medians['whole'] - medians['diffusion model']
    print(f'{painter.version}, {steps} steps, {torch.get_num_threads()} threads')
    print('| step | median, ms |')
    print('|---|---|')
    for what in ('object', 'placement', 'diffusion model'):
        print(f'| {what} | {1000 * medians[what]:.1f} |')
    rest = medians['generator'] - medians['diffusion model']
    print(f'| rest of the generator | {1000 * rest:.1f} |')
    print(f'| outside of the diffusion model | {1000 * outside:.1f} |')
    print(f'Share outside: {outside / medians["whole"]:.1%}')


if __name__ == '__main__':
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 50)
