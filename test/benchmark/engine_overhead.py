# SPDX-License-Identifier: Apache-2.0
"""What our runtime adds to the bare OpenVINO call, and how eager PyTorch compares.

    python test/benchmark/engine_overhead.py [BUNDLE]
    taskset -c 1 python test/benchmark/engine_overhead.py [BUNDLE]    # on one thread

All run in one process, call by call in turn, each round in another order. *bare* is an inference
request of OpenVINO with shared inputs and outputs: it copies nothing, and its results are lost at
the next call. *ours* is `Engine.infer`, which checks the frames and returns arrays of the caller's
own. *torch backend* is the bundle's exported program; *eager module* the same network as trained,
batch norms and all, channels last, with random weights. CPU time counts what all threads do, and
hardly depends on what else the machine runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import sys
from time import perf_counter, process_time, sleep

import numpy as np
import openvino as ov
import torch
from tqdm import tqdm

from multishift_perception.engine import EMBEDDED_BUNDLE, Engine
from multishift_perception.engine.probe import ProbeSet
from multishift_perception.process.memory import keep_large_buffers
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.models import create

ROUNDS = 150
# Threads of a library look for more work, and keep the core, for some time after a call.
REST = 0.1
OPTIONS = {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32'}


def calls(bundle: Path) -> dict[str, Callable[[], object]]:
    """Return what is compared, by name."""
    ours, by_torch = (Engine.load(bundle, backend=b) for b in ('openvino', 'torch'))
    manifest = ours.manifest
    frames = ProbeSet.load(bundle / manifest.probe.file).frames[0]
    file = bundle / manifest.artifact('openvino').file
    request = ov.Core().compile_model(file, 'CPU', OPTIONS).create_infer_request()
    model = create(manifest.model, num_classes=len(manifest.classes))
    model.to(memory_format=torch.channels_last)
    eager = DeployGraph(model, manifest.calibration).eval()

    def run_eager() -> object:
        with torch.inference_mode():
            return [output.numpy() for output in eager(torch.from_numpy(frames))]

    return {
        'bare': lambda: request.infer([frames], share_inputs=True, share_outputs=True),
        'ours': lambda: ours.infer(frames),
        'torch backend': lambda: by_torch.infer(frames),
        'eager module': run_eager,
    }


def main(bundle: Path) -> None:
    """Print a Markdown table."""
    keep_large_buffers()
    compared = calls(bundle)
    rng = np.random.default_rng(0)
    wall: dict[str, list[float]] = {name: [] for name in compared}
    cpu: dict[str, list[float]] = {name: [] for name in compared}
    for turn in tqdm(range(ROUNDS + 2), unit='round'):
        for name in rng.permutation(list(compared)):
            sleep(REST)
            start, cpu_start = perf_counter(), process_time()
            compared[name]()
            if turn >= 2:  # those before are for warming up
                wall[name].append(perf_counter() - start)
                cpu[name].append(process_time() - cpu_start)
    print('| call | median ms | CPU ms | times bare, per round (quartiles) | in CPU time |')
    print('|---|---|---|---|---|')
    for name in compared:
        row = [f'{1e3 * np.median(times[name]):.2f}' for times in (wall, cpu)]
        for times in (wall, cpu):
            low, middle, high = np.percentile(
                np.array(times[name]) / np.array(times['bare']), [25, 50, 75]
            )
            row.append(f'{middle:.3f} ({low:.3f} to {high:.3f})')
        print(f'| {name} | ' + ' | '.join(row) + ' |')
    for clock, times in (('', wall), (' in CPU time', cpu)):
        ratios = np.array(times['eager module']) / np.array(times['ours'])
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        print(f'ours is {middle:.2f} ({low:.2f} to {high:.2f}) times as fast as eager{clock}')


if __name__ == '__main__':
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else EMBEDDED_BUNDLE)
