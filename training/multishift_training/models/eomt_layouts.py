# SPDX-License-Identifier: Apache-2.0
"""Where published EoMT checkpoints keep the tensors of ours."""

from __future__ import annotations

from functools import partial
import re

from torch import Tensor

from multishift_training.models.layout import Layout, Source

_Rules = tuple[tuple[str, str], ...]

_TRANSFORMERS: _Rules = (
    (r'backbone\.norm', 'layernorm'),
    (r'backbone\.', ''),
    (r'queries', 'query'),
    (r'upscale', 'upscale_block'),
    (r'mask_embedding', 'mask_head'),
    (r'classifier', 'class_predictor'),
    (r'class_weight', 'criterion.empty_weight'),
)
_PUBLIC: _Rules = (
    (r'backbone\.embeddings\.cls_token', 'encoder.backbone.cls_token'),
    (r'backbone\.embeddings\.register_tokens', 'encoder.backbone.reg_token'),
    (r'backbone\.embeddings\.patch_embeddings\.projection', 'encoder.backbone.patch_embed.proj'),
    (r'backbone\.layers\.(\d+)\.attention\.out_proj', r'encoder.backbone.blocks.\1.attn.proj'),
    (
        r'backbone\.layers\.(\d+)\.layer_scale(\d)\.lambda1',
        r'encoder.backbone.blocks.\1.ls\2.gamma',
    ),
    (r'backbone\.layers', 'encoder.backbone.blocks'),
    (r'backbone\.norm', 'encoder.backbone.norm'),
    (r'queries', 'q'),
    (r'upscale\.block\.(\d)\.layernorm2d', r'upscale.\1.norm'),
    (r'upscale\.block', 'upscale'),
    (r'mask_embedding\.fc1', 'mask_head.0'),
    (r'mask_embedding\.fc2', 'mask_head.2'),
    (r'mask_embedding\.fc3', 'mask_head.4'),
    (r'classifier', 'class_head'),
)
_POSITIONS = 'backbone.embeddings.position_embeddings.weight'
_PACKED = re.compile(r'backbone\.layers\.(\d+)\.attention\.([qkv])_proj\.(weight|bias)')
_HEAD = r'uncertainty\.classifier\.(weight|bias)'


def layouts() -> tuple[Layout, ...]:
    """Return the layout of a folder of `transformers` and that of the public code's files.

    Both hold how likely each block is to mask what queries attend to, 0 at the end of training.
    Until then evaluation masks too, which this network cannot. The public code's backbone is
    timm's.
    """
    return (
        Layout(
            name='EoMT folder of transformers',
            signature='class_predictor.weight',
            source=lambda key: Source(_renamed(key, _TRANSFORMERS)),
            optional=(_HEAD, r'criterion\.empty_weight'),
            extra=(r'attn_mask_probs',),
            zero=(r'attn_mask_probs',),
            licence='MIT for those of tue-mps on DINOv2; see its model card',
        ),
        Layout(
            name='EoMT of the public code, on DINOv2',
            signature='network.class_head.weight',
            source=_public,
            optional=(_HEAD, r'criterion\.empty_weight'),
            extra=(r'network\.attn_mask_probs', r'network\.encoder\.pixel_(mean|std)'),
            zero=(r'network\.attn_mask_probs',),
            licence='MIT',
        ),
    )


def _public(key: str) -> Source:
    if key == 'class_weight':
        return Source('criterion.empty_weight')
    if key == _POSITIONS:
        return Source('network.encoder.backbone.pos_embed', partial(Tensor.squeeze, dim=0))
    if packed := _PACKED.fullmatch(key):
        layer, part, kind = packed.groups()
        index = 'qkv'.index(part)
        file_key = f'network.encoder.backbone.blocks.{layer}.attn.qkv.{kind}'
        return Source(file_key, lambda tensor: tensor.chunk(3)[index])
    renamed = _renamed(key, _PUBLIC)
    return Source(
        key if renamed == key and key.startswith('uncertainty') else f'network.{renamed}'
    )


def _renamed(key: str, rules: _Rules) -> str:
    """Return a key by the first rule that fits its start."""
    for pattern, replacement in rules:
        renamed, count = re.subn(f'^{pattern}', replacement, key)
        if count:
            return renamed
    return key
