# SPDX-License-Identifier: Apache-2.0
"""Copies to and from page-locked memory, beside ordinary memory."""

from __future__ import annotations

import statistics

import torch

from proof.settings import Note, Settings

_FRAMES = {'a frame of 1080p': (1, 1080, 1920, 3), '8 frames of 1024x2048': (8, 1024, 2048, 3)}


def run(settings: Settings, note: Note) -> None:
    """Time both ways of each size, in GB/s."""
    for name, shape in _FRAMES.items():
        there = torch.zeros(shape, dtype=torch.uint8, device=settings.device)
        row: dict[str, object] = {}
        for kind in ('page-locked', 'ordinary') if settings.on_gpu else ('ordinary',):
            here = torch.zeros(shape, dtype=torch.uint8, pin_memory=kind == 'page-locked')
            for way, (target, source) in {'to': (there, here), 'from': (here, there)}.items():
                patient = kind == 'page-locked'
                copy = lambda t=target, s=source, p=patient: t.copy_(s, non_blocking=p)  # noqa: E731
                seconds = statistics.median(settings.seconds(copy, runs=50))
                row[f'{way} the GPU, {kind}, GB/s'] = there.numel() / seconds / 1e9
        note(name, row)
    if settings.on_gpu:
        note('copy beside a computation', _overlap(settings))


def _overlap(settings: Settings) -> str:
    """Say what a copy on a stream of its own adds to a computation."""
    here = torch.zeros(64 * 2**20, dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(here, device=settings.device)
    matrix = torch.randn(8192, 8192, device=settings.device, dtype=torch.bfloat16)
    stream = torch.cuda.Stream(settings.device)

    def both() -> None:
        with torch.cuda.stream(stream):
            there.copy_(here, non_blocking=True)
        matrix @ matrix

    def copy() -> None:
        there.copy_(here, non_blocking=True)

    alone = [settings.seconds(work) for work in (copy, lambda: matrix @ matrix, both)]
    copied, computed, together = (1e3 * statistics.median(x) for x in alone)
    return f'copy {copied:.2f} ms, computation {computed:.2f} ms, both {together:.2f} ms'
