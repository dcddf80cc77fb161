# SPDX-License-Identifier: Apache-2.0
"""Explicit quantisation: a program whose products take 8 bits, by nodes that say so.

TensorRT takes types from the network and chooses none: what stands behind `dequantize` it computes
in 8 bits, where it has such a kernel, and all else as `precision.typed` says. The nodes become
ONNX's ``QuantizeLinear`` and ``DequantizeLinear``; PyTorch runs them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from multishift_perception.progress import track
from multishift_training.export.plan import Precision
from multishift_training.export.program import anonymous

DTYPES: Mapping[Precision, torch.dtype] = MappingProxyType(
    {'int8': torch.int8, 'fp8': torch.float8_e4m3fn}
)
_LARGEST = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
# Root mean squares, as shares of the standard deviation of what a product gives. Rounding is
# spread evenly over a well-made network; see `rounding` for what is above by far.
_LIMITS: Mapping[Precision, float] = MappingProxyType({'int8': 5e-2, 'fp8': 1e-1})
_MEASURED = 4

_ATEN = torch.ops.aten
_QUANTIZED = {_ATEN.conv2d.default, _ATEN.conv2d.padding, _ATEN.linear.default}
_WEIGHTED = {*_QUANTIZED, _ATEN.conv_transpose2d.input, _ATEN.addmm.default}


@torch.library.custom_op('multishift::quantize', mutates_args=())
def quantize(value: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Return a tensor in steps of ``scale``, a number, in the type of ``zero``, which is 0."""
    return _in_bits(value / scale, zero.dtype)


