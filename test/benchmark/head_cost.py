# SPDX-License-Identifier: Apache-2.0
"""What the uncertainty head takes of an OpenVINO engine's time: the table in docs/benchmarks.md.

    python test/benchmark/head_cost.py --size 1024x2048 --model pidnet_s

One network is called with three sets of outputs, call by call in turn, each round in another
order: the label alone; label and score; and all that an engine gives, with the calibrated anomaly,
the look and the confidence. Weights are random, as no time depends on them.
"""

from __future__ import annotations

from time import perf_counter, process_time

import click
from gpu.proof.networks import CALIBRATION, NAMES  # type: ignore[import-not-found]
import numpy as np
import openvino as ov
import torch

from multishift_perception.engine import EngineOutput
from multishift_training import models
from multishift_training.cli.options import SizeType
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.openvino_graph import speed_up_upsampling
from multishift_training.export.program import export_program

_OUTPUTS = {'label': [0], 'label and score': [0, 1], 'all': range(len(EngineOutput._fields))}
_OPTIONS = {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32'}


@click.command()
@click.option('--size', type=SizeType(), default='512x1024', show_default=True)
@click.option('--model', 'names', multiple=True, type=click.Choice(NAMES), required=True)
@click.option('--rounds', type=click.IntRange(min=3), default=20, show_default=True)
@click.option('--threads', type=click.IntRange(min=1), default=1, show_default=True)
def main(size: tuple[int, int], names: tuple[str, ...], rounds: int, threads: int) -> None:
    """Print a Markdown table: medians, and ratios of the rounds with their quartiles."""
    print(f'{size[0]}x{size[1]}, {threads} threads, {rounds} rounds\n')
    print('| network | outputs | median ms | CPU ms | over the label alone (quartiles) |')
    print('|---|---|---|---|---|')
    for name in names:
        _measure(name, size, rounds, {**_OPTIONS, 'INFERENCE_NUM_THREADS': threads})


def _measure(name: str, size: tuple[int, int], rounds: int, options: dict[str, object]) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (1, *size, 3), np.uint8)
    program = export_program(
        DeployGraph(models.create(name), CALIBRATION), torch.from_numpy(frames)
    )
    whole = ov.convert_model(program)
    whole.reshape(list(frames.shape))
    speed_up_upsampling(whole)
    requests = {}
    for outputs, indices in _OUTPUTS.items():
        some = whole.clone()
        part = ov.Model([some.get_results()[i] for i in indices], some.get_parameters())
        requests[outputs] = ov.Core().compile_model(part, 'CPU', options).create_infer_request()
    wall: dict[str, list[float]] = {outputs: [] for outputs in requests}
    cpu: dict[str, list[float]] = {outputs: [] for outputs in requests}
    for turn in range(rounds + 1):
        for outputs in rng.permutation(list(requests)):
            start, cpu_start = perf_counter(), process_time()
            requests[outputs].infer([frames], share_inputs=True, share_outputs=True)
            if turn:  # the first warms up
                wall[outputs].append(perf_counter() - start)
                cpu[outputs].append(process_time() - cpu_start)
    for outputs in requests:
        medians = [f'{1e3 * np.median(times[outputs]):.0f}' for times in (wall, cpu)]
        # CPU time, as other work on the machine hardly changes it.
        ratios = np.array(cpu[outputs]) / np.array(cpu['label'])
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        print(
            f'| `{name}` | {outputs} | {" | ".join(medians)} '
            f'| {middle:.3f} ({low:.3f} to {high:.3f}) |',
            flush=True,
        )


if __name__ == '__main__':
    main()
