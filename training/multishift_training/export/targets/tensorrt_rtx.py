# SPDX-License-Identifier: Apache-2.0
"""TensorRT for RTX: engines built ahead of time, for GPUs that this machine need not have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import platform
import sys
from typing import Any

from multishift_perception.engine import TensorRtNeeds
from multishift_perception.errors import MultishiftError
from multishift_training.export.missing import require
from multishift_training.export.network import Network
from multishift_training.export.onnx_kind import check_onnx
from multishift_training.export.plan import Plan
from multishift_training.export.tensorrt_builder import EngineBuilder, check_gpu_has
from multishift_training.export.to_onnx import to_onnx
from multishift_training.export.written import Written, batch_suffix

_NAME = 'TensorRT for RTX'
# Of its published support matrices. The library names 8.0 too, which they do not.
_SUPPORTED = ('7.5', '8.6', '8.9', '12.0', '12.1')


def check(plan: Plan) -> None:
    """Raise MultishiftError where the library, the GPU or its precision is not to be had."""
    allowed = _capabilities(_library())
    for capability in plan.capabilities:
        if capability not in allowed:
            raise MultishiftError(
                f'{_NAME} builds for no compute capability {capability}: choose from '
                f'{", ".join(allowed)}; for other GPUs, such as those of Orin and Thor, run '
                '`multishift engine build CHECKPOINT --target tensorrt` on the vehicle'
            )
        check_gpu_has(plan.precision, capability)
    check_onnx()


def write(network: Network, plan: Plan, folder: Path) -> Iterator[Written]:
    """Write an engine for each compute capability and batch size, in the plan's precision.

    The GPU that one is for may be anywhere: `multishift engine verify` proves it there.

    Raises:
        MultishiftError: the library cannot build the network; with the operators at fault.
    """
    for batch in plan.ascending:
        onnx = to_onnx(network.of(batch).typed(plan.precision))
        yield from build_engines(onnx, batch, plan, folder)


def build_engines(onnx: bytes, batch: int, plan: Plan, folder: Path) -> Iterator[Written]:
    """Do what `write` does for one batch size, from an ONNX model in the engines' types."""
    trt = _library()
    version = '.'.join(trt.__version__.split('.')[:3])
    builder = EngineBuilder(trt, _NAME, onnx)
    for capability in dict.fromkeys(plan.capabilities):
        suffix = f'{capability.replace(".", "")}{batch_suffix(batch, plan)}'
        file = folder / f'tensorrt-rtx-sm{suffix}.engine'
        config = builder.new_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(_capabilities(trt)[capability], 0)
        file.write_bytes(builder.build(config))
        yield Written(
            backend='tensorrt',
            file=file,
            precision=plan.precision,
            needs={
                'device': f'NVIDIA GPU of compute capability {capability}',
                'library': f'{_NAME} {version}',
            },
            device=None,
            batches=(batch,),
            tensorrt=TensorRtNeeds(
                flavour='tensorrt_rtx',
                version=version,
                compute_capability=capability,
                platform=f'{sys.platform}_{platform.machine()}',  # type: ignore[arg-type]  # validated
            ),
        )


def _library() -> Any:
    # The newest that a released torch-tensorrt-rtx, which runs the engines, takes along.
    packages = ("'tensorrt-rtx-cu13==1.6.1.*'", 'onnx', 'onnxscript')
    return require('tensorrt_rtx', packages=packages, purpose='--target tensorrt-rtx')


def _capabilities(trt: Any) -> dict[str, Any]:
    """Return what the library builds for and supports, by name such as ``8.9``."""
    members = trt.ComputeCapability.__members__
    names = {capability: f'SM{capability.replace(".", "")}' for capability in _SUPPORTED}
    return {c: members[name] for c, name in names.items() if name in members}
