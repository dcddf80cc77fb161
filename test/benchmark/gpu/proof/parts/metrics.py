# SPDX-License-Identifier: Apache-2.0
"""Scores that a GPU gives, counted by the streaming metrics: how fast, and how exactly."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics import AnomalyMetrics
from proof.settings import Note, Settings


def run(settings: Settings, note: Note) -> None:
    """Count images, and compare AUROC and AP with those of all pixels sorted on the GPU."""
    images, shape = (20, (720, 1280)) if settings.on_gpu else (3, (36, 64))
    generator = torch.Generator(settings.device).manual_seed(7)
    metrics, waiting, counting = AnomalyMetrics(), 0.0, 0.0
    pooled: list[tuple[Tensor, Tensor]] = []
    for _ in range(images):
        score, truth = _image(shape, settings.device, generator)
        pooled.append((score[truth != VOID], truth[truth != VOID] == NOVEL))
        start = time.perf_counter()
        on_host = score.cpu().numpy(), truth.cpu().numpy()
        arrived = time.perf_counter()
        metrics.update(*on_host)
        waiting, counting = waiting + arrived - start, counting + time.perf_counter() - arrived
    found = metrics.result()
    area, precision = _exact(*(torch.cat(side) for side in zip(*pooled, strict=True)))
    pixels = images * shape[0] * shape[1]
    note('million pixels a second, with the transfer', pixels / (waiting + counting) / 1e6)
    note('share of the transfer', waiting / (waiting + counting))
    note('AUROC, difference from all pixels sorted on the GPU', abs(found.auroc - area))
    note('AP, difference', abs(found.ap - precision))
    assert abs(found.auroc - area) < 1e-3 and abs(found.ap - precision) < 1e-3


def _image(
    shape: tuple[int, int], device: torch.device, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    truth = torch.randint(0, 19, shape, dtype=torch.uint8, device=device, generator=generator)
    draw = torch.rand(shape, device=device, generator=generator)
    truth = truth.masked_fill(draw < 0.03, NOVEL).masked_fill(draw > 0.95, VOID)
    noise = torch.randn(shape, device=device, generator=generator)
    return 2.5 * noise - 9 + 4 * (truth == NOVEL), truth


def _exact(score: Tensor, novel: Tensor) -> tuple[float, float]:
    """Return AUROC and AP of scores that are all different."""
    hits = novel[score.argsort(descending=True)].double()
    found, taken = hits.cumsum(0), torch.arange(1, len(hits) + 1, device=hits.device)
    area = ((1 - hits) * found).sum() / (hits.sum() * (1 - hits).sum())
    return float(area), float((hits * found / taken).sum() / hits.sum())
