# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: intermediate representation for CPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import errno
from importlib.metadata import version
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
import openvino as ov

from multishift_training.export.openvino_graph import speed_up_upsampling
from multishift_training.export.plan import Plan
from multishift_training.export.quantize import check_quantization, quantized, too_coarse
from multishift_training.export.quiet import quiet_copies
from multishift_training.export.rounding import coarse, store_exactly
from multishift_training.export.written import Written

if TYPE_CHECKING:
    from multishift_training.export.network import Network


def check(plan: Plan) -> None:
    """Raise MultishiftError where what quantises is missing."""
    if plan.precision == 'int8':
        check_quantization()


def write(network: Network, plan: Plan, folder: Path) -> Iterator[Written]:
    """Write the program, which computes in float32 unless it is quantised.

    Weights are stored in 16 bits, quantised ones in 8, and those that 16 bits hold too coarsely in
    twice as many.
    """
    file = folder / 'openvino.xml'
    with quiet_copies():
        model = ov.convert_model(network.program)
    # The conversion leaves shapes open; known ones need no operators that ask for them.
    model.reshape(list(network.frames.shape))
    if plan.precision == 'int8':
        model = _in_bytes(model, network.samples)
    else:
        speed_up_upsampling(model)
    store_exactly(model, coarse(model, [network.frames.numpy()], 16))
    _save(model, file)
    yield Written(
        backend='openvino',
        file=file,
        companions=(file.with_suffix('.bin'),),
        precision='int8' if plan.precision == 'int8' else 'fp32',
        needs={'device': 'any CPU', 'openvino': f'>= {version("openvino").rsplit(".", 1)[0]}'},
        device='cpu',
    )


def _in_bytes(model: ov.Model, samples: Sequence[NDArray[np.uint8]]) -> ov.Model:
    """Quantise a model, and once more where that leaves too little of some convolutions.

    They are measured last: OpenVINO counts the operations that a process makes, and names those
    of files by it. Files of networks without any stay the same, byte by byte.
    """
    result = _quantized_and_fast(model, samples)
    exact = too_coarse(model, samples)
    return _quantized_and_fast(model, samples, exact) if exact else result


def _quantized_and_fast(
    model: ov.Model, samples: Sequence[NDArray[np.uint8]], exact: Sequence[str] = ()
) -> ov.Model:
    result = quantized(model, samples, exact)
    # Afterwards, as quantised products would take these for theirs.
    speed_up_upsampling(result)
    return result


def _save(model: ov.Model, file: Path) -> None:
    try:
        ov.save_model(model, file, compress_to_fp16=True)
    except RuntimeError as error:
        # All that it says of a failed write; the folder was writable a moment ago.
        if 'iostream' not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file)) from error
