# SPDX-License-Identifier: Apache-2.0
"""Under which names, and in which shapes, SegFormer's weights are published."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
import re

from torch import Tensor

from multishift_training.models.layout import Layout, Source


class Form(Enum):
    """The two structures published as SegFormer; weights of one make no sense in the other.

    Hugging Face's is NVIDIA's own with another epsilon in some layer norms. MMSegmentation's has
    norms and activations of its own in the decoder. The keys of our state dict differ between
    the two, so that a checkpoint of ours says which it is.
    """

    HUGGING_FACE = 'Hugging Face'
    MMSEGMENTATION = 'MMSegmentation'


# From a module of ours, without the numbers in its name, to the file's key. The numbers stand in
# the file in the same order: stage and block, or level, each the finest first.
_HUGGING_FACE = {
    'backbone.stages.patch_embeddings.proj': 'segformer.encoder.patch_embeddings.{}.proj.',
    'backbone.stages.patch_embeddings.layer_norm': (
        'segformer.encoder.patch_embeddings.{}.layer_norm.'
    ),
    'backbone.stages.layer_norm': 'segformer.encoder.layer_norm.{}.',
    'decoder.levels.project': 'decode_head.linear_c.{}.proj.',
    'decoder.levels.fuse': 'decode_head.linear_fuse.',
    'decoder.norm': 'decode_head.batch_norm.',
    'classifier': 'decode_head.classifier.',
    'uncertainty.proxy': 'uncertainty.proxy.',
} | {
    f'backbone.stages.blocks.{ours}': f'segformer.encoder.block.{{}}.{{}}.{theirs}.'
    for ours, theirs in (
        ('layernorm_before', 'layer_norm_1'),
        ('attention.q_proj', 'attention.self.query'),
        ('attention.k_proj', 'attention.self.key'),
        ('attention.v_proj', 'attention.self.value'),
        ('attention.o_proj', 'attention.output.dense'),
        ('attention.sequence_reduction.sequence_reduction', 'attention.self.sr'),
        ('attention.sequence_reduction.layer_norm', 'attention.self.layer_norm'),
        ('layernorm_after', 'layer_norm_2'),
        ('mlp.fc1', 'mlp.dense1'),
        ('mlp.dwconv.dwconv', 'mlp.dwconv.dwconv'),
        ('mlp.fc2', 'mlp.dense2'),
    )
}
_MMSEGMENTATION = {
    'backbone.stages.patch_embeddings.proj': 'backbone.layers.{}.0.projection.',
    'backbone.stages.patch_embeddings.layer_norm': 'backbone.layers.{}.0.norm.',
    'backbone.stages.layer_norm': 'backbone.layers.{}.2.',
    'decoder.levels.project': 'decode_head.convs.{}.conv.',
    'decoder.levels.norm': 'decode_head.convs.{}.bn.',
    'decoder.levels.fuse': 'decode_head.fusion_conv.conv.',
    'decoder.norm': 'decode_head.fusion_conv.bn.',
    'classifier': 'decode_head.conv_seg.',
    'uncertainty.proxy': 'uncertainty.proxy.',
} | {
    f'backbone.stages.blocks.{ours}': f'backbone.layers.{{}}.1.{{}}.{theirs}'
    for ours, theirs in (
        ('layernorm_before', 'norm1.'),
        ('attention.q_proj', 'attn.attn.in_proj_'),
        ('attention.k_proj', 'attn.attn.in_proj_'),
        ('attention.v_proj', 'attn.attn.in_proj_'),
        ('attention.o_proj', 'attn.attn.out_proj.'),
        ('attention.sequence_reduction.sequence_reduction', 'attn.sr.'),
        ('attention.sequence_reduction.layer_norm', 'attn.norm.'),
        ('layernorm_after', 'norm2.'),
        ('mlp.fc1', 'ffn.layers.0.'),
        ('mlp.dwconv.dwconv', 'ffn.layers.1.'),
        ('mlp.fc2', 'ffn.layers.4.'),
    )
}
# Stages are numbered from 1.
_NVIDIA = {
    'backbone.stages.patch_embeddings.proj': 'patch_embed{}.proj.',
    'backbone.stages.patch_embeddings.layer_norm': 'patch_embed{}.norm.',
    'backbone.stages.layer_norm': 'norm{}.',
} | {
    f'backbone.stages.blocks.{ours}': f'block{{}}.{{}}.{theirs}.'
    for ours, theirs in (
        ('layernorm_before', 'norm1'),
        ('attention.q_proj', 'attn.q'),
        ('attention.k_proj', 'attn.kv'),
        ('attention.v_proj', 'attn.kv'),
        ('attention.o_proj', 'attn.proj'),
        ('attention.sequence_reduction.sequence_reduction', 'attn.sr'),
        ('attention.sequence_reduction.layer_norm', 'attn.norm'),
        ('layernorm_after', 'norm2'),
        ('mlp.fc1', 'mlp.fc1'),
        ('mlp.dwconv.dwconv', 'mlp.dwconv.dwconv'),
        ('mlp.fc2', 'mlp.fc2'),
    )
}
_LEVELS = 4
_COUNTER = r'.*\.num_batches_tracked'
_HEAD = r'uncertainty\..*'
_DECODER = r'decode_head\..*'


_NVIDIA_LICENCE = 'NVIDIA Source Code License, non-commercial'
_MMSEGMENTATION_LICENCE = (
    'Apache-2.0 for the code; the weights it starts from are under the NVIDIA Source Code License'
)


def layouts(adapt: Callable[[Form], Callable[[], None]]) -> tuple[Layout, ...]:
    """Return the layouts that a SegFormer loads.

    Args:
        adapt: gives the network a form and returns what takes it back.
    """
    hugging_face = partial(adapt, Form.HUGGING_FACE)
    mmsegmentation = partial(adapt, Form.MMSEGMENTATION)
    return (
        Layout(
            name="multishift, with Hugging Face's decoder",
            signature='decoder.levels.0.project.bias',
            source=Source,
            adapt=hugging_face,
        ),
        Layout(
            name="multishift, with MMSegmentation's decoder",
            signature='decoder.levels.0.norm.weight',
            source=Source,
            adapt=mmsegmentation,
        ),
        Layout(
            name='SegFormer of Hugging Face',
            signature='decode_head.linear_fuse.weight',
            source=_hugging_face,
            optional=(_COUNTER, _HEAD),
            adapt=hugging_face,
            licence=_NVIDIA_LICENCE,
        ),
        Layout(
            name='SegFormer of MMSegmentation',
            signature='decode_head.fusion_conv.conv.weight',
            source=_mmsegmentation,
            optional=(_COUNTER, _HEAD),
            extra=(r'auxiliary_head\..*',),
            adapt=mmsegmentation,
            licence=_MMSEGMENTATION_LICENCE,
        ),
        Layout(
            name='Mix Transformer of Hugging Face, pre-trained on ImageNet',
            signature='classifier.weight',
            source=_hugging_face,
            optional=(_DECODER, _HEAD),
            extra=(r'classifier\..*',),
            adapt=hugging_face,
            licence=_NVIDIA_LICENCE,
        ),
        Layout(
            name='Mix Transformer of NVIDIA, pre-trained on ImageNet',
            signature='patch_embed1.proj.weight',
            source=_nvidia_backbone,
            optional=(r'(decoder|classifier|uncertainty)\..*',),
            extra=(r'head\.(weight|bias)',),
            adapt=hugging_face,
            licence=_NVIDIA_LICENCE,
        ),
        Layout(
            name='Mix Transformer of MMSegmentation, pre-trained on ImageNet',
            signature='layers.0.0.projection.weight',
            source=_mmsegmentation_backbone,
            optional=(_DECODER, _HEAD),
            adapt=mmsegmentation,
            licence=_MMSEGMENTATION_LICENCE,
        ),
    )


def _hugging_face(key: str) -> Source:
    module, numbers, tensor = _split(key)
    if module not in _HUGGING_FACE:  # of what a method added
        return Source(key)
    place = _HUGGING_FACE[module].format(*numbers) + tensor
    if module == 'decoder.levels.fuse':  # the coarsest level comes first
        return Source(place, partial(_part, index=_LEVELS - 1 - numbers[0], of=_LEVELS, dim=1))
    return Source(place)


def _mmsegmentation(key: str) -> Source:
    module, numbers, tensor = _split(key)
    if module not in _MMSEGMENTATION:  # of what a method added
        return Source(key)
    place = _MMSEGMENTATION[module].format(*numbers) + tensor
    match module.rpartition('.')[2]:
        case 'fuse':
            return Source(place, partial(_part, index=numbers[0], of=_LEVELS, dim=1))
        case 'q_proj' | 'k_proj' | 'v_proj' as name:
            return Source(place, partial(_part, index='qkv'.index(name[0]), of=3, dim=0))
        case 'fc1' | 'fc2':
            return Source(place, _matrix)
    return Source(place)


def _mmsegmentation_backbone(key: str) -> Source:
    place, take, _ = _mmsegmentation(key)
    return Source(place.removeprefix('backbone.'), take)


def _nvidia_backbone(key: str) -> Source:
    module, numbers, tensor = _split(key)
    if module not in _NVIDIA:
        return Source(key)
    stage, *block = numbers
    place = _NVIDIA[module].format(stage + 1, *block) + tensor
    match module.rpartition('.')[2]:
        case 'k_proj' | 'v_proj' as name:
            return Source(place, partial(_part, index='kv'.index(name[0]), of=2, dim=0))
    return Source(place)


def _split(key: str) -> tuple[str, tuple[int, ...], str]:
    """Return a key's module without numbers, the numbers, and the tensor's name."""
    module, _, tensor = key.rpartition('.')
    numbers = tuple(int(number) for number in re.findall(r'\.(\d+)', module))
    return re.sub(r'\.\d+', '', module), numbers, tensor


def _part(tensor: Tensor, index: int, of: int, dim: int) -> Tensor:
    """Return one of equal parts along a dimension."""
    return tensor.chunk(of, dim)[index]


def _matrix(tensor: Tensor) -> Tensor:
    """Return the matrix of a 1x1 convolution; a bias is left as it is."""
    return tensor.flatten(1) if tensor.ndim > 1 else tensor
