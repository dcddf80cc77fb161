"""PyTorch: the exported program itself, for any device."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
import io
from pathlib import Path
import warnings

import torch
from torch.export import ExportedProgram

from multishift_perception.engine.manifest import Artifact
from multishift_perception.engine.torch_backend import TorchBackend
from multishift_perception.files import sha256
from multishift_training.export.targets import Describe, Prove


def write_torch(program: ExportedProgram, folder: Path) -> Iterator[Describe]:
    """Write the program."""
    file, content = folder / 'torch.pt2', io.BytesIO()
    with warnings.catch_warnings():
        # Channels-last weights are saved with their strides; the warning is of other devices.
        warnings.filterwarnings('ignore', 'No complete tensor found')
        # Into memory: the writer ends the whole process where a write to a file fails.
        torch.export.save(program, content)
    file.write_bytes(content.getbuffer())

    def describe(prove: Prove) -> Artifact:
        return Artifact(
            backend='torch',
            file=file.name,
            sha256=sha256(file),
            precision='fp32',
            needs={'device': 'any CPU or GPU', 'torch': f'>= {version("torch").split("+")[0]}'},
            parity=prove(TorchBackend(file, torch.device('cpu')), file, 'fp32'),
        )

    yield describe
