# SPDX-License-Identifier: Apache-2.0
"""Where published DeepLabV3+ checkpoints keep the tensors of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
import re

import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_training.models.layout import Layout, Source

SetStem = Callable[[bool], Callable[[], None]]
SetDomains = Callable[[int], Callable[[], None]]

# From ours to theirs, by prefix. The uncertainty head has MultiShiftSeg's name everywhere.
_COMMON = {
    'aspp.branches.': 'aspp.features.',
    'aspp.image.': 'aspp.img_conv.',
    'aspp.project.': 'bot_aspp.',
    'low.': 'bot_fine.',
    'uncertainty.proxy.': 'ood_head.',
}
_NVIDIA = {
    **_COMMON,
    'decoder.0.0.': 'final.0.',
    'decoder.0.1.': 'final.1.',
    'decoder.1.0.': 'final.3.',
    'decoder.1.1.': 'final.4.',
    'classifier.': 'final.6.',
}
_ROBUSTNET = {
    **_COMMON,
    'backbone.stem.': 'layer0.',
    'decoder.0.0.': 'final1.0.',
    'decoder.0.1.': 'final1.1.',
    'decoder.1.0.': 'final1.3.',
    'decoder.1.1.': 'final1.4.',
    'classifier.': 'final2.0.',
}
_SPC = {
    'classifier.steps': 'classifier.steps',  # ours alone
    'classifier.projection.': 'projection.',
    'classifier.feature_norm.': 'feat_norm.',
    'classifier.class_norm.': 'mask_norm.',
}
_SPC_STYLES = {'backbone.entry_tap.bases': 'styleAdaIN1', 'backbone.low_tap.bases': 'styleAdaIN2'}
# Of two and three sources, and the ten that one has.
_SPC_DOMAINS = (2, 3, 10)
_IMAGENET = {'backbone.stem.0.': 'conv1.', 'backbone.stem.1.': 'bn1.'}
_HUGGING_FACE = {
    'backbone.stem.0.': 'resnet.embedder.embedder.convolution.',
    'backbone.stem.1.': 'resnet.embedder.embedder.normalization.',
    'backbone.stages.': 'resnet.encoder.stages.',
}

_WIDE_BLOCK = re.compile(
    r'backbone\.stages\.(\d)\.(\d)\.(activation\.0|residual\.\d|shortcut)\.(.+)'
)
_WIDE_LAYERS = {
    'activation.0': 'bn1.0',
    'residual.0': 'convs.conv1',
    'residual.1': 'convs.bn2.0',
    'residual.3': 'convs.conv2',
    'residual.4': 'convs.bn3.0',
    'residual.7': 'convs.conv3',
    'shortcut': 'proj_conv',
}
_BOTTLENECK = re.compile(
    r'backbone\.stages\.(\d)\.layers\.(\d+)\.'
    r'(?:layer\.(\d)|shortcut)\.(convolution|normalization)\.(.+)'
)

# Files older than PyTorch 0.4.1 lack the counters.
_COUNTERS = r'.*\.num_batches_tracked'
_UNCERTAINTY = r'ood_head\.(weight|bias)'
# What classifiers lack, in our names.
_HEADS = r'(aspp|low|decoder|classifier|uncertainty)\..*'


def wide_resnet38() -> Layout:
    """Return the layout of MultiShiftSeg's DeepLab and of NVIDIA's, which lacks the score's head.

    NVIDIA's file also holds the class weights of its loss.
    """
    return Layout(
        name='DeepLabV3+ WideResNet38 of MultiShiftSeg or NVIDIA',
        signature='bot_aspp.weight',
        source=lambda key: Source(_wide(key)),
        optional=(_UNCERTAINTY, _COUNTERS),
        extra=(r'criterion\..*',),
        licence='Apache-2.0 (MultiShiftSeg), CC BY-NC-SA 4.0 (NVIDIA)',
    )


def robustnet() -> Layout:
    """Return the layout of RobustNet's plain DeepLabs, with their auxiliary head for training."""
    return Layout(
        name='DeepLabV3+ ResNet of RobustNet',
        signature='layer0.0.weight',
        source=lambda key: Source(_bottleneck(key) or _renamed(key, _ROBUSTNET)),
        optional=(_UNCERTAINTY, _COUNTERS),
        extra=(r'dsn\..*',),
        licence='BSD-3-Clause',
    )


