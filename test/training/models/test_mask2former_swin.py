# SPDX-License-Identifier: Apache-2.0
"""Mask2Former with Swin, as UNO and RbA release it, at a fraction of its size."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file
import torch
from torch import Tensor

from multishift_perception.errors import MultishiftError
from multishift_training import checkpoints
from multishift_training.checkpoints.key_matching import untrained
from multishift_training.methods.masks import MaskLosses
from multishift_training.methods.uno import Uno
from multishift_training.models.mask2former import Mask2Former
from multishift_training.models.mask2former_factory import Swin, mask2former_swin

SMALL = Swin(16, (1, 1, 2, 2), (1, 1, 2, 1))
VARIANTS = {
    'three levels': SMALL,
    'uno': SMALL._replace(negative=True),
    'rba': SMALL._replace(one_level=True),
}


@pytest.fixture(scope='module', params=VARIANTS)
def network(request: pytest.FixtureRequest) -> tuple[Swin, Mask2Former]:
    torch.manual_seed(0)
    variant = VARIANTS[request.param]
    return variant, mask2former_swin(variant).eval()


def in_file(model: Mask2Former) -> dict[str, Tensor]:
    """Return the model's tensors as a released file holds them, with the constants there."""
    [layout] = model.layouts()
    parts: dict[str, list[Tensor]] = {}
    for key, tensor in model.state_dict().items():
        parts.setdefault(layout.source(key).key, []).append(tensor)
    stored = {key: torch.cat(p) if len(p) > 1 else p[0].clone() for key, p in parts.items()}
    for stage, depth in enumerate(SMALL.depths):
        for block in range(depth):
            key = f'backbone.layers.{stage}.blocks.{block}.attn.relative_position_index'
            stored[key] = torch.zeros(144, 144, dtype=torch.int64)
    return {key: value for key, value in stored.items() if 'class_embed2' not in key}


def names(*modules: str, of: str = 'weight bias') -> set[str]:
    return {f'{module}.{part}' for module in modules for part in of.split()}


def published_keys(variant: Swin) -> set[str]:
    """Return the keys of the public code's network."""
    keys = names('backbone.patch_embed.proj', 'backbone.patch_embed.norm')
    for stage, depth in enumerate(variant.depths):
        keys |= names(f'backbone.norm{stage}')
        for block in range(depth):
            b = f'backbone.layers.{stage}.blocks.{block}'
            parts = ('norm1', 'norm2', 'attn.qkv', 'attn.proj', 'mlp.fc1', 'mlp.fc2')
            keys |= names(*(f'{b}.{part}' for part in parts))
            keys |= names(f'{b}.attn', of='relative_position_bias_table relative_position_index')
        if stage < 3:
            keys |= names(f'backbone.layers.{stage}.downsample.norm')
            keys.add(f'backbone.layers.{stage}.downsample.reduction.weight')
    levels, layers, finer = (1, 1, 3) if variant.one_level else (3, 9, 1)
    pixels = 'sem_seg_head.pixel_decoder'
    keys |= {f'{pixels}.transformer.level_embed'} | names(f'{pixels}.mask_features')
    for level in range(levels):
        keys |= names(f'{pixels}.input_proj.{level}.0', f'{pixels}.input_proj.{level}.1')
    for level in range(1, finer + 1):
        for part in ('adapter', 'layer'):
            keys |= {f'{pixels}.{part}_{level}.weight'} | names(f'{pixels}.{part}_{level}.norm')
    for layer in range(6):
        e = f'{pixels}.transformer.encoder.layers.{layer}'
        attention = ('sampling_offsets', 'attention_weights', 'value_proj', 'output_proj')
        keys |= names(*(f'{e}.self_attn.{part}' for part in attention))
        keys |= names(*(f'{e}.{part}' for part in ('linear1', 'linear2', 'norm1', 'norm2')))
    queries = 'sem_seg_head.predictor'
    keys |= names(*(f'{queries}.{e}_embed' for e in ('query', 'level')), of='weight')
    keys |= {f'{queries}.query_feat.weight', 'criterion.empty_weight'}
    keys |= names(f'{queries}.decoder_norm', f'{queries}.class_embed')
    keys |= names(*(f'{queries}.mask_embed.layers.{i}' for i in range(3)))
    for layer in range(layers):
        for kind, attention_name in (('cross', 'multihead_attn'), ('self', 'self_attn')):
            a = f'{queries}.transformer_{kind}_attention_layers.{layer}'
            keys |= names(f'{a}.{attention_name}.out_proj', f'{a}.norm')
            keys |= names(f'{a}.{attention_name}', of='in_proj_weight in_proj_bias')
        f = f'{queries}.transformer_ffn_layers.{layer}'
        keys |= names(*(f'{f}.{part}' for part in ('linear1', 'linear2', 'norm')))
    return keys


def test_keys_are_the_published_ones(network: tuple[Swin, Mask2Former]) -> None:
    variant, model = network
    stored = in_file(model)
    assert stored.keys() == published_keys(variant)
    rows = 21 if variant.negative else 20
    assert stored['sem_seg_head.predictor.class_embed.weight'].shape == (rows, 256)


def test_loads_such_a_file_whole(network: tuple[Swin, Mask2Former], tmp_path: Path) -> None:
    variant, model = network
    save_file(in_file(model), tmp_path / 'model_final.safetensors')
    torch.manual_seed(1)
    loaded = mask2former_swin(variant).eval()
    report = checkpoints.load(loaded, tmp_path / 'model_final.safetensors')
    assert all(key.endswith('.relative_position_index') for key in report.left_over)
    assert not untrained(loaded, report)
    wanted = model.state_dict()
    for key, tensor in loaded.state_dict().items():
        assert key.startswith('uncertainty.') or torch.equal(tensor, wanted[key]), key


def test_a_file_of_another_variant_is_refused(tmp_path: Path) -> None:
    save_file(in_file(mask2former_swin(VARIANTS['uno'])), tmp_path / 'model.safetensors')
    with pytest.raises(MultishiftError, match=r"in the layout \"detectron2's Mask2Former"):
        checkpoints.load(mask2former_swin(SMALL), tmp_path / 'model.safetensors')


@torch.no_grad()
def test_the_negative_class_is_the_score_and_never_a_label() -> None:
    model = mask2former_swin(VARIANTS['uno']).eval()
    model.classifier.bias[19] = 9  # all queries are negative
    found = model(torch.randn(1, 3, 64, 96))
    assert found.logits.shape == (1, 19, 64, 96)
    masks = found.masks.mask_logits
    high = torch.nn.functional.interpolate(masks, scale_factor=4.0, mode='bilinear')
    weights = found.masks.class_logits.softmax(-1)
    lead = weights[..., 19] - weights[..., :19].amax(-1)
    wanted = torch.einsum('bq,bqhw->bhw', lead, high.sigmoid())
    torch.testing.assert_close(found.score, wanted, atol=1e-4, rtol=1e-4)
    # The method goes on with it rather than to add another.
    method = Uno(kind='uno', masks=MaskLosses())
    assert method.adapt(model) is model and model.classifier.out_features == 21
