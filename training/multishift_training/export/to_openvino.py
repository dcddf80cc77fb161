"""OpenVINO: intermediate representation for CPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import errno
from importlib.metadata import version
import os
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
import openvino as ov
from torch.export import ExportedProgram

from multishift_perception.engine.manifest import Artifact
from multishift_perception.engine.openvino_backend import OpenVinoBackend
from multishift_perception.files import sha256
from multishift_training.export.openvino_graph import speed_up_upsampling
from multishift_training.export.quiet import quiet_copies
from multishift_training.export.targets import Describe, Prove


def write_openvino(
    program: ExportedProgram,
    shape: Sequence[int],
    folder: Path,
    *,
    samples: Sequence[NDArray[np.uint8]] | None = None,
) -> Iterator[Describe]:
    """Write the program, which computes in float32 unless it is quantised.

    Weights are stored in 16 bits, quantised ones in 8.

    Args:
        program: in float32.
        shape: of its input.
        folder: to write to.
        samples: inputs of that shape, to quantise with.
    """
    file = folder / 'openvino.xml'
    with quiet_copies():
        model = ov.convert_model(program)
    # The conversion leaves shapes open; known ones need no operators that ask for them.
    model.reshape(list(shape))
    if samples is not None:
        from multishift_training.export.quantize import quantized

        model = quantized(model, samples)
    # Afterwards, as quantised products would take these for theirs.
    speed_up_upsampling(model)
    _save(model, file)
    precision: Literal['fp32', 'int8'] = 'fp32' if samples is None else 'int8'

    def describe(prove: Prove) -> Artifact:
        weights = file.with_suffix('.bin')
        return Artifact(
            backend='openvino',
            file=file.name,
            sha256=sha256(file),
            companions={weights.name: sha256(weights)},
            precision=precision,
            needs={'device': 'any CPU', 'openvino': f'>= {version("openvino").rsplit(".", 1)[0]}'},
            parity=prove(OpenVinoBackend(file), file, precision),
        )

    yield describe


def _save(model: ov.Model, file: Path) -> None:
    try:
        ov.save_model(model, file, compress_to_fp16=True)
    except RuntimeError as error:
        # All that it says of a failed write; the folder was writable a moment ago.
        if 'iostream' not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file)) from error
