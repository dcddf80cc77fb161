"""What a bundle can be built for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from multishift_perception.engine.manifest import Artifact, Parity
from multishift_perception.engine.types import Backend
from multishift_perception.errors import MultishiftError

Target = Literal['openvino', 'torch', 'tensorrt', 'tensorrt-rtx']
TARGETS: tuple[Target, ...] = get_args(Target)
DEFAULT_TARGETS: tuple[Target, ...] = ('openvino', 'torch')
Precision = Literal['fp16', 'bf16', 'fp32', 'int8']
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

# Takes the backend of an artifact's file, the file and its precision; returns its difference from
# the eager graph and closes it; raises MultishiftError where that is too large.
Prove = Callable[[Backend, Path, str], Parity]
# Describes a written artifact, and proves it where this machine can run it.
Describe = Callable[[Prove], Artifact]


@dataclass(frozen=True)
class Plan:
    """What to build.

    Attributes:
        targets: which artifacts.
        precision: of those for TensorRT, or ``int8`` for OpenVINO; else that computes in float32,
            as PyTorch does.
        capabilities: compute capabilities that ``tensorrt-rtx`` builds for, such as ``8.9``.
        onnx: where to write the network as ONNX too, in float32; nowhere when left out.
    """

    targets: Sequence[Target] = DEFAULT_TARGETS
    precision: Precision = 'fp16'
    capabilities: Sequence[str] = ()
    onnx: Path | None = None

    def check(self) -> None:
        """Raise MultishiftError where this machine cannot build it, before any work is done."""
        # Imported here so that a machine needs only the libraries of the targets it builds.
        if ('tensorrt-rtx' in self.targets) != bool(self.capabilities):
            raise MultishiftError(
                '--target tensorrt-rtx and --compute-capability go together: name the GPU of the '
                'vehicle, for example --target tensorrt-rtx --compute-capability 8.9'
            )
        if self.precision == 'int8':
            self._check_int8()
        if 'tensorrt-rtx' in self.targets:
            from multishift_training.export.to_tensorrt_rtx import check_tensorrt_rtx

            check_tensorrt_rtx(self.capabilities, self.precision)
        if 'tensorrt' in self.targets:
            from multishift_training.export.to_tensorrt import check_tensorrt

            check_tensorrt()
        if self.onnx is not None:
            from multishift_training.export.to_onnx import check_onnx

            check_onnx()

    def _check_int8(self) -> None:
        others = {'tensorrt', 'tensorrt-rtx'} & set(self.targets)
        if others or 'openvino' not in self.targets:
            raise MultishiftError(
                f'--precision int8 is for --target openvino, not {", ".join(self.targets)}: build '
                'a bundle of its own for TensorRT, with --precision fp16'
            )
        from multishift_training.export.quantize import check_quantization

        check_quantization()
