# SPDX-License-Identifier: Apache-2.0
"""The OpenVINO backend: fast on any x86-64 or Arm CPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
import openvino as ov

from multishift_perception.engine.types import EngineOutput
from multishift_perception.errors import MultishiftError, one_line


class OpenVinoBackend:
    """An OpenVINO IR (``.xml`` with its ``.bin``) compiled for this CPU."""

    def __init__(self, file: Path, device: str = 'cpu') -> None:
        """Compile ``file`` for the CPU; raises MultishiftError where OpenVINO refuses it."""
        del device  # It runs on no other.
        options = {
            'PERFORMANCE_HINT': 'LATENCY',
            # CPUs with bfloat16 units would silently compute in it; parity was stated for float32.
            'INFERENCE_PRECISION_HINT': 'f32',
        }
        try:
            model = _core().compile_model(file, 'CPU', options)
        except RuntimeError as error:
            reason = one_line(error)
            raise MultishiftError(
                f'OpenVINO {ov.__version__} cannot load {file} ({reason}): build the bundle again '
                'with `multishift engine build --target openvino`'
            ) from None
        self._outputs = [(tuple(o.shape), o.element_type.to_dtype()) for o in model.outputs]
        self._request = model.create_infer_request()

    @staticmethod
    def set_threads(count: int) -> None:
        """Compile with so many threads from now on; 0: as many as OpenVINO takes by itself."""
        _core().set_property('CPU', {'INFERENCE_NUM_THREADS': count})

    def run(self, frames: NDArray[np.uint8]) -> EngineOutput:
        """Run RGB frames ``uint8 [N,H,W,3]``; the outputs are the caller's own arrays."""
        arrays = [np.empty(shape, dtype) for shape, dtype in self._outputs]
        # The request would reuse memory of its own at the next call.
        for i, array in enumerate(arrays):
            self._request.set_output_tensor(i, ov.Tensor(array, shared_memory=True))
        self._request.infer([frames], share_inputs=True, share_outputs=True)
        return EngineOutput(*arrays)

    def close(self) -> None:
        """Free the compiled model."""
        del self._request


@cache
def _core() -> ov.Core:
    """Return the process's one Core.

    It outlives every engine on purpose: with the last reference OpenVINO unloads its CPU plugin,
    whose worker threads may still be winding down.
    """
    return ov.Core()
