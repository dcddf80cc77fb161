# SPDX-License-Identifier: Apache-2.0
"""Whether a package of AOTInductor beats the program run operator by operator in a CUDA graph.

Only then is it worth a target of its own: it is machine code, which loading it runs, for one kind
of GPU and one version of PyTorch.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
import shutil
import tempfile

import numpy as np
import torch
from torch._inductor import aoti_compile_and_package, aoti_load_package
from torch.export.passes import move_to_device_pass

from multishift_training import models
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.precision import typed
from multishift_training.export.program import export_program
from proof.attempts import Attempts
from proof.networks import CALIBRATION, FOR_VEHICLES, runner
from proof.settings import AbsentError, Note, Settings


def run(settings: Settings, note: Note) -> None:
    """Compare those for vehicles, as time allows."""
    if not settings.on_gpu:
        raise AbsentError('compiles for a GPU, which takes minutes on a CPU')
    for tool in (shutil.which('g++'), find_spec('triton')):
        if tool is None:
            raise AbsentError('AOTInductor compiles with g++ and triton: one of them is missing')
    torch.manual_seed(0)
    attempts = Attempts(note)
    for name in FOR_VEHICLES:
        if settings.left < 20:
            remaining = FOR_VEHICLES[FOR_VEHICLES.index(name) :]
            note('no time for', ', '.join(remaining))
            break
        attempts.row(name, partial(_row, settings, name, (1024, 2048)))
    attempts.end()


def _row(settings: Settings, name: str, size: tuple[int, int]) -> dict[str, object]:
    frames = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    given = torch.from_numpy(frames)
    program = export_program(DeployGraph(models.create(name), CALIBRATION), given)
    program = typed(program, given, 'fp16')
    program = move_to_device_pass(program, str(settings.device))
    program.example_inputs = (given.to(settings.device),), {}
    with tempfile.TemporaryDirectory() as folder:
        package = aoti_compile_and_package(program, package_path=str(Path(folder) / 'net.pt2'))
        compiled = aoti_load_package(package)
    calls = [
        runner(network, frames.shape, settings.device)
        for network in (program.module(check_guards=False), lambda shown: tuple(compiled(shown)))
    ]
    plain, packed = (call(frames) for call in calls)
    agree = np.mean(np.asarray(plain[0]) == np.asarray(packed[0]))
    times = [1e3 * float(np.median(settings.seconds(partial(c, frames)))) for c in calls]
    return {'eager ms': times[0], 'package ms': times[1], 'labels that agree': float(agree)}
