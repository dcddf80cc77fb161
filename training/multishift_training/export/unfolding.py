# SPDX-License-Identifier: Apache-2.0
"""Gives a network the weights of a program that was exported of it: `fusion`, the other way."""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import ExitStack
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.fusion import (
    convolutions,
    following_norm,
    parameters_of,
    tensors,
)

# Largest difference of scores, as a share of their spread, and least share of equal labels.
_TOLERANCE, _AGREEMENT = 1e-3, 0.99
# Of a batch norm that has a momentum, which never asks for it.
_IDLE = '.num_batches_tracked'


class _Found(NamedTuple):
    """What a program has for a network.

    Attributes:
        state: by key.
        norms: names of the batch norms that are folded into convolutions there.
    """

    state: dict[str, Tensor]
    norms: list[str]


@torch.no_grad()
def unfold(program: ExportedProgram, graph: DeployGraph, calls: NDArray[np.uint8]) -> list[str]:
    """Give a deploy graph the weights of a program.

    The graph is exported anew: both have the same operations in the same order, and this one
    names them. What a batch norm did is in the convolution before it, for good. It becomes one
    that changes nothing, with the mean and the variance that the given frames have there: in
    evaluation mode the network computes what the program does, and where it learns with batch
    statistics, it starts near that.

    Args:
        program: that `optimize` made.
        graph: of the same network, with any weights.
        calls: frames ``uint8 [K,N,H,W,3]`` of the program's size.

    Returns:
        Keys of the graph's weights and buffers that no output depends on, which stay as they are.

    Raises:
        ValueError: the program is of another network; the message says what differs.
    """
    frames = [torch.from_numpy(call) for call in calls]
    ours = torch.export.export(graph, (frames[0],), strict=False).module(check_guards=False)
    theirs = program.module(check_guards=False)
    known = graph.state_dict(keep_vars=True)
    found = _read(ours, theirs, known)
    for key, tensor in found.state.items():
        if known[key].shape != tensor.shape:
            raise ValueError(f'{key}: {list(tensor.shape)} for {list(known[key].shape)}')
    graph.load_state_dict(found.state, strict=False)
    _set_statistics(graph, found.norms, frames)
    for call in frames:
        _check_equal(graph(call), theirs(call))
    # One tensor may have several keys.
    given = {id(known[key]) for key in found.state}
    return [key for key in known if id(known[key]) not in given and not key.endswith(_IDLE)]


def _read(ours: fx.GraphModule, theirs: fx.GraphModule, known: Container[str]) -> _Found:
    """Read the tensors of their graph by the keys that ours has at the same places.

    Args:
        ours: exported of the network, whose keys its nodes still name.
        theirs: optimised, where convolutions have tensors of other names.
        known: keys of the network.

    Raises:
        ValueError: the graphs differ; the message says in what.
    """
    ours.graph.eliminate_dead_code()
    our_convs, their_convs = list(convolutions(ours.graph)), list(convolutions(theirs.graph))
    if len(our_convs) != len(their_convs):
        raise ValueError(f'{len(their_convs)} convolutions for {len(our_convs)}')
    state: dict[str, Tensor] = {}
    norms = []
    for conv, folded in zip(our_convs, their_convs, strict=True):
        weight, bias = tensors(theirs, parameters_of(folded))
        weight_key, bias_key = (node and str(node.target) for node in parameters_of(conv))
        state[weight_key] = weight
        norm = following_norm(conv)
        if norm is None:
            if bias_key:
                state[bias_key] = bias
            continue
        # What the norm did is in the weight. It becomes one that adds the bias, and no more.
        nodes: Any = norm.args[1:5]
        epsilon: Any = norm.args[7]
        scale, shift, mean, variance = (str(node.target) for node in nodes)
        state[scale] = torch.full_like(bias, (1 + epsilon) ** 0.5)
        state[shift] = bias
        state[mean], state[variance] = torch.zeros_like(bias), torch.ones_like(bias)
        if bias_key:
            state[bias_key] = torch.zeros_like(bias)
        norms.append(scale.rpartition('.')[0])
    for node in ours.graph.find_nodes(op='get_attr'):
        key = str(node.target)
        # What no state has, such as a constant of the code, the network has anyhow.
        if key in state or key not in known:
            continue
        try:
            state[key] = attrgetter(key)(theirs)
        except AttributeError:
            raise ValueError(f'no {key}') from None
    return _Found(state, norms)


def _set_statistics(graph: DeployGraph, names: Sequence[str], frames: Sequence[Tensor]) -> None:
    """Give batch norms that change nothing the statistics of frames; they still change nothing."""
    # Each once, of those that a network calls more than once too.
    norms: list[Any] = list(dict.fromkeys(map(graph.get_submodule, names)))
    seen: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms}
    with ExitStack() as hooks:
        for norm in norms:
            hook = norm.register_forward_pre_hook(
                lambda norm, given: seen[norm].append(
                    torch.stack(torch.var_mean(given[0].double(), (0, 2, 3), correction=0))
                )
            )
            hooks.callback(hook.remove)
        for call in frames:
            graph(call)
    for norm in norms:
        variances, means = torch.stack(seen[norm]).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.add_(norm.running_mean)


def _check_equal(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
    """See that two graphs say the same of frames, but for rounding."""
    score, expected = ours[1], theirs[1]
    difference = float((score - expected).abs().max() / expected.std())
    if not difference < _TOLERANCE:
        raise ValueError(f'its scores differ by {difference:.2g} of their spread')
    agreement = float((ours[0] == theirs[0]).float().mean())
    if agreement < _AGREEMENT:
        raise ValueError(f'{agreement:.1%} of its labels agree')
