# SPDX-License-Identifier: Apache-2.0
"""Mask2Former of `transformers`' parts: the network of MultiShiftSeg, and any from a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from transformers import Mask2FormerConfig, Mask2FormerModel, ResNetConfig, SwinConfig
from transformers.core_model_loading import revert_weight_conversion

from multishift_perception.errors import MultishiftError
from multishift_training.models.global_attention import ForegroundAttention, GlobalAttention
from multishift_training.models.hugging_face import building, check_config, read_config
from multishift_training.models.mask2former import Mask2Former
from multishift_training.models.mask2former_decoder import QueryDecoder
from multishift_training.models.mask2former_deformable import lighten
from multishift_training.models.mask2former_layouts import (
    folder_layout,
    imagenet_layouts,
    multishiftseg_layout,
    swin_layout,
)
from multishift_training.models.mask2former_norm import freeze_batch_norms
from multishift_training.models.mask2former_one_level import keep_coarsest_level
from multishift_training.models.negative_class import add_negative_to_masks

# Of the options of `transformers`, those that our decoder does not know; no published network
# sets them otherwise.
_FIXED = {
    'activation_function': 'relu',
    'dropout': 0.0,
    'enforce_input_projection': False,
    'pre_norm': False,
}


_STAGES = ['stage1', 'stage2', 'stage3', 'stage4']


class Swin(NamedTuple):
    """A Swin transformer (Liu et al., ICCV 2021) below the decoders, in windows of 12 x 12.

    Attributes:
        width: channels of the first stage; each next one has twice as many.
        heads: of the attention in each stage.
        depths: blocks of each stage.
        one_level: whether the pixels of the coarsest level alone are attended to, by one layer of
            queries, as RbA has it; else three levels, by nine.
        negative: whether there is a negative class, as UNO has it.
    """

    width: int
    heads: tuple[int, ...]
    depths: tuple[int, ...] = (2, 2, 18, 2)
    one_level: bool = False
    negative: bool = False


_B, _L = Swin(128, (4, 8, 16, 32)), Swin(192, (6, 12, 24, 48))
SWINS = {
    'mask2former_swin_b': _B,
    'mask2former_swin_l': _L,
    'mask2former_swin_l_uno': _L._replace(negative=True),
    'mask2former_swin_b_rba': _B._replace(one_level=True),
    'mask2former_swin_l_rba': _L._replace(one_level=True),
}


def mask2former_swin(variant: Swin, num_classes: int = 19) -> Mask2Former:
    """Return a Mask2Former with a Swin transformer, as Mask2Former, UNO and RbA have it.

    Args:
        variant: what of it.
        num_classes: known classes.
    """
    config = Mask2FormerConfig()
    config.backbone_config = SwinConfig(  # type: ignore[call-arg]
        image_size=384,
        embed_dim=variant.width,
        depths=list(variant.depths),
        num_heads=list(variant.heads),
        window_size=12,
        drop_path_rate=0.3,
        out_features=_STAGES,
    )
    parts = Mask2FormerModel(config).pixel_level_module
    parts.encoder.swin.layernorm = nn.Identity()  # behind all that is used
    levels = 3
    if variant.one_level:
        config.decoder_layers, levels = 2, 1
        keep_coarsest_level(parts.decoder)
    model = Mask2Former(
        parts.encoder,
        lighten(parts.decoder),
        _decoder(config, ForegroundAttention, levels=levels),
        num_classes,
        (swin_layout(),),
    )
    if variant.negative:
        add_negative_to_masks(model)
    return model


def mask2former_resnet50(num_classes: int = 19) -> Mask2Former:
    """Return the network of MultiShiftSeg: ResNet-50, global masked attention.

    The backbone's batch norms are frozen, as published: they stay what they were loaded as.
    """
    config = Mask2FormerConfig()
    # Set afterwards, as the constructor warns of each backbone but Swin.
    config.backbone_config = ResNetConfig()
    config.backbone_config.out_features = _STAGES
    parts = Mask2FormerModel(config).pixel_level_module
    return Mask2Former(
        freeze_batch_norms(parts.encoder),
        lighten(parts.decoder),
        _decoder(config, GlobalAttention),
        num_classes,
        (multishiftseg_layout(), *imagenet_layouts()),
    )


def mask2former_from_folder(num_classes: int = 19, *, folder: str | Path) -> Mask2Former:
    """Return the network that a folder of `transformers` describes, with any backbone.

    Its weights are random; `checkpoints.load` reads the folder's.

    Args:
        num_classes: known classes; as many as the folder's.
        folder: holds ``config.json``.

    Raises:
        MultishiftError: there is no such file, it is broken, describes another network or other
            classes, or sets an option that no published network sets.
    """
    path = Path(folder) / 'config.json'
    fields = _read(path)
    with building(path):
        config = Mask2FormerConfig.from_dict(fields)
        model = Mask2FormerModel(config)
    check_config(path, config, num_classes, {**_FIXED, 'hidden_dim': config.feature_size})
    layout = folder_layout(_pixel_keys(model))  # before any part of it is replaced
    return Mask2Former(
        model.pixel_level_module.encoder,
        lighten(model.pixel_level_module.decoder),
        _decoder(config, ForegroundAttention),
        num_classes,
        (layout,),
        no_object_weight=config.no_object_weight,
    )


def _read(path: Path) -> dict[str, object]:
    fields = read_config(path, 'mask2former', 'Mask2Former')
    if not isinstance(fields.get('backbone_config'), dict):
        # `transformers` would fetch what the name in `backbone` stands for.
        raise MultishiftError(
            f'{path} lacks backbone_config: save the folder anew with `transformers` 5 or later'
        )
    return fields


def _decoder(
    config: Mask2FormerConfig,
    attention: type[ForegroundAttention | GlobalAttention],
    *,
    levels: int = 3,
) -> QueryDecoder:
    return QueryDecoder(
        attention,
        levels=levels,
        layers=config.decoder_layers - 1,  # `transformers` counts the first masks as a layer
        queries=config.num_queries,
        channels=config.hidden_dim,
        mask_channels=config.mask_feature_size,
        heads=config.num_attention_heads,
        hidden=config.dim_feedforward,
    )


def _pixel_keys(model: Mask2FormerModel) -> Mapping[str, str]:
    """Return the file's keys of backbone and pixel decoder by ours."""
    probes = {key: torch.empty(0) for key in model.state_dict()}
    in_file = {id(probe): key for key, probe in revert_weight_conversion(model, probes).items()}
    ours = {
        'pixel_level_module.encoder.': 'backbone.',
        'pixel_level_module.decoder.': 'pixel_decoder.',
    }
    return {
        name + key.removeprefix(prefix): f'model.{in_file[id(probe)]}'
        for key, probe in probes.items()
        for prefix, name in ours.items()
        if key.startswith(prefix)
    }