@quantize.register_fake
def _(value: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return torch.empty_like(value, dtype=zero.dtype)


@torch.library.custom_op('multishift::dequantize', mutates_args=())
def dequantize(steps: Tensor, scale: Tensor) -> Tensor:
    """Return steps times ``scale``, a number or one for each entry of the first axis."""
    return steps.to(scale.dtype) * scale.reshape(-1, *[1] * (steps.ndim - 1))


@dequantize.register_fake
def _(steps: Tensor, scale: Tensor) -> Tensor:
    return torch.empty_like(steps, dtype=scale.dtype)


QUANTIZE = torch.ops.multishift.quantize.default
DEQUANTIZE = torch.ops.multishift.dequantize.default


@torch.no_grad()
def measured_ranges(
    program: ExportedProgram, samples: Sequence[NDArray[np.uint8]], precision: Precision
) -> dict[str, float]:
    """Return the products to quantise, by node, with the largest magnitude that each is given.

    These are convolutions and linear layers of stored weights but for the first, which reads the
    normalised image; the last ones, which give the logits of labels and of the score; depthwise
    ones; and those whose values 8 bits hold too coarsely, over a few of the samples.

    Args:
        program: in float32.
        samples: inputs to measure on, ``uint8 [N,H,W,3]`` each.
        precision: ``int8`` or ``fp8``.
    """
    if not samples:
        raise ValueError('quantisation needs samples')
    module: Any = program.module(check_guards=False)
    measuring = _Measuring(module, _between(module.graph), DTYPES[precision])
    every = -(-len(samples) // _MEASURED)
    for i, frames in enumerate(track(samples, 'quantise', unit='batch', leave=False)):
        measuring.measures_noise = i % every == 0
        measuring.run(torch.from_numpy(frames))
    noise = measuring.noise()
    return {n: most for n, most in measuring.ranges.items() if noise[n] <= _LIMITS[precision]}


@torch.no_grad()
def quantized(
    program: ExportedProgram, frames: Tensor, ranges: Mapping[str, float], precision: Precision
) -> ExportedProgram:
    """Return a program whose products of ``ranges`` are given what 8 bits hold.

    Weights are stored in 8 bits, with a scale for each output channel; the other operand is
    quantised as a whole. Both are symmetric, as TensorRT has it.

    Args:
        program: in float32; its weights stay as they are.
        frames: the input to trace with.
        ranges: of a program of the same network, by `measured_ranges`.
        precision: ``int8`` or ``fp8``.
    """
    module: Any = program.module(check_guards=False)
    nodes = {node.name: node for node in module.graph.nodes}
    for name, largest in ranges.items():
        _quantize_operands(module, nodes[name], largest, DTYPES[precision])
    module.graph.eliminate_dead_code()
    fresh = fx.GraphModule(module, module.graph)
    return anonymous(torch.export.export(fresh, (frames,), strict=False))


def _quantize_operands(
    module: fx.GraphModule, product: fx.Node, largest: float, dtype: torch.dtype
) -> None:
    value, weight, *rest = cast(tuple[Any, ...], product.args)
    stored = attrgetter(str(weight.target))(module)
    steps, scales = _stored_in_steps(stored, dtype)

    def tensor(key: str, content: Tensor) -> fx.Node:
        module.register_buffer(f'{product.name}_{key}', content)
        return module.graph.get_attr(f'{product.name}_{key}')

    with module.graph.inserting_before(product):
        scale = tensor('scale', _scale(torch.tensor(largest), dtype))
        zero = tensor('zero', torch.zeros((), dtype=dtype))
        given = module.graph.call_function(QUANTIZE, (value, scale, zero))
        operands = (given, scale), (tensor('steps', steps), tensor('scales', scales))
        pair = [module.graph.call_function(DEQUANTIZE, operand) for operand in operands]
    product.args = (*pair, *rest)


def _stored_in_steps(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return a weight ``[C,...]`` in steps of 8 bits, and the size of a step for each of C."""
    weight = weight.detach()
    scales = _scale(weight.abs().flatten(1).amax(1), dtype)
    steps = weight / scales.reshape(-1, *[1] * (weight.ndim - 1))
    return _in_bits(steps, dtype), scales


def _scale(largest: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the size of a step in float32, which 16 bits hold, and one over it as well."""
    return (largest.float() / _LARGEST[dtype]).clamp(min=2**-15).half().float()


def _in_bits(steps: Tensor, dtype: torch.dtype) -> Tensor:
    """Return numbers of steps in a type of 8 bits, rounded and saturated."""
    largest = _LARGEST[dtype]
    if dtype == torch.int8:  # a cast would cut off
        steps = steps.round()
    return steps.clamp(-largest, largest).to(dtype)


def _between(graph: fx.Graph) -> set[fx.Node]:
    """Return the products of stored weights that are neither the first nor the last ones."""
    behind: set[fx.Node] = set()
    for node in graph.nodes:
        if any(n in behind or n.target in _WEIGHTED for n in node.all_input_nodes):
            behind.add(node)
    ahead: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if any(n in ahead or n.target in _WEIGHTED for n in node.users):
            ahead.add(node)
    return {node for node in behind & ahead if _is_quantized(node)}


def _is_quantized(node: fx.Node) -> bool:
    """Say whether it is a product of stored weights, and not depthwise.

    Depthwise convolutions are few of the operations, and make most of the error: nine products
    to a sum average out little rounding.
    """
    if node.target not in _QUANTIZED or node.args[1].op != 'get_attr':  # type: ignore[union-attr]
        return False
    return node.target is _ATEN.linear.default or node.args[6:] in ((), (1,))


class _Measuring(fx.Interpreter):
    """Runs a graph, and keeps what its products are given and what rounding that changes.

    Attributes:
        ranges: the largest absolute value that each was given, by name.
        measures_noise: whether to see what rounding changes, which takes as long again.
    """

    def __init__(self, module: fx.GraphModule, products: set[fx.Node], dtype: torch.dtype) -> None:
        super().__init__(module)
        self.ranges: dict[str, float] = {}
        self.measures_noise = True
        self._products = products
        self._dtype = dtype
        self._sums: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self._products:
            (value, weight, *rest), options = self.fetch_args_kwargs_from_env(n)
            largest = value.abs().amax()
            self.ranges[n.name] = max(self.ranges.get(n.name, 0.0), largest.item())
            if self.measures_noise:
                scale = _scale(largest, self._dtype)
                given = dequantize(
                    quantize(value, scale, scale.new_zeros((), dtype=self._dtype)), scale
                )
                target: Any = n.target
                again = target(
                    given, dequantize(*_stored_in_steps(weight, self._dtype)), *rest, **options
                )
                sums = torch.stack([(again - result).square().mean(), _variance(result, n)])
                self._sums[n.name] = self._sums.get(n.name, 0) + sums
        return result

    def noise(self) -> dict[str, float]:
        """Return the root mean square of what rounding changed, over the standard deviation."""
        return {
            name: (changed / spread).sqrt().item() if spread > 0 else 0.0
            for name, (changed, spread) in self._sums.items()
        }


def _variance(result: Tensor, product: fx.Node) -> Tensor:
    """Return the variance over places, pooled over channels."""
    last = product.target is _ATEN.linear.default
    places = [i for i in range(result.ndim) if i != (result.ndim - 1 if last else 1)]
    return result.var(places, correction=0).mean()
