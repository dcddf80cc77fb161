# SPDX-License-Identifier: Apache-2.0
"""Folds batch norms into convolutions, and lays weights out channels last, before export."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.nn.utils.fusion import fuse_conv_bn_weights

_CONV = torch.ops.aten.conv2d.default
_BATCH_NORM = torch.ops.aten.batch_norm.default


@torch.no_grad()
def optimize(program: ExportedProgram, frames: Tensor) -> ExportedProgram:
    """Return a program that computes the same in less time.

    A batch norm in evaluation mode becomes part of the convolution before it, where nothing else
    reads that one; others, such as those of pre-activation blocks, stay. Weights of convolutions
    become channels last, the layout that frames ``uint8 [N,H,W,3]`` bring along.

    Args:
        program: as `torch.export.export` returns it; its own weights stay as they are.
        frames: the input to trace with.
    """
    module = program.module(check_guards=False)
    graph = module.graph
    # What only losses read of a network that a method adapted, no output does.
    graph.eliminate_dead_code()
    for conv in list(convolutions(graph)):
        weight, bias = tensors(module, parameters_of(conv))
        if norm := following_norm(conv):
            scale, shift, mean, var = tensors(module, norm.args[1:5])
            epsilon: Any = norm.args[7]
            weight, bias = fuse_conv_bn_weights(weight, bias, mean, var, epsilon, scale, shift)
            norm.replace_all_uses_with(conv)
            graph.erase_node(norm)
        weight = weight.contiguous(memory_format=torch.channels_last)
        nodes = [
            _register(module, conv, name, tensor)
            for name, tensor in (('weight', weight), ('bias', bias))
        ]
        conv.args = (conv.args[0], *nodes, *conv.args[3:])
    # A new module takes along only those tensors that the graph still reads.
    graph.eliminate_dead_code()
    return torch.export.export(fx.GraphModule(module, graph), (frames,), strict=False)


def convolutions(graph: fx.Graph) -> Iterator[fx.Node]:
    """Yield the convolutions of a graph that have weights of their own, in order."""
    for conv in graph.find_nodes(op='call_function', target=_CONV):
        if _are_weights(parameters_of(conv)):
            yield conv


def parameters_of(conv: fx.Node) -> tuple[Any, ...]:
    """Return the nodes of a convolution's weight and bias; None for no bias."""
    return (*conv.args, None)[1:3]


def following_norm(conv: fx.Node) -> fx.Node | None:
    """Return the batch norm that alone reads ``conv``, if there is one, in evaluation mode."""
    norm = next(iter(conv.users))
    if len(conv.users) > 1 or norm.target is not _BATCH_NORM:
        return None
    training = norm.args[5]
    return norm if not training and _are_weights(norm.args[1:5]) else None


def _are_weights(nodes: tuple[Any, ...]) -> bool:
    """Say whether arguments are stored tensors, or None, and nothing that is computed."""
    return all(node is None or node.op == 'get_attr' for node in nodes)


def tensors(module: fx.GraphModule, nodes: tuple[Any, ...]) -> list[Any]:
    """Return the tensors that arguments stand for, None for None."""
    return [node and attrgetter(node.target)(module) for node in nodes]


def _register(
    module: fx.GraphModule, conv: fx.Node, name: str, tensor: Tensor | None
) -> fx.Node | None:
    """Give a convolution a tensor of its own, as others may share the one it had."""
    if tensor is None:
        return None
    key = f'{conv.name}_{name}'
    module.register_buffer(key, tensor.detach())
    with module.graph.inserting_before(conv):
        return module.graph.get_attr(key)
