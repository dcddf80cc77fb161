# SPDX-License-Identifier: Apache-2.0
"""The TensorRT backend: a serialized engine, run by torch_tensorrt."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch

from multishift_perception.engine.cuda_runner import CudaBackend, Network, gpu_faults
from multishift_perception.engine.types import LEAST_OUTPUTS, EngineOutput

INPUT_NAME = 'frames'
OUTPUT_NAMES = EngineOutput._fields


class TensorRtBackend(CudaBackend):
    """An engine file of TensorRT or TensorRT for RTX on the GPU it was built for.

    Its bindings are named ``frames`` and as the fields of `EngineOutput`, of which older engines
    lack the last, or as its library names outputs. That GPU and library fit is for the caller to
    check first: see ``selection``.
    """

    def __init__(self, file: Path, device: str) -> None:
        """Load ``file`` to ``device``; raises MultishiftError where it is broken."""
        super().__init__(file, torch.device(device))
        with gpu_faults(file, self._device), torch.cuda.device(self._device):
            self._network = _module(file.read_bytes(), self._device)

    def run(self, frames: NDArray[np.uint8]) -> EngineOutput:
        """Run RGB frames ``uint8 [N,H,W,3]``; the first call captures the CUDA graph."""
        return self._runner(frames.shape[:3]).run(frames)

    @property
    def takes_pictures(self) -> bool:
        """Whether it shrinks pictures and enlarges outputs itself: always."""
        return True

    def close(self) -> None:
        """Free the engine and its memory."""
        del self._runners, self._network
        torch.cuda.empty_cache()


def output_names(dynamo: Any) -> list[str]:
    """Return the names of outputs in an engine of the installed torch_tensorrt.

    The very version that loads an engine has built it; before 2.14 it takes no names.

    Args:
        dynamo: the module ``torch_tensorrt.dynamo``.
    """
    build = inspect.signature(dynamo.convert_exported_program_to_serialized_trt_engine)
    if 'output_binding_names' in build.parameters:
        return list(OUTPUT_NAMES)
    return [f'output{i}' for i in range(len(OUTPUT_NAMES))]


def _module(engine: bytes, device: torch.device) -> Network:
    from torch_tensorrt import Device, dynamo
    from torch_tensorrt.runtime import TorchTensorRTModule

    names = output_names(dynamo)
    settings = dynamo.CompilationSettings(device=Device(gpu_id=device.index))
    first: RuntimeError | None = None
    for count in range(len(names), LEAST_OUTPUTS - 1, -1):
        try:
            module: Network = TorchTensorRTModule(
                engine,
                input_binding_names=[INPUT_NAME],
                output_binding_names=names[:count],
                settings=settings,
            )
        except RuntimeError as error:  # it has fewer, or is broken: then the first one says why
            first = first or error
        else:
            return module
    assert first is not None
    raise first
