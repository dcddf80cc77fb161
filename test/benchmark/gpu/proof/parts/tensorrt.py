# SPDX-License-Identifier: Apache-2.0
"""Whether TensorRT for RTX takes this GPU; compute capability 9.0 is not in its list."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
import importlib
from importlib import metadata
import importlib.util
from typing import Any

import torch

from multishift_perception.errors import MultishiftError
from proof.settings import AbsentError, Note, Settings


def run(settings: Settings, note: Note) -> None:
    """Say what is installed, what it builds for, and what it says of 9.0 and of this GPU."""
    for package in ('torch_tensorrt', 'tensorrt', 'tensorrt_rtx'):
        note(package, _version(package))
    if importlib.util.find_spec('tensorrt_rtx') is None:
        raise AbsentError('tensorrt_rtx is not installed, and too large to bring along')
    from multishift_training.export import Plan, check_plan

    trt = importlib.import_module('tensorrt_rtx')
    note('compute capabilities', ', '.join(trt.ComputeCapability.__members__))
    capabilities = ['9.0']
    if settings.on_gpu:
        capabilities.append('.'.join(map(str, torch.cuda.get_device_capability(0))))
    for capability in dict.fromkeys(capabilities):
        plan = Plan(['tensorrt-rtx'], 'fp16', [capability])
        note(f'build for {capability}', _word(partial(check_plan, plan)))
    note('build for CURRENT', _build_current(trt) if settings.on_gpu else 'needs a GPU')


def _version(package: str) -> str:
    if importlib.util.find_spec(package) is None:
        return 'absent'
    for name in (package, f'{package}_cu13'):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return 'there'


def _word(work: Callable[[], object]) -> str:
    try:
        work()
    except MultishiftError as error:
        return f'refused: {error}'
    return 'accepted'


def _build_current(trt: Any) -> str:
    """Build an engine of one operation for the GPU of this machine, and say how that ends."""
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    given = network.add_input('x', trt.float32, (1, 3, 8, 8))
    network.mark_output(network.add_activation(given, trt.ActivationType.RELU).get_output(0))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.CURRENT, 0)
    engine = builder.build_serialized_network(network, config)
    return 'refused: no engine comes out' if engine is None else f'{len(bytes(engine))} bytes'
