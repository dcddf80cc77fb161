# SPDX-License-Identifier: Apache-2.0
"""A program with the types that an engine computes in, float32 where statistics need it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves, tree_map_only

from multishift_training.export.eight_bits import DEQUANTIZE, QUANTIZE
from multishift_training.export.plan import Precision
from multishift_training.export.program import anonymous

# Of each precision that a program can be written in.
DTYPES: Mapping[Precision, torch.dtype] = {
    'fp16': torch.float16,
    'bf16': torch.bfloat16,
    'fp32': torch.float32,
}

_ATEN = torch.ops.aten
_ATTENTION = _ATEN.scaled_dot_product_attention.default
# Sums of products: what tensor cores compute in 16 bits, with float32 sums.
_PRODUCTS = {
    _ATEN.conv2d.default,
    _ATEN.conv2d.padding,
    _ATEN.conv_transpose2d.input,
    _ATEN.linear.default,
    _ATEN.matmul.default,
    _ATEN.bmm.default,
    _ATEN.addmm.default,
    _ATEN.einsum.default,
    _ATTENTION,
    # Their scales are in the type of what they are given or give.
    QUANTIZE,
    DEQUANTIZE,
}
# Sums over many values, exponentials, and places in an image: 11 or 8 bits are too few for them.
_STATISTICS = {
    _ATEN.adaptive_avg_pool2d.default,
    _ATEN.batch_norm.default,
    _ATEN.exp.default,
    _ATEN.grid_sampler.default,
    _ATEN.group_norm.default,
    _ATEN.layer_norm.default,
    _ATEN.log_softmax.int,
    _ATEN.logsumexp.default,
    _ATEN.mean.default,
    _ATEN.mean.dim,
    _ATEN.softmax.int,
    _ATEN.sum.dim_IntList,
}


@torch.no_grad()
def typed(program: ExportedProgram, frames: Tensor, precision: Precision) -> ExportedProgram:
    """Return a program that computes convolutions and matrix products in a precision.

    Float32 stay the input's normalisation, norms, softmax, means and the sampling of images, where
    they stand between products, and everything after the last product: upsampling of logits and
    score, the score's own sums, and the calibration. Types are part of the program, so that a
    strongly typed compiler has nothing to choose. Attention is written out, for compilers that
    have it in parts only.

    Args:
        program: in float32; its weights stay as they are.
        frames: the input to trace with.
        precision: of the products: ``fp16``, ``bf16`` with its larger range and fewer digits, or
            ``fp32``.
    """
    module = program.module(check_guards=False)
    _store_weights(module, DTYPES[precision])
    rewritten = _Typed(module, DTYPES[precision])
    return anonymous(torch.export.export(rewritten, (frames,), strict=False))


def _store_weights(module: fx.GraphModule, dtype: torch.dtype) -> None:
    """Store in a type those weights that nothing but products reads."""
    readers: dict[str, set[fx.Node]] = {}
    for node in module.graph.find_nodes(op='get_attr'):
        readers.setdefault(str(node.target), set()).update(node.users)
    for name, nodes in readers.items():
        if all(node.target in _PRODUCTS for node in nodes):
            _store(module, name, dtype)


def _store(module: nn.Module, name: str, dtype: torch.dtype) -> None:
    path, _, leaf = name.rpartition('.')
    owner = module.get_submodule(path)
    tensor = _cast(getattr(owner, leaf).detach(), dtype)
    delattr(owner, leaf)
    owner.register_buffer(leaf, tensor)


class _Typed(nn.Module):
    """Runs a graph with the types of `typed`."""

    def __init__(self, module: fx.GraphModule, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self._dtype = dtype

    def forward(self, frames: Tensor) -> Any:
        return _Interpreter(self.module, self._dtype).run(frames)


class _Interpreter(fx.Interpreter):
    """Casts the arguments of each operation, and what some return."""

    def __init__(self, module: fx.GraphModule, dtype: torch.dtype) -> None:
        super().__init__(module)
        self._dtype = dtype
        self._tail = _after_last_product(module.graph)
        self._sampled = _sampled(module.graph)

    def run_node(self, n: fx.Node) -> Any:
        if n.op != 'call_function':
            return super().run_node(n)
        inputs = self.fetch_args_kwargs_from_env(n)
        target: Any = _attention if n.target is _ATTENTION else n.target
        if n.target in _PRODUCTS:
            inputs = _cast(inputs, self._dtype)
        elif n.target in _STATISTICS or n in self._tail or _is_mixed(inputs):
            inputs = _cast(inputs, torch.float32)
        args, kwargs = inputs
        result = target(*args, **kwargs)
        if n in self._sampled:
            # Before it is cut into levels: TensorRT for RTX 1.6.1 fails on casts of the slices.
            return _cast(result, torch.float32)
        # What follows, such as a residual sum, goes on in the type of those.
        between_products = n.target in _STATISTICS and n not in self._tail
        return _cast(result, self._dtype) if between_products else result


def _after_last_product(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes from which no product is reached."""
    leads_on: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.target in _PRODUCTS or any(user in leads_on for user in node.users):
            leads_on.add(node)
    return {node for node in graph.nodes if node not in leads_on}


def _sampled(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes whose results, or views of them, are sampled as images."""
    sources = set()
    for sampler in graph.find_nodes(op='call_function', target=_ATEN.grid_sampler.default):
        source = sampler.args[0]
        while getattr(source.target, 'is_view', False):
            source = source.args[0]
        sources.add(source)
    return sources


def _cast(tree: Any, dtype: torch.dtype) -> Any:
    """Cast the floating-point tensors among arguments or results, but for those of 8 bits."""

    def cast(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if _is_wide(tensor) else tensor

    return tree_map_only(Tensor, cast, tree)


def _is_mixed(inputs: Any) -> bool:
    """Say whether tensors of several types meet, which compilers promote each in their own way."""
    tensors = (leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor))
    return len({tensor.dtype for tensor in tensors if _is_wide(tensor)}) > 1


def _is_wide(tensor: Tensor) -> bool:
    """Say whether a tensor is floating point, and not of 8 bits, which stay what they are."""
    return tensor.is_floating_point() and tensor.itemsize > 1


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    *,
    scale: float | None = None,
) -> Tensor:
    """Scaled dot-product attention in evaluation, with its softmax in float32."""
    del dropout_p
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    weights = ((query * scale) @ key.mT).float()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        weights = weights.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        weights = weights + attn_mask
    return weights.softmax(-1).to(value.dtype) @ value
