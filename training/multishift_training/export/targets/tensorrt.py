# SPDX-License-Identifier: Apache-2.0
"""TensorRT: an engine built by torch_tensorrt on the GPU that will run it.

Those of 8 bits are built from ONNX, by the parser of TensorRT itself: of the nodes that quantise,
torch_tensorrt converts nvidia-modelopt's alone.
"""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import platform
import sys
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from multishift_perception.engine import TensorRtNeeds
from multishift_perception.engine.gpu import find_gpu
from multishift_perception.engine.tensorrt_backend import INPUT_NAME, OUTPUT_NAMES, output_names
from multishift_perception.errors import MultishiftError
from multishift_perception.files import write_bytes
from multishift_training.export.missing import require
from multishift_training.export.network import Network
from multishift_training.export.onnx_kind import check_onnx
from multishift_training.export.plan import EIGHT_BITS, Plan
from multishift_training.export.quiet import quiet_copies
from multishift_training.export.tensorrt_builder import EngineBuilder, check_gpu_has
from multishift_training.export.to_onnx import to_onnx
from multishift_training.export.written import Written, batch_suffix

_DEVICE = torch.device('cuda', 0)


def check(plan: Plan) -> None:
    """Raise MultishiftError where there is no GPU, no library for it, or no such precision."""
    if not torch.cuda.is_available():
        raise MultishiftError(
            '--target tensorrt builds on the GPU that will run the engine, and PyTorch finds none '
            'here: run it on the vehicle, or build ahead of time with --target tensorrt-rtx'
        )
    if _library().ENABLED_FEATURES.tensorrt_rtx:
        raise MultishiftError(
            'this torch_tensorrt is for TensorRT for RTX: pip install torch_tensorrt, or build '
            'with --target tensorrt-rtx'
        )
    check_gpu_has(plan.precision, find_gpu(_DEVICE.index).compute_capability)
    if plan.precision in EIGHT_BITS:
        check_onnx()


def write(network: Network, plan: Plan, folder: Path) -> Iterator[Written]:
    """Write an engine of each batch size for this machine's first GPU, in the plan's precision.

    Raises:
        MultishiftError: the library cannot build all of the network; with the operators at fault.
    """
    gpu = find_gpu(_DEVICE.index)
    version = '.'.join(_tensorrt().__version__.split('.')[:3])
    capability = gpu.compute_capability.replace('.', '')
    cache = _cache_folder() / f'timing-{version}-sm{capability}.bin'
    cache.parent.mkdir(parents=True, exist_ok=True)
    for batch in plan.ascending:
        sized = network.of(batch)
        program = sized.typed(plan.precision)
        file = folder / f'tensorrt-sm{capability}{batch_suffix(batch, plan)}.engine'
        if plan.precision in EIGHT_BITS:
            file.write_bytes(_build_from_onnx(to_onnx(program), cache))
        else:
            file.write_bytes(_build(program, sized.frames, cache))
        yield Written(
            backend='tensorrt',
            file=file,
            precision=plan.precision,
            needs={'device': gpu.name, 'library': f'TensorRT {version}'},
            device=str(_DEVICE),
            batches=(batch,),
            tensorrt=TensorRtNeeds(
                flavour='tensorrt',
                version=version,
                compute_capability=gpu.compute_capability,
                platform=f'{sys.platform}_{platform.machine()}',  # type: ignore[arg-type]  # validated
                gpu=gpu.name,
            ),
        )


def _build(program: ExportedProgram, frames: Tensor, timing_cache: Path) -> bytes:
    dynamo = _library().dynamo
    try:
        with quiet_copies():
            moved = move_to_device_pass(program, str(_DEVICE))
            engine: bytes = dynamo.convert_exported_program_to_serialized_trt_engine(
                moved,
                arg_inputs=(frames.to(_DEVICE),),
                # Ignored before 2.14, which names them by itself: see `TensorRtBackend`.
                arg_input_binding_names=(INPUT_NAME,),
                output_binding_names=OUTPUT_NAMES,
                device=_DEVICE,
                require_full_compilation=True,
                # Our masks say which pixels a query sees; the default takes them for causal ones.
                attn_bias_is_causal=False,
                timing_cache_path=str(timing_cache),
            )
    except RuntimeError as error:  # whatever a converter or the builder met
        reason = ' '.join(str(error.__cause__ or error).split())[:300]
        at_fault = ', '.join(_unsupported(program)) or 'none by name'
        raise MultishiftError(
            f'TensorRT cannot build the whole network, operators at fault: {at_fault} ({reason}): '
            'build for another target'
        ) from error
    return engine


def _build_from_onnx(onnx: bytes, timing_cache: Path) -> bytes:
    builder = EngineBuilder(_tensorrt(), 'TensorRT', onnx)
    builder.name_outputs(output_names(_library().dynamo))
    config = builder.new_config()
    known = timing_cache.read_bytes() if timing_cache.exists() else b''
    # False: what another GPU or version has measured is refused, and so not taken.
    config.set_timing_cache(config.create_timing_cache(known), False)
    engine = builder.build(config)
    write_bytes(timing_cache, bytes(config.get_timing_cache().serialize()))
    return engine


def _unsupported(program: ExportedProgram) -> list[str]:
    """Return the operators that the library has no converter for."""
    from torch_tensorrt.dynamo.conversion import DYNAMO_CONVERTERS
    from torch_tensorrt.dynamo.lowering import get_decompositions

    with quiet_copies():
        lowered = program.run_decompositions(get_decompositions())
    nodes = [node for node in lowered.graph.nodes if node.op == 'call_function']
    return sorted({str(node.target) for node in nodes if node not in DYNAMO_CONVERTERS})


def _cache_folder() -> Path:
    """Return where measured times of kernels may stay between builds."""
    root = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(root) / 'multishift_perception' / 'tensorrt'


def _library() -> Any:
    return require('torch_tensorrt', packages=['torch_tensorrt'], purpose='--target tensorrt')


def _tensorrt() -> Any:
    return require('tensorrt', packages=['torch_tensorrt'], purpose='--target tensorrt')
