# SPDX-License-Identifier: Apache-2.0
"""Size and build time of every network's TensorRT engine: the table in docs/engines.md.

    python test/benchmark/engine_builds.py --size 96x160
    python test/benchmark/engine_builds.py --size 1024x2048 --model deeplabv3plus_wideresnet38

No GPU is needed. Weights are random, as neither size nor time depends on them.
"""

from __future__ import annotations

import gc
from pathlib import Path
import resource
import tempfile
import time

import click
from gpu.proof.networks import CALIBRATION, NAMES  # type: ignore[import-not-found]
import torch

from multishift_training import models
from multishift_training.cli.options import SizeType
from multishift_training.export import Plan, Precision, check_plan
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.precision import DTYPES, typed
from multishift_training.export.program import export_program
from multishift_training.export.targets.tensorrt_rtx import build_engines
from multishift_training.export.to_onnx import to_onnx


@click.command()
@click.option('--size', type=SizeType(), default='96x160', show_default=True)
@click.option('--model', 'names', multiple=True, type=click.Choice(NAMES), default=NAMES)
@click.option('--precision', type=click.Choice(tuple(DTYPES)), default='fp16', show_default=True)
@click.option('--compute-capability', 'capabilities', multiple=True, default=('8.9',))
def main(
    size: tuple[int, int],
    names: tuple[str, ...],
    precision: Precision,
    capabilities: tuple[str, ...],
) -> None:
    """Print a Markdown table, a row as soon as it is measured."""
    plan = Plan(['tensorrt-rtx'], precision, capabilities)
    check_plan(plan)
    height, width = size
    print(f'{height}x{width}, {precision}, compute capability {", ".join(capabilities)}\n')
    print('| network | ONNX export | all engines | sizes | peak memory so far |')
    print('|---|---|---|---|---|')
    for name in names:
        _measure(name, torch.zeros(1, height, width, 3, dtype=torch.uint8), plan)


def _measure(name: str, frames: torch.Tensor, plan: Plan) -> None:
    start = time.perf_counter()
    graph = DeployGraph(models.create(name), CALIBRATION)
    program = typed(export_program(graph, frames), frames, plan.precision)
    onnx = to_onnx(program)
    del graph, program
    gc.collect()
    exported = time.perf_counter()
    with tempfile.TemporaryDirectory() as name_of:
        folder = Path(name_of)
        list(build_engines(onnx, 1, plan, folder))
        sizes = [file.stat().st_size for file in sorted(folder.iterdir())]
    built = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f'| `{name}` | {exported - start:.0f} s | {built - exported:.0f} s '
        f'| {", ".join(f"{size / 1e6:.1f} MB" for size in sizes)} | {peak:.1f} GB |',
        flush=True,
    )


if __name__ == '__main__':
    main()
