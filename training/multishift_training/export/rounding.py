# SPDX-License-Identifier: Apache-2.0
"""Which convolutions of a graph of OpenVINO lose too much where fewer bits hold their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
import openvino as ov
from openvino import opset13 as ops

from multishift_training.export.openvino_graph import consumers

Bits = Literal[8, 16]

_CONVOLUTIONS = MappingProxyType(
    {'Convolution': ops.convolution, 'GroupConvolution': ops.group_convolution}
)
# Root mean squares, as shares of the standard deviation of what a convolution gives. Rounding is
# spread evenly over a well-made network: 2e-4 to 6e-4 of 16 bits, 0.005 to 0.03 of 8. What is
# above by far are depthwise convolutions behind a batch norm that divides by little: its scale
# folds into few weights, large and of both signs, whose products cancel, their rounding not.
_LIMITS: Mapping[Bits, float] = MappingProxyType({16: 2e-3, 8: 5e-2})


def coarse(model: ov.Model, samples: Sequence[NDArray[np.uint8]], bits: Bits) -> list[str]:
    """Return the names of the convolutions that should keep 32 bits, in order.

    Args:
        model: in float32, of fixed shapes.
        samples: inputs to measure on, ``uint8 [N,H,W,3]`` each.
        bits: see `rounding_noise`.
    """
    noise = rounding_noise(model, samples, bits)
    return [name for name, share in noise.items() if share > _LIMITS[bits]]


def rounding_noise(
    model: ov.Model, samples: Sequence[NDArray[np.uint8]], bits: Bits
) -> dict[str, float]:
    """Return what rounding makes of each convolution, by name, in order.

    That of its own values alone: its input is exact. Noise is the root mean square of what it
    changes behind bias and activation, as a share of the standard deviation over pixels, both
    pooled over channels. Convolutions that give one pixel have none.

    Args:
        model: of fixed shapes; convolutions whose weights are not in float32 are left out.
        samples: inputs to measure on, ``uint8 [N,H,W,3]`` each.
        bits: 16 to store weights and bias in half; 8 for whole numbers, weights by output channel
            and the input as a whole.
    """
    model = model.clone()
    names, powers = [], []
    for node in model.get_ordered_ops():
        if node.get_type_name() in _CONVOLUTIONS and _is_stored(node.input_value(1)):
            exact = [node, *_followers(node)][-1]
            names.append(node.get_friendly_name())
            powers += [_power(ops.subtract(_rounded(node, bits), exact)), _variance(exact)]
    if not names:
        return {}
    measuring = ov.Model([ops.result(p) for p in powers], model.get_parameters())
    run = ov.compile_model(measuring, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    found = np.array([list(run([sample]).values()) for sample in samples], np.float64)
    changed, spread = found.reshape(len(samples), -1, 2).sum(0).T
    shares = np.sqrt(np.divide(changed, spread, out=np.zeros_like(changed), where=spread > 0))
    return dict(zip(names, shares.tolist(), strict=True))


def store_exactly(model: ov.Model, names: Sequence[str]) -> None:
    """Make the weights and biases of convolutions survive storage in 16 bits, in place.

    The format has no such switch for single constants. Each becomes the sum of two halves, what
    rounds to half and what is left of it, which is added up again when the model is compiled.

    Args:
        model: in float32, but for convolutions that are quantised: they stay as they are.
        names: of the convolutions.
    """
    wanted = set(names)
    for node in model.get_ordered_ops():
        if node.get_friendly_name() in wanted and _is_stored(node.input_value(1)):
            for user in (node, *_followers(node)):
                if user.get_input_size() == 2:
                    user.input(1).replace_source_output(_sum_of_halves(user).output(0))


def _sum_of_halves(user: ov.Node) -> ov.Node:
    value = _stored(user)
    half = _half(value)
    return ops.add(ops.constant(half), ops.constant(value - half))


def _rounded(node: ov.Node, bits: Bits) -> ov.Node:
    """Return once more what bias and activation leave of a convolution, of rounded values."""
    image, weight = node.input_value(0), _stored(node)
    if bits == 8:
        image = _in_bytes(image)
        # Grouped ones have two axes of output channels.
        weight = _weight_in_bytes(weight, 1 if node.get_type_name() == 'Convolution' else 2)
    else:
        weight = _half(weight)
    options = node.get_attributes()
    keys = ('strides', 'pads_begin', 'pads_end', 'dilations', 'auto_pad')
    again: ov.Node = _CONVOLUTIONS[node.get_type_name()](
        image, ops.constant(weight), *(options[key] for key in keys)
    )
    for follower in _followers(node):
        kind = follower.get_type_name()
        if kind == 'Add':
            bias = _stored(follower)
            again = ops.add(again, ops.constant(_half(bias) if bits == 16 else bias))
        elif kind == 'Clamp':
            limits = follower.get_attributes()
            again = ops.clamp(again, limits['min'], limits['max'])
        else:
            again = ops.relu(again)
    return again


def _followers(node: ov.Node) -> Iterator[ov.Node]:
    """Yield bias and activation of a convolution, as far as nothing else reads what is before."""
    while len(readers := list(consumers(node))) == 1:
        (node,) = readers
        is_bias = node.get_type_name() == 'Add' and _is_stored(node.input_value(1))
        if not is_bias and node.get_type_name() not in ('Clamp', 'Relu'):
            return
        yield node


def _is_stored(value: ov.Output) -> bool:
    """Say whether a value is a constant in float32."""
    is_constant: bool = value.get_node().get_type_name() == 'Constant'
    return is_constant and value.get_element_type() == ov.Type.f32


def _stored(user: ov.Node) -> NDArray[np.float32]:
    constant: Any = user.input_value(1).get_node()
    return np.array(constant.data, np.float32)


def _half(value: NDArray[np.float32]) -> NDArray[np.float32]:
    return value.astype(np.float16).astype(np.float32)


def _weight_in_bytes(weight: NDArray[np.float32], outputs: int) -> NDArray[np.float32]:
    largest = np.abs(weight).max(axis=tuple(range(outputs, weight.ndim)), keepdims=True)
    step = np.maximum(largest, np.finfo(np.float32).tiny * 127) / np.float32(127)
    rounded: NDArray[np.float32] = np.round(weight / step) * step
    return rounded


def _in_bytes(image: ov.Output) -> ov.Node:
    axes = np.arange(len(image.get_shape()))
    zero = ops.constant(np.float32(0))
    least = ops.minimum(ops.reduce_min(image, axes), zero)
    most = ops.maximum(ops.reduce_max(image, axes), zero)
    tiny = ops.constant(np.finfo(np.float32).tiny * 255)
    step = ops.divide(ops.maximum(ops.subtract(most, least), tiny), np.float32(255))
    return ops.multiply(ops.round(ops.divide(image, step), 'half_to_even'), step)


def _power(value: ov.Node) -> ov.Node:
    return ops.reduce_mean(ops.multiply(value, value), np.arange(len(value.shape)))


def _variance(value: ov.Node) -> ov.Node:
    mean = ops.reduce_mean(value, np.arange(2, len(value.shape)), keep_dims=True)
    return _power(ops.subtract(value, mean))
