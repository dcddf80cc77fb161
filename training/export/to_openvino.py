"""OpenVINO: intermediate representation for CPUs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import openvino as ov
from torch.export import ExportedProgram

from multishift_perception.engine.manifest import Artifact
from multishift_perception.engine.openvino_backend import OpenVinoBackend
from multishift_perception.engine.probe import ProbeSet
from multishift_perception.files import sha256
from multishift_training.export.targets import Describe, proven


def write_openvino(program: ExportedProgram, folder: Path) -> Iterator[Describe]:
    """Write the program, which computes in float32; weights are stored in 16 bits."""
    file = folder / 'openvino.xml'
    ov.save_model(ov.convert_model(program), file, compress_to_fp16=True)

    def describe(probe: ProbeSet) -> Artifact:
        weights = file.with_suffix('.bin')
        return Artifact(
            backend='openvino',
            file=file.name,
            sha256=sha256(file),
            companions={weights.name: sha256(weights)},
            precision='fp32',
            needs={'device': 'any CPU', 'openvino': f'>= {version("openvino").rsplit(".", 1)[0]}'},
            parity=proven(OpenVinoBackend(file), probe, file),
        )

    yield describe