def spc(set_domains: SetDomains) -> tuple[Layout, ...]:
    """Return the layouts of the files of SPC's author, one for each number of domains.

    Args:
        set_domains: gives the network bases for so many domains and returns what undoes that.
    """
    return tuple(
        replace(
            robustnet(),
            name=f'DeepLabV3+ ResNet of SPC, {domains} domains',
            signature='styleAdaIN1.style_mu',
            source=_spc,
            optional=(_COUNTERS, r'classifier\.steps'),
            adapt=partial(set_domains, domains),
            licence='',
        )
        for domains in _SPC_DOMAINS
    )


def imagenet_resnet() -> Layout:
    """Return the layout of torchvision's and timm's ImageNet classifiers; the backbone is used."""
    return Layout(
        name='ImageNet classifier of torchvision or timm, backbone only',
        signature='conv1.weight',
        source=lambda key: Source(_bottleneck(key) or _renamed(key, _IMAGENET)),
        optional=(_HEADS, _COUNTERS),
        extra=(r'fc\.(weight|bias)',),
        licence='BSD-3-Clause (torchvision), Apache-2.0 (timm)',
    )


def imagenet_resnet_hugging_face() -> Layout:
    """Return the layout of Hugging Face's ImageNet classifiers, of which the backbone is used."""
    return Layout(
        name='ImageNet classifier of Hugging Face, backbone only',
        signature='resnet.embedder.embedder.convolution.weight',
        source=lambda key: Source(_renamed(key, _HUGGING_FACE)),
        optional=(_HEADS, _COUNTERS),
        extra=(r'classifier\.1\.(weight|bias)',),
        licence='Apache-2.0',
    )


def imagenet_wide_resnet38() -> Layout:
    """Return the layout of NVIDIA's ImageNet classifier, of which the backbone is used."""
    return Layout(
        name='ImageNet classifier of NVIDIA, backbone only',
        signature='classifier.fc.weight',
        source=lambda key: Source(_wide(key) if key.startswith('backbone.') else key),
        optional=(_HEADS, _COUNTERS),
        extra=(r'bn_out\..*', r'classifier\.fc\.(weight|bias)'),
        licence='CC BY-NC-SA 4.0',
    )


def resnet101(set_stem: SetStem) -> tuple[Layout, ...]:
    """Return the layouts of ResNet-101, which was published with two stems.

    Args:
        set_stem: changes the network's stem and returns what undoes that.
    """
    deep, single = partial(set_stem, True), partial(set_stem, False)
    # The fourth layer of a deep stem is a convolution, of the usual one the pooling.
    ours = Layout('multishift, deep stem', 'backbone.stem.3.weight', Source, adapt=deep)
    return (
        replace(robustnet(), signature='layer0.3.weight', adapt=deep),
        replace(imagenet_resnet(), adapt=single),
        replace(imagenet_resnet_hugging_face(), adapt=single),
        ours,
    )


def _wide(key: str) -> str:
    if key == 'backbone.stem.weight':
        return 'mod1.conv1.weight'
    found = _WIDE_BLOCK.fullmatch(key)
    if not found:
        return _renamed(key, _NVIDIA)
    stage, block, layer, tensor = found.groups()
    return f'mod{int(stage) + 2}.block{int(block) + 1}.{_WIDE_LAYERS[layer]}.{tensor}'


def _spc(key: str) -> Source:
    if place := _SPC_STYLES.get(key):
        return Source(f'{place}.style_mu', _styles, (f'{place}.style_sig',))
    if key == 'classifier.bases':
        return Source('prototypes', _domains_first)
    return Source(_bottleneck(key) or _renamed(key, {**_SPC, **_ROBUSTNET}))


def _styles(means: Tensor, deviations: Tensor) -> Tensor:
    """Return bases ``[M,2,C]``."""
    return torch.stack([means, deviations], 1)


def _domains_first(bases: Tensor) -> Tensor:
    """Return bases ``[C,M,D]`` as those of `Clusters`, of length 1 as the author uses them."""
    return F.normalize(bases, dim=2).transpose(0, 1).reshape(-1, bases.shape[2], 1, 1)


def _bottleneck(key: str) -> str | None:
    """Return the name, common to all ResNets, of a tensor of the stages."""
    found = _BOTTLENECK.fullmatch(key)
    if not found:
        return None
    stage, block, layer, kind, tensor = found.groups()
    place = f'layer{int(stage) + 1}.{block}'
    if layer is None:
        return f'{place}.downsample.{0 if kind == "convolution" else 1}.{tensor}'
    return f'{place}.{"conv" if kind == "convolution" else "bn"}{int(layer) + 1}.{tensor}'


def _renamed(key: str, prefixes: Mapping[str, str]) -> str:
    """Return the key with its prefix replaced, or as it is: what these files do not hold."""
    for ours, theirs in prefixes.items():
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    return key
