# SPDX-License-Identifier: Apache-2.0
"""How published files name the tensors of `Mask2Former`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import re

from multishift_training.models.layout import Layout, Source

# The inputs of an attention, which files hold packed into one tensor.
_INPUTS = ('query', 'key', 'value')
_SWIN_INPUTS = ('q_proj', 'k_proj', 'v_proj')

_Rules = tuple[tuple[str, str], ...]

_MULTISHIFTSEG: _Rules = (
    (r'backbone\.embedder\.embedder', 'backbone.stem.conv1'),
    (r'backbone\.encoder\.stages\.0\.layers', 'backbone.res2'),
    (r'backbone\.encoder\.stages\.1\.layers', 'backbone.res3'),
    (r'backbone\.encoder\.stages\.2\.layers', 'backbone.res4'),
    (r'backbone\.encoder\.stages\.3\.layers', 'backbone.res5'),
    (r'(backbone\.res\d\.\d)\.layer\.0', r'\1.conv1'),
    (r'(backbone\.res\d\.\d)\.layer\.1', r'\1.conv2'),
    (r'(backbone\.res\d\.\d)\.layer\.2', r'\1.conv3'),
    (r'(backbone\..+)\.convolution', r'\1'),
    (r'(backbone\..+)\.normalization', r'\1.norm'),
    (r'pixel_decoder\.encoder\.layers', 'pixel_decoder.transformer.encoder.layers'),
    (r'pixel_decoder\.level_embed', 'pixel_decoder.transformer.level_embed'),
    (r'pixel_decoder\.input_projections', 'pixel_decoder.input_proj'),
    (r'pixel_decoder\.mask_projection', 'pixel_decoder.mask_features'),
    (r'(pixel_decoder\.(adapter|layer)_\d)\.0', r'\1'),
    (r'(pixel_decoder\.(adapter|layer)_\d)\.1', r'\1.norm'),
    (r'(pixel_decoder\..+)\.self_attn_layer_norm', r'\1.norm1'),
    (r'(pixel_decoder\..+)\.final_layer_norm', r'\1.norm2'),
    (r'(pixel_decoder\..+)\.fc(\d)', r'\1.linear\2'),
    (r'pixel_decoder', 'sem_seg_head.pixel_decoder'),
    (
        r'decoder\.layers\.(\d)\.cross_attention\.(fore|back)ground',
        r'decoder.transformer_cross_attention_layers.\1.multihead_attn_\2ground',
    ),
    (
        r'decoder\.layers\.(\d)\.cross_attention\.fusion_',
        r'decoder.transformer_cross_attention_layers.\1.fusion_layer.',
    ),
    (r'decoder\.layers\.(\d)\.cross_norm', r'decoder.transformer_cross_attention_layers.\1.norm'),
    (
        r'decoder\.layers\.(\d)\.self_attention',
        r'decoder.transformer_self_attention_layers.\1.self_attn',
    ),
    (r'decoder\.layers\.(\d)\.self_norm', r'decoder.transformer_self_attention_layers.\1.norm'),
    (r'decoder\.layers\.(\d)\.feedforward\.0', r'decoder.transformer_ffn_layers.\1.linear1'),
    (r'decoder\.layers\.(\d)\.feedforward\.2', r'decoder.transformer_ffn_layers.\1.linear2'),
    (r'decoder\.layers\.(\d)\.feedforward_norm', r'decoder.transformer_ffn_layers.\1.norm'),
    (r'(decoder\..+attn.*)\.output', r'\1.out_proj'),
    (r'decoder\.queries', 'decoder.query_feat'),
    (r'decoder\.query_positions', 'decoder.query_embed'),
    (r'decoder\.level_embedding', 'decoder.level_embed'),
    (r'decoder\.norm', 'decoder.decoder_norm'),
    (r'decoder\.mask_embedding\.0', 'decoder.mask_embed.layers.0'),
    (r'decoder\.mask_embedding\.2', 'decoder.mask_embed.layers.1'),
    (r'decoder\.mask_embedding\.4', 'decoder.mask_embed.layers.2'),
    (r'decoder', 'sem_seg_head.predictor'),
    (r'classifier', 'sem_seg_head.predictor.class_embed'),
    (r'uncertainty\.classifier', 'sem_seg_head.predictor.class_embed2'),
    (r'class_weight', 'criterion.empty_weight'),
)

_SWIN: _Rules = (
    (r'backbone\.swin\.embeddings\.patch_embeddings\.projection', 'backbone.patch_embed.proj'),
    (r'backbone\.swin\.embeddings\.norm', 'backbone.patch_embed.norm'),
    (r'backbone\.swin\.encoder', 'backbone'),
    (r'backbone\.hidden_states_norms\.stage1', 'backbone.norm0'),
    (r'backbone\.hidden_states_norms\.stage2', 'backbone.norm1'),
    (r'backbone\.hidden_states_norms\.stage3', 'backbone.norm2'),
    (r'backbone\.hidden_states_norms\.stage4', 'backbone.norm3'),
    (r'(backbone\..+)\.layernorm_before', r'\1.norm1'),
    (r'(backbone\..+)\.layernorm_after', r'\1.norm2'),
    (r'(backbone\..+)\.attention\.relative_position_bias', r'\1.attn'),
    (r'(backbone\..+)\.attention\.o_proj', r'\1.attn.proj'),
    (r'(backbone\..+)\.attention', r'\1.attn'),
    (
        r'decoder\.layers\.(\d)\.cross_attention\.foreground',
        r'decoder.transformer_cross_attention_layers.\1.multihead_attn',
    ),
    *(rule for rule in _MULTISHIFTSEG if not rule[0].startswith(('backbone', r'(backbone'))),
)

_TRANSFORMERS: _Rules = (
    (r'(decoder\.layers\.\d+)\.cross_attention\.foreground', r'\1.cross_attn'),
    (r'(decoder\.layers\.\d+)\.cross_norm', r'\1.cross_attn_layer_norm'),
    (r'(decoder\.layers\.\d+)\.self_attention\.query', r'\1.self_attn.q_proj'),
    (r'(decoder\.layers\.\d+)\.self_attention\.key', r'\1.self_attn.k_proj'),
    (r'(decoder\.layers\.\d+)\.self_attention\.value', r'\1.self_attn.v_proj'),
    (r'(decoder\.layers\.\d+)\.self_attention', r'\1.self_attn'),
    (r'(decoder\.layers\.\d+)\.self_norm', r'\1.self_attn_layer_norm'),
    (r'(decoder\.layers\.\d+)\.feedforward\.0', r'\1.fc1'),
    (r'(decoder\.layers\.\d+)\.feedforward\.2', r'\1.fc2'),
    (r'(decoder\.layers\.\d+)\.feedforward_norm', r'\1.final_layer_norm'),
    (r'(decoder\..+attn)\.output', r'\1.out_proj'),
    (r'decoder\.queries', 'queries_features'),
    (r'decoder\.query_positions', 'queries_embedder'),
    (r'decoder\.level_embedding', 'level_embed'),
    (r'decoder\.norm', 'decoder.layernorm'),
    (r'decoder\.mask_embedding\.0', 'decoder.mask_predictor.mask_embedder.0.0'),
    (r'decoder\.mask_embedding\.2', 'decoder.mask_predictor.mask_embedder.1.0'),
    (r'decoder\.mask_embedding\.4', 'decoder.mask_predictor.mask_embedder.2.0'),
    (r'(decoder|queries_|level_embed)', r'model.transformer_module.\1'),
    (r'classifier', 'class_predictor'),
    (r'class_weight', 'criterion.empty_weight'),
)

_TORCHVISION: _Rules = (
    (r'backbone\.embedder\.embedder\.convolution', 'conv1'),
    (r'backbone\.embedder\.embedder\.normalization', 'bn1'),
    (r'backbone\.encoder\.stages\.0\.layers', 'layer1'),
    (r'backbone\.encoder\.stages\.1\.layers', 'layer2'),
    (r'backbone\.encoder\.stages\.2\.layers', 'layer3'),
    (r'backbone\.encoder\.stages\.3\.layers', 'layer4'),
    (r'(layer\d\.\d+)\.shortcut\.convolution', r'\1.downsample.0'),
    (r'(layer\d\.\d+)\.shortcut\.normalization', r'\1.downsample.1'),
    (r'(layer\d\.\d+)\.layer\.0\.convolution', r'\1.conv1'),
    (r'(layer\d\.\d+)\.layer\.0\.normalization', r'\1.bn1'),
    (r'(layer\d\.\d+)\.layer\.1\.convolution', r'\1.conv2'),
    (r'(layer\d\.\d+)\.layer\.1\.normalization', r'\1.bn2'),
    (r'(layer\d\.\d+)\.layer\.2\.convolution', r'\1.conv3'),
    (r'(layer\d\.\d+)\.layer\.2\.normalization', r'\1.bn3'),
)
_HUGGING_FACE: _Rules = ((r'backbone', 'resnet'),)


def multishiftseg_layout() -> Layout:
    """Return the layout of MultiShiftSeg's ``M2F_best.pth``, and of Mask2Anomaly's weights."""
    return Layout(
        name='MultiShiftSeg or Mask2Anomaly, Mask2Former with ResNet-50',
        signature='sem_seg_head.predictor.class_embed.weight',
        source=lambda key: _source(_renamed(key, _MULTISHIFTSEG)),
        optional=(
            r'sem_seg_head\.predictor\.class_embed2\.(weight|bias)',  # not Mask2Anomaly's
            r'.+\.num_batches_tracked',  # not in files of older detectron2
        ),
        licence='Apache-2.0 (MultiShiftSeg), none stated (Mask2Anomaly)',
    )


def swin_layout() -> Layout:
    """Return the layout of detectron2's Mask2Former with Swin, of which UNO's and RbA's files are.

    Those of a network with a negative class have one row more in the classifier than others.
    """
    return Layout(
        name="detectron2's Mask2Former with Swin (UNO, RbA)",
        signature='sem_seg_head.predictor.class_embed.weight',
        source=_swin_source,
        optional=(r'sem_seg_head\.predictor\.class_embed2\.(weight|bias)',),  # in none of them
        extra=(r'.+\.relative_position_index',),  # a constant
        licence='MIT for both repositories; see there',
    )


def imagenet_layouts() -> tuple[Layout, ...]:
    """Return the layouts of ImageNet classifiers with ResNet-50, of which the backbone is used."""

    def layout(
        whose: str, signature: str, rename: Callable[[str], str], extra: str, licence: str
    ) -> Layout:
        return Layout(
            name=f'ImageNet classifier of {whose}, backbone only',
            signature=signature,
            source=lambda key: Source(rename(key) if key.startswith('backbone.') else key),
            optional=(
                r'(pixel_decoder|decoder|classifier|uncertainty)\..*|class_weight',
                r'.+\.num_batches_tracked',
            ),
            extra=(extra,),
            licence=licence,
        )

    def detectron2(key: str) -> str:
        return _renamed(key, _MULTISHIFTSEG).removeprefix('backbone.')

    return (
        layout(
            'torchvision or timm',
            'conv1.weight',
            lambda key: _renamed(key, _TORCHVISION),
            r'fc\.(weight|bias)',
            'BSD-3-Clause (torchvision), Apache-2.0 (timm)',
        ),
        layout(
            'Hugging Face',
            'resnet.embedder.embedder.convolution.weight',
            lambda key: _renamed(key, _HUGGING_FACE),
            r'classifier\.1\.(weight|bias)',
            'Apache-2.0',
        ),
        layout(
            'detectron2',
            'stem.conv1.weight',
            detectron2,
            r'stem\.fc\.(weight|bias)',
            'Apache-2.0',
        ),
    )


def folder_layout(pixel_keys: Mapping[str, str]) -> Layout:
    """Return the layout of a Mask2Former folder of `transformers`.

    Args:
        pixel_keys: from the keys of backbone and pixel decoder to those in the file, for
            `transformers` renames its modules in memory and not in files.
    """
    return Layout(
        name='Mask2Former folder of transformers',
        signature='class_predictor.weight',
        source=lambda key: (
            Source(pixel_keys[key]) if key in pixel_keys else _source(_renamed(key, _TRANSFORMERS))
        ),
        optional=(r'uncertainty\.classifier\.(weight|bias)',),
        extra=(r'.+\.relative_position_index',),  # a constant, in older files
        licence='that of its model card',
    )


def _renamed(key: str, rules: _Rules) -> str:
    for pattern, replacement in rules:
        key = re.sub(f'^{pattern}', replacement, key)
    return key


def _source(key: str) -> Source:
    """Return the place of a tensor."""
    return _packed(key, _INPUTS, 'in_proj_') or Source(key)


def _swin_source(key: str) -> Source:
    renamed = _renamed(key, _SWIN)
    return _packed(renamed, _SWIN_INPUTS, 'qkv.') or _source(renamed)


def _packed(key: str, inputs: tuple[str, ...], whole: str) -> Source | None:
    """Return the part of a packed tensor that an attention's input is; None of other keys."""
    found = re.fullmatch(rf'(.+)\.({"|".join(inputs)})\.(weight|bias)', key)
    if found is None:
        return None
    attention, part, kind = found.groups()
    index = inputs.index(part)
    return Source(f'{attention}.{whole}{kind}', lambda tensor: tensor.chunk(len(inputs))[index])
