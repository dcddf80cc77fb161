# SPDX-License-Identifier: Apache-2.0
"""Where published PIDNet checkpoints keep the tensors of ours."""

from __future__ import annotations

import re

from multishift_training.models.layout import Layout, Source

# From ours to theirs: stages, and blocks that stand alone.
_BLOCKS = {
    'backbone.entry.0': 'layer1',
    'backbone.entry.1': 'layer2',
    'backbone.context.0': 'layer3',
    'backbone.context.1': 'layer4',
    'backbone.deepest': 'layer5',
    'backbone.detail.0': 'layer3_',
    'backbone.detail.1': 'layer4_',
    'backbone.detail.2': 'layer5_.0',
    'backbone.boundary.0': 'layer3_d',
    'backbone.boundary.2': 'layer5_d.0',
}
# Everything else, by prefix.
_PREFIXES = {
    'backbone.compress.0.': 'compression3.',
    'backbone.compress.1.': 'compression4.',
    'backbone.attention.0.detail.': 'pag3.f_x.',
    'backbone.attention.0.context.': 'pag3.f_y.',
    'backbone.attention.1.detail.': 'pag4.f_x.',
    'backbone.attention.1.context.': 'pag4.f_y.',
    'backbone.contrast.0.': 'diff3.',
    'backbone.contrast.1.': 'diff4.',
    'backbone.pyramid.mix.': 'spp.scale_process.',
    'backbone.pyramid.project.': 'spp.compression.',
    'backbone.pyramid.shortcut.': 'spp.shortcut.',
    'backbone.pyramid.scales.0.': 'spp.scale0.',
    'backbone.fusion.mix.': 'dfm.conv.',
    'backbone.fusion.detail.': 'dfm.conv_p.',
    'backbone.fusion.context.': 'dfm.conv_i.',
    'backbone.stem.': 'conv1.',
    'decoder.0.': 'final_layer.bn1.',
    'decoder.2.': 'final_layer.conv1.',
    'decoder.3.': 'final_layer.bn2.',
    'classifier.': 'final_layer.conv2.',
    'uncertainty.proxy.': 'ood_head.',
}
_BLOCK = re.compile(r'(backbone\..+)\.(body|shortcut)\.(\d)\.(.+)')
_POOLED = re.compile(r'backbone\.pyramid\.scales\.([1-4])\.(\d)\.(.+)')
_MIXED = re.compile(r'backbone\.pyramid\.mixes\.(\d)\.(.+)')


def layouts(*, light: bool) -> tuple[Layout, ...]:
    """Return the layout of the released files and that of the public network's own state.

    The released files hold the network inside its training wrapper, with the class weights of
    the losses. Both may have the auxiliary heads, which serve no purpose here.

    Args:
        light: whether it is PIDNet-S or M, whose boundary branch differs from L's.
    """
    return _layout('PIDNet as released', 'model.', light), _layout('PIDNet alone', '', light)


def _layout(name: str, prefix: str, light: bool) -> Layout:
    dot = re.escape(prefix)
    return Layout(
        name=name,
        signature=f'{prefix}final_layer.conv2.weight',
        source=lambda key: Source(prefix + _published(key, light)),
        optional=(rf'{dot}ood_head\.(weight|bias)', r'.*\.num_batches_tracked'),
        extra=(rf'{dot}seghead_[pd]\..*', r'(sem_)?loss\.criterion\.weight'),
        licence='MIT',
    )


def _published(key: str, light: bool) -> str:
    """Return the public network's key, or the key as it is: what these files do not hold."""
    for ours, theirs in _PREFIXES.items():
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    if found := _POOLED.fullmatch(key):
        scale, index, tensor = found.groups()
        # Theirs begin with the pooling.
        return f'spp.scale{scale}.{int(index) + 1}.{tensor}'
    if found := _MIXED.fullmatch(key):
        return f'spp.process{int(found[1]) + 1}.{found[2]}'
    if found := _BLOCK.fullmatch(key):
        return _of_block(*found.groups(), light=light)
    return key


def _of_block(place: str, part: str, index: str, tensor: str, *, light: bool) -> str:
    if place == 'backbone.boundary.1':
        block = 'layer4_d.0' if light else 'layer4_d'
    elif place in _BLOCKS:
        block = _BLOCKS[place]
    else:
        stage, number = place.rsplit('.', 1)
        block = f'{_BLOCKS[stage]}.{number}'
    if part == 'shortcut':
        return f'{block}.downsample.{index}.{tensor}'
    # Convolution, batch norm, ReLU and so on.
    layer, kind = divmod(int(index), 3)
    return f'{block}.{("conv", "bn")[kind]}{layer + 1}.{tensor}'
