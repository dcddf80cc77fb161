# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import csv
from functools import partial
from pathlib import Path
import re
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multishift_training.models.backbone import Backbone, DecoderConfig
from multishift_training.models.compact import CompactBackbone
from multishift_training.models.deeplab import Aspp, DeepLabV3Plus
from multishift_training.models.efficientnet_lite import EfficientNetLite
from multishift_training.models.input_scale import IMAGENET
from multishift_training.models.layout import Layout
from multishift_training.models.resnet import ResNet
from multishift_training.models.wide_resnet import PreActivationBlock, WideResNet38

KEYS = Path(__file__).parents[1] / 'keys' / 'deepv3_wrn38_keys.tsv'
BACKBONES: dict[str, Callable[[], Backbone]] = {
    'compact': CompactBackbone,
    'efficientnet_lite0': EfficientNetLite,
    'wideresnet38': WideResNet38,
    'resnet50': partial(ResNet, 50),
    'resnet101': partial(ResNet, 101),
}
LOW_STRIDES = {'compact': 4, 'efficientnet_lite0': 4, 'wideresnet38': 2, 'resnet50': 4}


# ResNet-101 is ResNet-50 with more of the same blocks.
@pytest.fixture(scope='module', params=LOW_STRIDES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope='module')
def model(name: str) -> Iterator[DeepLabV3Plus]:
    torch.manual_seed(0)
    yield DeepLabV3Plus(BACKBONES[name](), num_classes=5).eval()


@pytest.fixture
def channels_last(model: DeepLabV3Plus) -> Iterator[DeepLabV3Plus]:
    yield model.to(memory_format=torch.channels_last)
    model.to(memory_format=torch.contiguous_format)


# Of whole networks


