# SPDX-License-Identifier: Apache-2.0
"""What a graph of OpenVINO ends with, and a form of it that its CPU plugin computes faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
import openvino as ov
from openvino import opset13 as ops

PRODUCTS = frozenset(
    {
        'Convolution',
        'ConvolutionBackpropData',
        'GroupConvolution',
        'GroupConvolutionBackpropData',
        'MatMul',
    }
)


def _align_corners(n: int, m: int) -> tuple[NDArray[np.int64], int]:
    return np.arange(m) * (n - 1), max(m - 1, 1)


def _half_pixel(n: int, m: int) -> tuple[NDArray[np.int64], int]:
    return np.clip((2 * np.arange(m) + 1) * n - m, 0, (n - 1) * 2 * m), 2 * m


# Places in the input times a whole number, and that number, by rows or columns in and out.
_PLACES: Mapping[str, Callable[[int, int], tuple[NDArray[np.int64], int]]] = {
    'align_corners': _align_corners,
    'pytorch_half_pixel': _half_pixel,
    'half_pixel': _half_pixel,
}


def after_last_product(model: ov.Model) -> list[ov.Node]:
    """Return the operations from which no convolution or matrix product is reached, in order.

    The products from which no other is reached are not among them.
    """
    leading: set[str] = set()
    tail = []
    for node in reversed(model.get_ordered_ops()):
        leads_on = any(user.get_name() in leading for user in consumers(node))
        if leads_on or node.get_type_name() in PRODUCTS:
            leading.add(node.get_name())
        else:
            tail.append(node)
    return tail[::-1]


def consumers(node: ov.Node) -> Iterator[ov.Node]:
    """Yield the operations that read one's outputs."""
    for output in node.outputs():
        for port in output.get_target_inputs():
            yield port.get_node()


def speed_up_upsampling(model: ov.Model) -> None:
    """Replace the bilinear resizing of what a network ends with by sums of products, in place.

    They are the same sums, rounded differently. OpenVINO resizes with all channels of a pixel side
    by side, slowly where they do not fill its vectors, and takes the argmax of that layout slower
    still; products leave one plane for each channel.

    Args:
        model: of fixed shapes.
    """
    for node in after_last_product(model):
        if node.get_type_name() == 'Interpolate' and _is_plain_bilinear(node):
            node.output(0).replace(_resized(node).output(0))
    model.validate_nodes_and_infer_types()


def leave_batch_open(model: ov.Model) -> None:
    """Let a model take calls of other sizes, in place: no shape in it names the batch any more.

    Args:
        model: of fixed shapes, the batch first in its input.
    """
    batch = model.input(0).shape[0]
    for node in model.get_ordered_ops():
        if node.get_type_name() != 'Reshape':
            continue
        before, after = node.input_value(0).get_shape(), node.output(0).get_shape()
        if before and after and before[0] == after[0] == batch:
            # Zero stands for what the input has there.
            shape = ops.constant(np.array([0, *after[1:]], np.int64))
            node.output(0).replace(ops.reshape(node.input_value(0), shape, True).output(0))
    model.validate_nodes_and_infer_types()


def _is_plain_bilinear(node: ov.Node) -> bool:
    options = node.get_attributes()
    before, after = node.input_value(0).get_shape(), node.output(0).get_shape()
    return (
        options['mode'] == 'linear_onnx'
        and options['shape_calculation_mode'] == 'sizes'
        and options['coordinate_transformation_mode'] in _PLACES
        and not any((*options['pads_begin'], *options['pads_end'], options['antialias']))
        and len(before) == 4
        and before[:2] == after[:2]
    )


def _resized(node: ov.Node) -> ov.Node:
    """Return ``[N,C,h,w]`` at ``[N,C,H,W]``: columns by a matrix, then rows by pairs."""
    places = _PLACES[node.get_attributes()['coordinate_transformation_mode']]
    image = node.input_value(0)
    (*_, rows, columns), (*_, new_rows, new_columns) = image.get_shape(), node.get_output_shape(0)
    first, second, whole = _weights(*places(columns, new_columns), columns)
    matrix = np.zeros((new_columns, columns), np.float32)
    np.add.at(matrix, (np.arange(new_columns), first), whole - second)
    np.add.at(matrix, (np.arange(new_columns), np.minimum(first + 1, columns - 1)), second)
    wide = ops.divide(ops.matmul(image, ops.constant(matrix), False, True), np.float32(whole))
    first, second, whole = _weights(*places(rows, new_rows), rows)
    parts = (
        ops.multiply(
            ops.gather(wide, ops.constant(index), ops.constant(np.int64(2))),
            ops.constant(weight.astype(np.float32)[:, None]),
        )
        for index, weight in ((first, whole - second), (np.minimum(first + 1, rows - 1), second))
    )
    return ops.divide(ops.add(*parts), np.float32(whole))


def _weights(
    places: NDArray[np.int64], whole: int, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return the index before each place, the weight of the one after it, and the weights' sum.

    Whole numbers, as constants are stored in 16 bits: up to 2048 these are exact.
    """
    first = np.minimum(places // whole, size - 1)
    return first, places - first * whole, whole
