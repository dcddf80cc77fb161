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

from multishift_perception.errors import MultishiftError, one_line
from multishift_training.export.openvino_graph import leave_batch_open, speed_up_upsampling
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
    if len(plan.ascending) > 1:
        leave_batch_open(model)
        _check_batches(model, plan.ascending)
    _save(model, file)
    yield Written(
        backend='openvino',
        file=file,
        companions=(file.with_suffix('.bin'),),
        precision='int8' if plan.precision == 'int8' else 'fp32',
        needs={'device': 'any CPU', 'openvino': f'>= {version("openvino").rsplit(".", 1)[0]}'},
        device='cpu',
        batches=plan.ascending,
    )


def _check_batches(model: ov.Model, batches: Sequence[int]) -> None:
    """Raise MultishiftError where a model cannot be given calls of each size when it is loaded."""
    frame = list(model.input(0).shape)[1:]
    for batch in batches:
        try:
            model.clone().reshape([batch, *frame])
        except RuntimeError as error:
            raise MultishiftError(
                f'OpenVINO cannot call this network with {batch} frames beside {batches[0]} '
                f'({one_line(error)[:200]}): build a bundle for each, with one --batch'
            ) from None


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