@pytest.mark.slow
@pytest.mark.parametrize('size', [(33, 50), (16, 31)])
def test_any_image_size(model: DeepLabV3Plus, name: str, size: tuple[int, int]) -> None:
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        prediction = model(image)
    low = tuple(-(-side // LOW_STRIDES[name]) for side in size)
    assert prediction.logits.shape == (2, 5, *size)
    assert prediction.score.shape == (2, *size)
    assert prediction.feature.shape == (2, model.classifier.in_channels, *low)
    assert prediction.masks is None


def test_outputs_of_another_size(model: DeepLabV3Plus) -> None:
    image = torch.randn(1, 3, 17, 30)
    with torch.no_grad():
        prediction = model(image, size=(9, 14))
        logits, score = model.classifier(prediction.feature), model.uncertainty(prediction.feature)
    resized = partial(F.interpolate, size=(9, 14), mode='bilinear', align_corners=True)
    torch.testing.assert_close(prediction.logits, resized(logits))
    torch.testing.assert_close(prediction.score, resized(score[:, None])[:, 0])


def test_score_starts_as_the_classifiers_energy(model: DeepLabV3Plus) -> None:
    before = model.uncertainty.proxy.weight.detach().clone()
    model.init_uncertainty_from_classifier()
    with torch.no_grad():
        feature = model(torch.randn(1, 3, 16, 24)).feature
        energy = -torch.logsumexp(model.classifier(feature), 1)
        torch.testing.assert_close(model.uncertainty(feature), energy)
        model.uncertainty.proxy.weight.copy_(before)
        assert not torch.allclose(model.uncertainty(feature), energy)


@pytest.mark.slow
def test_gradients_reach_what_they_should(model: DeepLabV3Plus) -> None:
    entry = next(model.backbone.parameters())
    running = next(b for key, b in model.backbone.named_buffers() if key.endswith('running_mean'))
    before = running.clone()
    model.train()
    logits, score, *_ = model(torch.randn(2, 3, 17, 30))
    model.eval()
    assert not torch.equal(running, before)
    heads = [model.classifier.weight, model.uncertainty.proxy.weight]
    gradients = partial(torch.autograd.grad, inputs=[entry, *heads], allow_unused=True)
    to_backbone, to_classifier, to_uncertainty = gradients(score.mean(), retain_graph=True)
    assert to_classifier is None
    assert to_backbone.any() and to_uncertainty.any()
    to_backbone, to_classifier, to_uncertainty = gradients(logits.square().mean())
    assert to_uncertainty is None
    assert to_backbone.any() and to_classifier.any()


@pytest.mark.slow
def test_network_exports(model: DeepLabV3Plus) -> None:
    image = torch.randn(1, 3, 17, 30)
    with torch.no_grad():
        exported = torch.export.export(model, (image,), strict=False).module()(image)
        expected = model(image)
    torch.testing.assert_close(exported.logits, expected.logits)
    torch.testing.assert_close(exported.score, expected.score)


@pytest.mark.slow
def test_channels_last_holds_from_end_to_end(channels_last: DeepLabV3Plus) -> None:
    formats = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        formats[module] = inputs[0].is_contiguous(memory_format=torch.channels_last)

    joins = (channels_last.aspp.project, channels_last.decoder, channels_last.classifier)
    handles = [module.register_forward_pre_hook(note) for module in joins]
    with torch.no_grad():
        channels_last(torch.randn(1, 3, 32, 48))
    for handle in handles:
        handle.remove()
    assert formats == dict.fromkeys(joins, True)


def test_compact_network_fits_the_embedded_engine() -> None:
    with torch.device('meta'):
        network = DeepLabV3Plus(CompactBackbone(), 19)
    assert sum(p.numel() for p in network.parameters()) < 1.1e6


# Of the parts, against direct computation


class _Given(Backbone):
    """Stands for a backbone: its features are crops of the image."""

    low_channels = high_channels = 2
    input_scale = IMAGENET

    def __init__(self, decoder: DecoderConfig) -> None:
        super().__init__()
        self.decoder = decoder

    def enter(self, image: Tensor) -> Tensor:
        return image

    def shallow(self, entered: Tensor) -> Tensor:
        return entered[:, :2, ::2, ::2]

    def deep(self, low: Tensor) -> Tensor:
        return low[:, :, ::4, ::4]


def _randomised(module: nn.Module) -> Any:
    """Give batch norms statistics and an affine map that an error in their place would show."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -1, 1)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.uniform_(part.bias, -1, 1)
    return module.eval()


def _bn(x: Tensor, bn: nn.BatchNorm2d) -> Tensor:
    assert bn.eps == 1e-5
    scale = bn.weight / (bn.running_var + 1e-5).sqrt()
    return (x - bn.running_mean[:, None, None]) * scale[:, None, None] + bn.bias[:, None, None]


def _conv_bn_relu(x: Tensor, block: Any, dilation: int = 1) -> Tensor:
    conv, bn, _ = block.children()
    reach = conv.weight.shape[-1] // 2 * dilation
    return _bn(F.conv2d(x, conv.weight, padding=reach, dilation=dilation), bn).relu()


def _up(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=size, mode='bilinear', align_corners=True)


@torch.no_grad()
def _expected(model: Any, image: Tensor) -> tuple[Tensor, Tensor]:
    """The published decoder in order: image, 1x1, rates; projections; fine feature first."""
    config = model.backbone.decoder
    low, high = model.backbone(image)
    pooled = _conv_bn_relu(high.mean((2, 3), keepdim=True), model.aspp.image)
    pyramid = [pooled.expand(-1, -1, *high.shape[2:])]
    for branch, rate in zip(model.aspp.branches, (1, *config.rates), strict=True):
        pyramid.append(_conv_bn_relu(high, branch, rate))
    project = _conv_bn_relu if config.normalised_projections else _conv
    context = _up(project(torch.cat(pyramid, 1), model.aspp.project), low.shape[2:])
    feature = torch.cat([project(low, model.low), context], 1)
    for block in model.decoder:
        feature = _conv_bn_relu(feature, block)
    logits = F.conv2d(feature, model.classifier.weight, model.classifier.bias)
    proxy = F.conv2d(feature, model.uncertainty.proxy.weight, model.uncertainty.proxy.bias)
    score = -proxy.exp().sum(1, keepdim=True).log()
    return _up(logits, image.shape[2:]), _up(score, image.shape[2:])[:, 0]


def _conv(x: Tensor, conv: nn.Conv2d) -> Tensor:
    return F.conv2d(x, conv.weight)


@pytest.mark.slow
@pytest.mark.parametrize('as_published_for', ['wideresnet38', 'resnet50'])
def test_decoder_is_the_published_one(as_published_for: str) -> None:
    decoder = {
        'wideresnet38': DecoderConfig(
            (12, 24, 36), normalised_projections=False, classifier_bias=False
        ),
        'resnet50': DecoderConfig((6, 12, 18), normalised_projections=True, classifier_bias=True),
    }[as_published_for]
    with torch.device('meta'):
        assert BACKBONES[as_published_for]().decoder == decoder
    model = _randomised(DeepLabV3Plus(_Given(decoder), 5))
    if decoder.classifier_bias:
        nn.init.normal_(model.classifier.bias)
    image = torch.randn(2, 3, 325, 90)
    logits, score = _expected(model, image)
    with torch.no_grad():
        prediction = model(image)
    torch.testing.assert_close(prediction.logits, logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(prediction.score, score, atol=1e-4, rtol=1e-4)
    # The check above can tell: a score of upsampled logits is another one.
    late = -_up(model.uncertainty.proxy(prediction.feature), image.shape[2:]).logsumexp(1)
    assert (late - score).abs().max() > 1e-2


def test_separable_pyramid_reaches_as_far() -> None:
    config = DecoderConfig(rates=(2, 5), channels=4, separable=True)
    aspp = Aspp(3, config).eval()
    x = torch.zeros(1, 3, 15, 15)
    x[..., 7, 7] = 1
    for branch, rate in zip(aspp.branches[1:], config.rates, strict=True):
        depthwise = branch[0][0]
        assert depthwise.groups == 3
        reached = depthwise(x)[0, 0].nonzero()
        assert {tuple(at.tolist()) for at in reached} == {
            (7 + i * rate, 7 + j * rate) for i in (-1, 0, 1) for j in (-1, 0, 1)
        }


@pytest.mark.parametrize('inputs, stride', [(6, 1), (4, 1), (6, 2)])
def test_basic_block_takes_its_shortcut_after_the_activation(inputs: int, stride: int) -> None:
    block = _randomised(PreActivationBlock(inputs, (5, 6), stride=stride, dilation=2))
    x = torch.randn(2, inputs, 9, 11)
    kept = x.clone()
    with torch.no_grad():
        active = _bn(x, block.activation[0]).relu()
        first, norm, _, second = block.residual
        out = F.conv2d(active, first.weight, stride=stride, padding=2, dilation=2)
        out = F.conv2d(_bn(out, norm).relu(), second.weight, padding=2, dilation=2)
        if inputs == 6 and stride == 1:
            assert block.shortcut is None
            out += x
        else:
            out += F.conv2d(active, block.shortcut.weight, stride=stride)
        torch.testing.assert_close(block(x), out, atol=1e-5, rtol=1e-5)
    assert torch.equal(x, kept)


def test_bottleneck_block_drops_channels_before_its_last_convolution() -> None:
    block = _randomised(PreActivationBlock(4, (5, 6, 7), dilation=4, dropout=0.5))
    x = torch.randn(2, 4, 9, 11)
    with torch.no_grad():
        active = _bn(x, block.activation[0]).relu()
        first, norm1, _, second, norm2, _, dropout, third = block.residual
        out = _bn(F.conv2d(active, first.weight), norm1).relu()
        out = _bn(F.conv2d(out, second.weight, padding=4, dilation=4), norm2).relu()
        out = F.conv2d(out, third.weight) + F.conv2d(active, block.shortcut.weight)
        torch.testing.assert_close(block(x), out, atol=1e-5, rtol=1e-5)
    assert isinstance(dropout, nn.Dropout2d)
    assert dropout.p == 0.5


def test_wide_resnet_drops_only_in_its_last_two_stages() -> None:
    with torch.device('meta'):
        backbone = WideResNet38()
    dropouts = {k: m.p for k, m in backbone.named_modules() if isinstance(m, nn.Dropout2d)}
    assert dropouts == {'stages.4.0.residual.6': 0.3, 'stages.5.0.residual.6': 0.5}


# Against the published code


class _Golden(NamedTuple):
    """What the published code returns at `POINTS` for the weights and the image made here."""

    backbone: str
    logits: list[float]
    score: list[float] | None


POINTS = [(0, 0), (0, 49), (7, 11), (16, 25), (25, 40), (32, 49)]
CLASSES = [0, 3, 7, 11, 15, 18]
GOLDEN = [
    _Golden(
        'wideresnet38',
        [-0.0838, -0.2582, 0.1122, -0.0517, -0.085, 0.0615],
        [-2.9958, -3.1093, -3.2287, -3.4098, -3.2022, -3.0595],
    ),
    _Golden('resnet50', [0.1782, 0.1678, -0.884, -0.0459, 0.0512, 0.1764], None),
]


def _numbers(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Pseudo-random numbers in [-1, 1) that no version of a library changes."""
    draw = np.random.RandomState(seed).randint(-128, 128, shape, np.int8)
    return torch.from_numpy(draw).float().div_(128)


def _weights(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    weights = {}
    for seed, key in enumerate(sorted(shapes)):
        shape = shapes[key]
        if key.endswith('num_batches_tracked'):
            weights[key] = torch.tensor(0)
        elif len(shape) == 4:
            weights[key] = _numbers(seed, shape).mul_((3 / shape[1:].numel()) ** 0.5)  # type: ignore[attr-defined]
        elif key.endswith(('.running_var', '.weight')):
            weights[key] = 1 + _numbers(seed, shape) / 2
        else:
            weights[key] = _numbers(seed, shape) / 4
    return weights


@pytest.mark.slow
@pytest.mark.parametrize('golden', GOLDEN, ids=lambda golden: golden.backbone)
def test_same_numbers_as_the_published_code(golden: _Golden) -> None:
    model = DeepLabV3Plus(BACKBONES[golden.backbone](), 19).eval()
    source = model.layouts()[0].source
    state = model.state_dict()
    if golden.score is None:
        state = {k: v for k, v in state.items() if not k.startswith('uncertainty')}
    weights = _weights({source(key).key: tensor.shape for key, tensor in state.items()})
    model.load_state_dict({key: weights[source(key).key] for key in state}, strict=False)
    with torch.no_grad():
        prediction = model(2 * _numbers(0, (1, 3, 33, 50)))
    found = [prediction.logits[0, k, i, j] for k, (i, j) in zip(CLASSES, POINTS, strict=True)]
    assert found == pytest.approx(golden.logits, abs=1e-4)
    if golden.score is not None:
        assert [prediction.score[0, i, j] for i, j in POINTS] == pytest.approx(
            golden.score, abs=1e-4
        )


# Of the layouts


def _on_meta(backbone: str) -> DeepLabV3Plus:
    with torch.device('meta'):
        return DeepLabV3Plus(BACKBONES[backbone](), 19)


def _places(model: nn.Module, layout: Layout) -> dict[str, torch.Size]:
    """Keys that the file must or may hold, with their shapes; each key must serve once."""
    state = model.state_dict()
    places = {layout.source(key).key: tensor.shape for key, tensor in state.items()}
    assert len(places) == len(state)
    return places


def _any(patterns: tuple[str, ...], key: str) -> bool:
    return any(re.fullmatch(pattern, key) for pattern in patterns)


def test_wide_resnet_layout_has_the_published_keys_and_shapes() -> None:
    model = _on_meta('wideresnet38')
    layout, imagenet = model.layouts()
    with KEYS.open() as file:
        rows = list(csv.DictReader(file, delimiter='\t'))
    table = {row['key']: row['shape'] for row in rows}
    places = _places(model, layout)
    shapes = {k: 'x'.join(map(str, v)) or 'scalar' for k, v in places.items()}
    assert len(table) == 269
    assert shapes.keys() == table.keys()
    assert {k: v for k, v in shapes.items() if v != 'scalar'} == {
        k: v for k, v in table.items() if not k.endswith('num_batches_tracked')
    }
    assert layout.signature in table
    optional = {key for key in table if _any(layout.optional, key)}
    assert {k for k in optional if not k.endswith('num_batches_tracked')} == {'ood_head.weight'}
    assert _any(layout.extra, 'criterion.nll_loss.weight')
    assert not any(_any(layout.extra, key) for key in table)

    backbone = {key for key in table if key.startswith('mod')}
    places = _places(model, imagenet)
    assert {key for key in places if not _any(imagenet.optional, key)} == {
        key for key in backbone if not key.endswith('num_batches_tracked')
    }
    assert imagenet.signature not in table and layout.signature not in backbone
    for key in ('bn_out.0.running_mean', 'classifier.fc.weight'):
        assert _any(imagenet.extra, key)


BN = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')


def _resnet_keys(blocks: tuple[int, ...]) -> set[str]:
    """The stages of torchvision's bottleneck ResNets."""
    keys = set()
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            place = f'layer{stage}.{block}'
            keys |= {f'{place}.conv{i}.weight' for i in (1, 2, 3)}
            keys |= {f'{place}.bn{i}.{part}' for i in (1, 2, 3) for part in BN}
        keys |= {f'layer{stage}.0.downsample.0.weight'}
        keys |= {f'layer{stage}.0.downsample.1.{part}' for part in BN}
    return keys


def _hugging_face_keys(blocks: tuple[int, ...]) -> set[str]:
    """All but the classifier of `ResNetForImageClassification`."""
    layers = {'embedder.embedder'}
    for stage, count in enumerate(blocks):
        place = f'encoder.stages.{stage}.layers'
        layers |= {f'{place}.{block}.layer.{i}' for block in range(count) for i in range(3)}
        layers |= {f'{place}.0.shortcut'}
    tensors = {'convolution.weight'} | {f'normalization.{part}' for part in BN}
    return {f'resnet.{layer}.{tensor}' for layer in layers for tensor in tensors}


def _robustnet_keys(blocks: tuple[int, ...], stem: tuple[int, ...]) -> set[str]:
    """The published keys; each convolution of these has a batch norm after it."""
    convolutions = [('layer0', i) for i in stem]
    convolutions += [(f'aspp.features.{i}', 0) for i in range(4)]
    convolutions += [('aspp.img_conv', 0), ('bot_fine', 0), ('bot_aspp', 0)]
    convolutions += [('final1', 0), ('final1', 3)]
    keys = _resnet_keys(blocks) | {'final2.0.weight', 'final2.0.bias'}
    for module, index in convolutions:
        keys |= {f'{module}.{index}.weight'}
        keys |= {f'{module}.{index + 1}.{part}' for part in BN}
    return keys


UNCERTAINTY = {'ood_head.weight', 'ood_head.bias'}


def test_resnet50_layouts_have_the_published_keys() -> None:
    model = _on_meta('resnet50')
    robustnet, imagenet, hugging_face = model.layouts()
    places = _places(model, robustnet)
    assert places.keys() - UNCERTAINTY == _robustnet_keys((3, 4, 6, 3), (0,))
    assert all(_any(robustnet.optional, key) for key in UNCERTAINTY)
    assert places['layer0.0.weight'] == (64, 3, 7, 7)
    assert places['layer4.0.downsample.0.weight'] == (2048, 1024, 1, 1)
    assert places['final2.0.weight'] == (19, 256, 1, 1)
    assert _any(robustnet.extra, 'dsn.4.bias')
    assert not any(_any(robustnet.extra, key) for key in places)

    needed = {key for key in _places(model, imagenet) if not _any(imagenet.optional, key)}
    stem = {'conv1.weight'} | {f'bn1.{part}' for part in BN}
    keys = _resnet_keys((3, 4, 6, 3)) | stem
    assert needed == {key for key in keys if not key.endswith('num_batches_tracked')}
    assert _any(imagenet.extra, 'fc.bias')

    places = _places(model, hugging_face)
    needed = {key for key in places if not _any(hugging_face.optional, key)}
    keys = _hugging_face_keys((3, 4, 6, 3))
    assert needed == {key for key in keys if not key.endswith('num_batches_tracked')}
    assert places['resnet.encoder.stages.3.layers.0.shortcut.convolution.weight'] == (
        *(2048, 1024, 1, 1),
    )
    assert _any(hugging_face.extra, 'classifier.1.bias')


@pytest.mark.slow
def test_resnet101_takes_the_stem_of_the_file() -> None:
    model = _on_meta('resnet101').eval()
    before = model.state_dict().keys()
    robustnet, imagenet, hugging_face, ours = model.layouts()

    undo = robustnet.adapt()
    places = _places(model, robustnet)
    assert places.keys() - UNCERTAINTY == _robustnet_keys((3, 4, 23, 3), (0, 3, 6))
    assert robustnet.signature == 'layer0.3.weight'
    assert places['layer0.6.weight'] == (128, 64, 3, 3)
    assert places['layer1.0.conv1.weight'] == (64, 128, 1, 1)
    assert places['layer1.0.downsample.0.weight'] == (256, 128, 1, 1)
    assert not any(module.training for module in model.modules())
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert ours.signature in model.state_dict()
    assert ours.signature not in before

    # What is deep already stays, and what was put back is the old one.
    stem = model.backbone.stem
    ours.adapt()
    assert model.backbone.stem is stem
    again = imagenet.adapt()
    assert model.state_dict().keys() == before
    again()
    again = hugging_face.adapt()
    assert model.state_dict().keys() == before
    again()
    assert model.backbone.stem is stem
    undo()
    assert model.state_dict().keys() == before


@pytest.mark.slow
def test_deep_stem_keeps_the_memory_format_and_runs() -> None:
    backbone = ResNet(101).to(memory_format=torch.channels_last).eval()
    backbone.set_stem(True)
    with torch.no_grad():
        low, high = backbone(torch.randn(1, 3, 33, 50))
    assert low.shape == (1, 256, 9, 13)
    assert high.shape == (1, 2048, 3, 4)
    assert backbone.stem[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert low.is_contiguous(memory_format=torch.channels_last)


def test_compact_network_has_no_published_layout() -> None:
    assert _on_meta('compact').layouts() == ()
