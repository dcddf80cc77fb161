# SPDX-License-Identifier: Apache-2.0
"""What keeping large buffers is worth to a training step on the CPU.

    python test/benchmark/malloc.py

Forward and backward of the compact network on 8 images of 256 x 448 in bfloat16, as
`multishift train` runs it, with the C library's defaults and with ``keep_large_buffers``, in
processes of their own, in turn.
"""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import torch

from multishift_perception.process.memory import keep_large_buffers
from multishift_training import models

ROUNDS, STEPS = 7, 12


def seconds_per_step() -> float:
    """Return the time of a training step, the first ones left out."""
    torch.manual_seed(0)
    model = models.create('deeplabv3plus_compact').train()
    model = model.to(memory_format=torch.channels_last)
    images = torch.randn(8, 3, 256, 448).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 19, (8, 128, 224))
    for step in range(STEPS):
        if step == 2:
            start = time.perf_counter()
        with torch.autocast('cpu', torch.bfloat16):
            prediction = model(images, (128, 224))
        torch.nn.functional.cross_entropy(prediction.logits.float(), labels).backward()
        model.zero_grad(set_to_none=True)
    return (time.perf_counter() - start) / (STEPS - 2)


def main() -> None:
    """Run both settings in turn, and print the ratio."""
    times: dict[str, list[float]] = {'default': [], 'kept': []}
    for _ in range(ROUNDS):
        for setting, measured in times.items():
            run = [sys.executable, __file__, setting]
            found = subprocess.run(run, check=True, capture_output=True, text=True).stdout
            measured.append(float(found.split()[-1]))
    default, kept = np.array(times['default']), np.array(times['kept'])
    ratio = kept / default
    print(f'default: {np.median(default):.3f} s ({default.min():.3f} to {default.max():.3f})')
    print(f'kept: {np.median(kept):.3f} s ({kept.min():.3f} to {kept.max():.3f})')
    print(f'ratio: {np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})')


if __name__ == '__main__':
    if len(sys.argv) > 1:
        if sys.argv[1] == 'kept':
            keep_large_buffers()
        print(seconds_per_step())
    else:
        main()
