# SPDX-License-Identifier: Apache-2.0
"""Post-training quantisation to 8 bits, by NNCF, for OpenVINO."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray
import openvino as ov

from multishift_perception.progress import track
from multishift_training.export.missing import require
from multishift_training.export.openvino_graph import PRODUCTS, after_last_product, consumers
from multishift_training.export.quiet import quiet_below
from multishift_training.export.rounding import coarse

_MEASURED = 4


def check_quantization() -> None:
    """Raise MultishiftError where the library is missing."""
    _nncf()


def quantized(
    model: ov.Model, samples: Sequence[NDArray[np.uint8]], exact: Sequence[str] = ()
) -> ov.Model:
    """Return a model that computes in 8 bits between its first and its last products.

    In float32 stay the first convolution, which reads the normalised image, the last ones, which
    give logits and score, and everything after them.

    Args:
        model: in float32, of fixed shapes.
        samples: inputs to measure the ranges of values on, ``uint8 [N,H,W,3]`` each.
        exact: names of convolutions that stay in float32 as well.
    """
    if not samples:
        raise ValueError('quantisation needs samples')
    nncf = _nncf()
    names = [*_kept(model), *exact]
    with _quiet():
        result: ov.Model = nncf.quantize(
            model,
            nncf.Dataset(_Shown(samples)),
            subset_size=len(samples),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            ignored_scope=nncf.IgnoredScope(names=names, validate=False),
        )
    return result


def too_coarse(model: ov.Model, samples: Sequence[NDArray[np.uint8]]) -> list[str]:
    """Return the names of what 8 bits would leave too little of, for `quantized` to keep."""
    kept = _kept(model)
    some = samples[:: -(-len(samples) // _MEASURED)]
    return [name for name in coarse(model, some, 8) if name not in kept]


class _Shown:
    """Inputs with a progress bar, as often as they are gone through."""

    def __init__(self, samples: Sequence[NDArray[np.uint8]]) -> None:
        self._samples = samples

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return track(self._samples, 'quantise', unit='batch', leave=False)


def _kept(model: ov.Model) -> list[str]:
    """Return the names of what stays in float32."""
    reached: set[str] = set()
    kept = after_last_product(model)
    tail = {node.get_name() for node in kept}
    for node in model.get_ordered_ops():
        is_product = node.get_type_name() in PRODUCTS
        followers = {user.get_name() for user in consumers(node)}
        if is_product and (node.get_name() not in reached or followers <= tail):
            kept.append(node)
        if is_product or node.get_name() in reached:
            reached |= followers
    return [node.get_friendly_name() for node in kept]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the list of every operation that is left as it is, and bars that are not ours.

    NNCF also imports what builds PyTorch's extensions, which nothing here does. In a PyTorch for
    CUDA that warns of a compiler without a GPU.
    """
    # It comes with NNCF, which draws its bars by it.
    import rich

    console = rich.get_console()
    before = console.quiet
    console.quiet = True
    try:
        with (
            quiet_below('nncf', logging.WARNING),
            quiet_below('torch.utils.cpp_extension', logging.ERROR),
        ):
            yield
    finally:
        console.quiet = before


def _nncf() -> Any:
    return require('nncf', packages=['nncf'], purpose='--precision int8')
