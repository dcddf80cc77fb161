# SPDX-License-Identifier: Apache-2.0
"""Streaming anomaly metrics beside scikit-learn on all pixels pooled: time, memory, difference.

    python test/benchmark/metrics.py

Both get the same 20 images of 1280 x 720 with energy-like float32 scores, 3 % novel and 5 % void
pixels, and give AUROC, AP and FPR95. Times are taken in turn, in one process; peak memory is what
a fresh process each grows by while it computes, the images not counted, once by the resident set
and once by Python's own account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
import re
import subprocess
import sys
from time import perf_counter
import tracemalloc

from exact_metrics import ExactAnomalyMetrics
import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics import AnomalyMetrics

IMAGES, SHAPE, ROUNDS = 20, (720, 1280), 3
Image = tuple[np.ndarray, np.ndarray]
Figures = tuple[float, float, float]


def images() -> Iterator[Image]:
    """Yield scores and ground truth."""
    rng = np.random.default_rng(7)
    for _ in range(IMAGES):
        truth = rng.integers(0, 19, SHAPE, np.uint8)
        draw = rng.random(SHAPE, np.float32)
        truth[draw < 0.03] = NOVEL
        truth[draw > 0.95] = VOID
        score = rng.standard_normal(SHAPE, np.float32) * 2.5 - 9 + 4 * (truth == NOVEL)
        yield score.astype(np.float32), truth


def pooled(data: list[Image]) -> Figures:
    """Return the figures of scikit-learn."""
    valid = [truth != VOID for _, truth in data]
    score = np.concatenate([s[v] for (s, _), v in zip(data, valid, strict=True)])
    novel = np.concatenate([t[v] == NOVEL for (_, t), v in zip(data, valid, strict=True)])
    fpr, tpr, _ = roc_curve(novel, score, drop_intermediate=False)
    fpr95 = fpr[np.argmax(tpr >= 0.95)]
    return roc_auc_score(novel, score), average_precision_score(novel, score), fpr95


def streamed(metrics: AnomalyMetrics | ExactAnomalyMetrics, data: list[Image]) -> Figures:
    """Return our figures."""
    for score, truth in data:
        metrics.update(score, truth)
    result = metrics.result()
    return result.auroc, result.ap, result.fpr95


WAYS: dict[str, Callable[[list[Image]], Figures]] = {
    'scikit-learn, pooled': pooled,
    'AnomalyMetrics': lambda data: streamed(AnomalyMetrics(), data),
    'ExactAnomalyMetrics': lambda data: streamed(ExactAnomalyMetrics(), data),
}


def grown(name: str, account: str) -> float:
    """Return by how many MB this process grows at most."""
    data = list(images())
    if account == 'traced':
        tracemalloc.start()
        WAYS[name](data)
        return tracemalloc.get_traced_memory()[1] / 1e6
    # Not ru_maxrss, which a process inherits from the one that started it.
    Path('/proc/self/clear_refs').write_text('5')
    before = peak_resident()
    WAYS[name](data)
    return peak_resident() - before


def peak_resident() -> float:
    """Return the largest resident set of this process so far, in MB."""
    status = Path('/proc/self/status').read_text()
    return int(re.search(r'VmHWM:\s+(\d+) kB', status)[1]) * 1024 / 1e6


def main() -> None:
    """Print Markdown tables."""
    data = list(images())
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    figures: dict[str, Figures] = {}
    for _ in range(ROUNDS):
        for name, way in WAYS.items():
            start = perf_counter()
            figures[name] = way(data)
            times[name].append(perf_counter() - start)
    reference = next(iter(WAYS))
    peaks = {
        (name, account): float(
            subprocess.run(
                [sys.executable, __file__, name, account],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for name in WAYS
        for account in ('resident', 'traced')
    }
    print('| | seconds | times faster | resident MB | times leaner | traced MB | times leaner |')
    print('|---|---|---|---|---|---|---|')
    for name in WAYS:
        ratios = np.divide(times[reference], times[name])
        cells = [
            f'{np.median(times[name]):.2f} ({min(times[name]):.2f}..{max(times[name]):.2f})',
            f'{np.median(ratios):.1f} ({ratios.min():.1f}..{ratios.max():.1f})',
        ]
        for account in ('resident', 'traced'):
            peak = peaks[name, account]
            cells += [f'{peak:.0f}', f'{peaks[reference, account] / peak:.1f}']
        print(f'| {name} | ' + ' | '.join(cells) + ' |')
    print('\n| difference to scikit-learn | AUROC | AP | FPR95 |\n|---|---|---|---|')
    for name in WAYS:
        differences = np.abs(np.subtract(figures[name], figures[reference]))
        print(f'| {name} | ' + ' | '.join(f'{d:.1e}' for d in differences) + ' |')


if __name__ == '__main__':
    if len(sys.argv) > 1:
        print(grown(*sys.argv[1:]))
    else:
        main()
