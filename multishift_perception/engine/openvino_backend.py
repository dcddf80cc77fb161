# SPDX-License-Identifier: Apache-2.0
"""The OpenVINO backend: fast on any x86-64 or Arm CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
        self._file, self._options = file, options
        with self._faults():
            self._model: ov.Model = _core().read_model(file)
        batch, *_ = self._model.input(0).shape
        self._requests: dict[int, ov.InferRequest] = {}
        self._prepare(batch)

    @staticmethod
    def set_threads(count: int) -> None:
        """Compile with so many threads from now on; 0: as many as OpenVINO takes by itself."""
        _core().set_property('CPU', {'INFERENCE_NUM_THREADS': count})

    def run(self, frames: NDArray[np.uint8]) -> EngineOutput:
        """Run RGB frames ``uint8 [N,H,W,3]``; the outputs are the caller's own arrays."""
        request = self._requests.get(len(frames)) or self._prepare(len(frames))
        outputs = request.model_outputs
        arrays = [np.empty(tuple(o.shape), o.element_type.to_dtype()) for o in outputs]
        # The request would reuse memory of its own at the next call.
        for i, array in enumerate(arrays):
            request.set_output_tensor(i, ov.Tensor(array, shared_memory=True))
        request.infer([frames], share_inputs=True, share_outputs=True)
        return EngineOutput(*arrays)

    def close(self) -> None:
        """Free the compiled model."""
        del self._requests, self._model

    def _prepare(self, batch: int) -> ov.InferRequest:
        """Compile the model for calls of so many frames."""
        with self._faults():
            if batch != self._model.input(0).shape[0]:
                self._model.reshape([batch, *list(self._model.input(0).shape)[1:]])
            compiled = _core().compile_model(self._model, 'CPU', self._options)
        self._requests[batch] = compiled.create_infer_request()
        return self._requests[batch]

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn what OpenVINO raises into words."""
        try:
            yield
        except RuntimeError as error:
            reason = one_line(error)
            raise MultishiftError(
                f'OpenVINO {ov.__version__} cannot load {self._file} ({reason}): build the bundle '
                'again with `multishift engine build --target openvino`'
            ) from None


@cache
def _core() -> ov.Core:
    """Return the process's one Core.

    It outlives every engine on purpose: with the last reference OpenVINO unloads its CPU plugin,
    whose worker threads may still be winding down.
    """
    return ov.Core()
