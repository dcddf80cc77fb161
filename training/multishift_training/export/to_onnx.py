# SPDX-License-Identifier: Apache-2.0
"""ONNX of the same program that every target is built from."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch.export import ExportedProgram

from multishift_perception.engine.tensorrt_backend import INPUT_NAME, OUTPUT_NAMES
from multishift_perception.errors import MultishiftError
from multishift_training.export.eight_bits import DEQUANTIZE, QUANTIZE
from multishift_training.export.quiet import quiet_below, quiet_copies

_REGISTRATION = 'torch.onnx._internal.exporter._registration'


def _quantize(value: Any, scale: Any, zero: Any) -> Any:
    from onnxscript import opset20

    return opset20.QuantizeLinear(value, scale, zero)


def _dequantize(steps: Any, scale: Any) -> Any:
    from onnxscript import opset20

    return opset20.DequantizeLinear(steps, scale, axis=0)


def to_onnx(program: ExportedProgram) -> bytes:
    """Return the program as an ONNX model, weights inside.

    Input ``frames``, outputs those of the deploy graph, by the names of `EngineOutput`.

    Raises:
        MultishiftError: PyTorch cannot turn the program into ONNX.
    """
    try:
        # Of torchvision, which no network of ours uses.
        with quiet_below(_REGISTRATION, logging.ERROR), quiet_copies():
            exported: Any = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[INPUT_NAME],
                output_names=list(OUTPUT_NAMES),
                verbose=False,
                custom_translation_table={QUANTIZE: _quantize, DEQUANTIZE: _dequantize},
            )
    except torch.onnx.OnnxExporterError as error:
        reason = ' '.join(str(error.__cause__ or error).split())[:300]
        raise MultishiftError(
            f'PyTorch {torch.__version__} cannot turn this network into ONNX ({reason}): build '
            'for another target, without --onnx'
        ) from error
    data: bytes = exported.model_proto.SerializeToString()
    return data
