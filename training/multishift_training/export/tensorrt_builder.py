# SPDX-License-Identifier: Apache-2.0
"""A serialized engine from ONNX, by the builder that TensorRT and TensorRT for RTX both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from multishift_perception.errors import MultishiftError
from multishift_training.export.plan import Precision

# The compute capability that first has it.
_SINCE: Mapping[Precision, float] = MappingProxyType({'bf16': 8.0, 'fp8': 8.9})


def check_gpu_has(precision: Precision, capability: str) -> None:
    """Raise MultishiftError where GPUs of a compute capability, such as 8.7, lack a precision."""
    if float(capability) < _SINCE.get(precision, 0):
        raise MultishiftError(
            f'GPUs of compute capability {capability} have no {precision}: build for them with '
            '--precision fp16'
        )


class EngineBuilder:
    """The library's own objects around one network, whose types are those of the ONNX model."""

    def __init__(self, library: Any, name: str, onnx: bytes) -> None:
        """Parse an ONNX model; raises MultishiftError with the operators at fault.

        Args:
            library: the module ``tensorrt`` or ``tensorrt_rtx``.
            name: of the library, for errors.
            onnx: the model.
        """
        self._name = f'{name} {library.__version__}'
        self._errors: list[str] = []
        logger = _logger(library, self._errors)
        self._builder = library.Builder(logger)
        strongly_typed = 1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        self._network = self._builder.create_network(strongly_typed)
        # The parser's weights are views into its own memory.
        self._parser = library.OnnxParser(self._network, logger)
        if not self._parser.parse(onnx):
            faults = (self._parser.get_error(i) for i in range(self._parser.num_errors))
            self._raise({f'{fault.node_operator()} ({fault.desc()})' for fault in faults})

    def name_outputs(self, names: Sequence[str]) -> None:
        """Call the engine's outputs otherwise than the model does."""
        for i, name in enumerate(names):
            self._network.get_output(i).name = name

    def new_config(self) -> Any:
        """Return an ``IBuilderConfig`` for `build`."""
        return self._builder.create_builder_config()

    def build(self, config: Any) -> bytes:
        """Return the serialized engine; raises MultishiftError with the operators at fault."""
        engine = self._builder.build_serialized_network(self._network, config)
        if engine is None:
            self._raise(set(self._errors))
        return bytes(engine)

    def _raise(self, faults: set[str]) -> None:
        reasons = '; '.join(' '.join(fault.split()) for fault in sorted(faults))
        raise MultishiftError(
            f'{self._name} cannot build the network, operators at fault: {reasons}: build for '
            'another target'
        )


def _logger(library: Any, errors: list[str]) -> Any:
    class Logger(library.ILogger):  # type: ignore[misc]  # loaded at run time
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR):
                errors.append(message)

    return Logger()
