# SPDX-License-Identifier: Apache-2.0
"""`multishift engine bench`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from multishift_perception.cli.options import Number, backends_option, device_option, json_option
from multishift_perception.cli.verbosity import notice
from multishift_perception.engine import EMBEDDED_BUNDLE, Manifest, read_manifest
from multishift_perception.engine.gpu import find_gpu
from multishift_perception.engine.selection import all_sizes, choose
from multishift_perception.engine.stages import CAMERA_SIZE
from multishift_perception.engine.timing import Candidate, Timing, measure
from multishift_perception.errors import MultishiftError
from multishift_perception.report.text import align_columns

_PATH = click.Path(path_type=Path)
_TITLES = (
    'engine',
    'batch',
    'p50 ms',
    'p99 ms',
    'frames/s',
    'CPU ms',
    'MB',
    'GPU MB',
    'times torch',
)


@click.command()
@click.argument('bundles', type=_PATH, nargs=-1)
@backends_option
@device_option
@click.option(
    '--seconds',
    type=Number(min=0, min_open=True),
    default=10,
    help='How long each engine is called.',
)
@json_option('the measurements')
def command(
    bundles: tuple[Path, ...],
    backends: tuple[str, ...],
    device: int,
    seconds: float,
    as_json: bool,
) -> None:
    """Measure latency, throughput and memory of BUNDLES (the embedded engine when left out).

    Each engine has a process of its own; they are called in turn, in rounds, so that what slows
    the machine slows all of them. "times torch" compares with the same bundle's `torch` backend,
    round by round: median, and least and most of the rounds. A bundle of several batch sizes has
    a row for each. "CPU ms" is what all threads compute for a frame, and MB the most memory of
    the process. Below the table: what the stages of a call take, from pictures of a camera to
    labels and anomaly of its size, and the arithmetic of a call.
    """
    chosen = [e for b in bundles or (EMBEDDED_BUNDLE,) for e in _engines(b, backends, device)]
    timings = measure(chosen, seconds=seconds, device=device)
    rows = [_facts(timing, timings, device) for timing in timings]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for line in (
        *align_columns([_TITLES, *map(_cells, rows)]),
        *(_stages_line(row) for row in rows),
        *(_roofline_line(row) for row in rows),
    ):
        click.echo(line)


def _engines(bundle: Path, backends: Sequence[str], device: int) -> Iterator[Candidate]:
    """Yield each batch size of the backends asked for, or of all that run here."""
    manifest = read_manifest(bundle)
    for backend in backends or dict.fromkeys(a.backend for a in manifest.artifacts):
        try:
            choice = choose(bundle, manifest, backend, device)
        except MultishiftError as error:
            if backends:
                raise
            notice(f'left out: {error}')
        else:
            for batch in all_sizes(manifest, choice, device):
                yield Candidate(bundle, backend, batch)


def _facts(timing: Timing, timings: Sequence[Timing], device: int) -> dict[str, Any]:
    artifact = timing.choice.artifact
    torch_ones = [
        t
        for t in timings
        if (t.bundle, t.batch) == (timing.bundle, timing.batch)
        and t.choice.artifact.backend == 'torch'
    ]
    ratios = timing.ratios(torch_ones[0]) if torch_ones else []
    return {
        'bundle': str(timing.bundle),
        'backend': artifact.backend,
        'precision': artifact.precision,
        'device': timing.choice.device,
        'batch': timing.batch,
        'calls': len(timing.calls),
        'p50_ms': timing.percentile(50) * 1e3,
        'p99_ms': timing.percentile(99) * 1e3,
        'frames_per_second': timing.frames_per_second,
        'cpu_ms_per_frame': timing.cpu_per_frame * 1e3,
        'memory_bytes': timing.memory,
        'gpu_memory_bytes': timing.gpu_memory,
        'times_torch': float(np.median(ratios)) if ratios else None,
        'times_torch_range': [min(ratios), max(ratios)] if ratios else None,
        'shrinks_on': timing.shrinks_on,
        'stages_ms': {stage: 1e3 * seconds for stage, seconds in timing.stages.items()},
        'roofline': _roofline(timing, device),
    }


def _roofline(timing: Timing, device: int) -> dict[str, Any] | None:
    """Return the work of a call and its share of the device's peak.

    None without the program that tells it, or without PyTorch, which reads that.
    """
    manifest: Manifest = read_manifest(timing.bundle)
    program = manifest.artifact('torch')
    if program is None or find_spec('torch') is None:
        return None
    from multishift_perception.engine.roofline import peak_of, work_of

    work = work_of(timing.bundle / program.file, manifest.input)
    work = work.times(timing.batch // manifest.input.batch)
    precision, seconds = timing.choice.artifact.precision, timing.percentile(50)
    name = None if timing.choice.device == 'cpu' else find_gpu(device).name
    peak = peak_of(name) if name else None
    return {
        'flops': work.flops,
        'bytes': work.bytes_moved(precision),
        'flops_per_second': work.flops / seconds,
        'device': name or 'CPU',
        'share_of_peak': peak and peak.seconds(work, precision) / seconds,
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    gpu, ratio, spread = row['gpu_memory_bytes'], row['times_torch'], row['times_torch_range']
    return (
        _name(row),
        str(row['batch']),
        f'{row["p50_ms"]:.2f}',
        f'{row["p99_ms"]:.2f}',
        f'{row["frames_per_second"]:.1f}',
        f'{row["cpu_ms_per_frame"]:.2f}',
        f'{row["memory_bytes"] / 1e6:.0f}',
        '' if gpu is None else f'{gpu / 1e6:.0f}',
        '' if ratio is None else f'{ratio:.2f} ({spread[0]:.2f} to {spread[1]:.2f})',
    )


def _name(row: dict[str, Any]) -> str:
    name = Path(row['bundle']).name
    return f'{name} {row["backend"]} {row["precision"]} {row["device"]}'


def _stages_line(row: dict[str, Any]) -> str:
    height, width = CAMERA_SIZE
    pictures = f'a picture of {width} x {height}'
    if row['batch'] > 1:
        pictures = f'{row["batch"]} pictures of {width} x {height}'
    stages = ', '.join(f'{stage} {ms:.2f} ms' for stage, ms in row['stages_ms'].items())
    return f'{_name(row)}: {pictures}, shrunk on {row["shrinks_on"]}: {stages}'


def _roofline_line(row: dict[str, Any]) -> str:
    roofline = row['roofline']
    if roofline is None:
        return f'{_name(row)}: FLOPs are not known: they need a torch artifact, and torch'
    share = roofline['share_of_peak']
    reach = 'its peak is not known' if share is None else f'{share:.0%} of its peak'
    return (
        f'{_name(row)}: {roofline["flops"] / 1e9:.2f} GFLOP and at least '
        f'{roofline["bytes"] / 1e6:.1f} MB per call, {roofline["flops_per_second"] / 1e9:.0f} '
        f'GFLOP/s on {roofline["device"]}: {reach}'
    )
