# SPDX-License-Identifier: Apache-2.0
"""Trains on this machine's GPU within a time, and brings the run back: `make gpu-train`.

    python test/benchmark/gpu/train.py [CONFIG] [--minutes 8] [--out DIR] [--resume DIR]

Needs what `make gpu` needs. Frames of the sample drive are rendered first, on all cores. The run
trains in bfloat16 with channels last, and as many processes load data as there are cores to spare.
Whenever it has saved something new, DIR gets it: `best.safetensors`, the state to go on from, the
log, and figures, each file below 16 MiB. `--resume DIR` goes on from such a folder, here or on
another machine. Images that `make gpu-pack` took along are unpacked, and are the data's root.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import json
import os
from pathlib import Path
import subprocess
import sys
import tarfile
import time
from typing import Any

from bringing import bring, restore
from machine import PACK, ROOT, prepare

_SAMPLE = ROOT / 'config' / 'training' / 'sample.yaml'
_FILES = ('best.safetensors', 'config.yaml', 'log.jsonl', 'last.pt')
_RESERVE = 15.0  # seconds for the last validation and the way back
_COMMAND = 'from multishift_training.cli.train import command; command()'


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and bring back; return 0 where the run ended or was left in time."""
    start = time.monotonic()
    options = _options(arguments)
    for line in prepare():
        print(line)
    run = ROOT / 'gpu-run' / options.config.stem if options.run is None else options.run
    if options.resume is not None:
        restore(options.resume, run)
    training = _start(options, run, start)
    used: list[float] = []
    brought, left_out = 0.0, []
    while training.poll() is None:
        time.sleep(options.every)
        used += _utilisation()
        if (newest := _newest(run)) > brought:
            brought, left_out = newest, bring((run / name for name in _FILES), options.out)
    left_out = bring((run / name for name in _FILES), options.out)
    figures = _figures(run, used) | {'seconds': time.monotonic() - start, 'left out': left_out}
    (options.out / 'figures.json').write_text(json.dumps(figures, indent=1) + '\n')
    for line in (*left_out, f'brought back into {options.out}: {", ".join(_names(options.out))}'):
        print(line)
    return training.returncode


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', type=Path, nargs='?', default=_SAMPLE)
    parser.add_argument('--minutes', type=float, default=8.0, help='rendering included')
    parser.add_argument('--out', type=Path, default=ROOT / 'gpu-report' / 'train')
    parser.add_argument('--resume', type=Path, help='folder that was brought back')
    parser.add_argument('--run', type=Path, help='folder of the run on this machine')
    parser.add_argument('--data', type=Path, help="root of the data; the pack's when left out")
    parser.add_argument('--workers', type=int, default=max(1, len(os.sched_getaffinity(0)) - 2))
    parser.add_argument(
        '--every', type=float, default=2.0, help='seconds between looks at the run'
    )
    return parser.parse_args(arguments)


def _start(options: argparse.Namespace, run: Path, start: float) -> subprocess.Popen[bytes]:
    """Start `multishift train` in a process of its own."""
    left = 60 * options.minutes - (time.monotonic() - start) - _RESERVE
    command = ['--out', str(run), '--max-minutes', str(max(left, 1e-3) / 60)]
    claimed = run / 'config.yaml'
    # A run goes on with the very options that it was started with.
    config = claimed if claimed.exists() else options.config
    if config is not claimed:
        command += ['--precision', 'bf16', '--channels-last', '--workers', str(options.workers)]
    data = options.data or _unpacked()
    command += ['--data', str(data)] if data else []
    return subprocess.Popen([sys.executable, '-c', _COMMAND, str(config), *command], cwd=ROOT)


def _unpacked() -> Path | None:
    """Return the folder with what the pack holds of images; None where it holds none."""
    archives = sorted(PACK.glob('*.tar'))
    target = ROOT / 'build' / 'gpu-data'
    for archive in archives:
        with tarfile.open(archive) as file:
            file.extractall(target, filter='data')
    return target if archives else None


def _newest(run: Path) -> float:
    """Return when something of the run was last saved."""
    times = [(run / name).stat().st_mtime for name in _FILES if (run / name).exists()]
    return max(times, default=0.0)


def _utilisation() -> list[float]:
    """Return the share of the time that the GPU has work, as the driver sees it; none without."""
    command = ['nvidia-smi', '--query-gpu=utilization.gpu', '--format=csv,noheader,nounits']
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return [float(done.stdout.splitlines()[0]) / 100]
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return []


def _figures(run: Path, used: Sequence[float]) -> dict[str, Any]:
    log = run / 'log.jsonl'
    history = [json.loads(x) for x in log.read_text().splitlines()] if log.exists() else []
    busy = sorted(used)[len(used) // 2] if used else None
    return {
        'epochs done': len(history),
        'last epoch': history[-1] if history else None,
        'GPU busy, median of looks': busy,
    }


def _names(folder: Path) -> list[str]:
    return [f'{p.name} ({p.stat().st_size / 2**20:.1f} MiB)' for p in sorted(folder.iterdir())]


if __name__ == '__main__':
    sys.exit(main())
