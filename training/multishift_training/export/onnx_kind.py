"""Which files `--onnx` may replace: told without torch, before the work begins."""

from __future__ import annotations

from pathlib import Path

from multishift_perception.destinations import Kind
from multishift_perception.engine import EngineOutput
from multishift_training.export.missing import require

ONNX_PACKAGES = ('onnx', 'onnxscript')


def _is_own(path: Path) -> bool:
    onnx = require('onnx', packages=ONNX_PACKAGES, purpose='ONNX')
    if not path.is_file():
        return False
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception:  # of whatever the parser meets in a file of another kind
        return False
    return [output.name for output in graph.output] == list(EngineOutput._fields)


ONNX = Kind('an ONNX model of ours', _is_own)
