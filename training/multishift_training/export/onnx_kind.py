# SPDX-License-Identifier: Apache-2.0
"""What writing ONNX needs, and which files it may replace: told before torch is loaded."""

from __future__ import annotations

from pathlib import Path

from multishift_perception.destinations import Kind
from multishift_perception.engine import EngineOutput
from multishift_perception.engine.types import LEAST_OUTPUTS
from multishift_training.export.missing import require

_PACKAGES = ('onnx', 'onnxscript')


def check_onnx() -> None:
    """Raise MultishiftError where a library is missing."""
    for package in _PACKAGES:
        require(package, packages=_PACKAGES, purpose='ONNX')


def _is_own(path: Path) -> bool:
    onnx = require('onnx', packages=_PACKAGES, purpose='ONNX')
    if not path.is_file():
        return False
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception:  # of whatever the parser meets in a file of another kind
        return False
    names = [output.name for output in graph.output]
    return len(names) >= LEAST_OUTPUTS and names == list(EngineOutput._fields[: len(names)])


ONNX = Kind('an ONNX model of ours', _is_own)
