# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
import re
from typing import Literal

from efficientnet_lite_pytorch import EfficientNet
import numpy as np
from numpy.typing import NDArray
import openvino as ov
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_training import checkpoints
from multishift_training.checkpoints.imagenet import find_imagenet_weights
from multishift_training.checkpoints.key_matching import untrained
from multishift_training.checkpoints.reading import read_weights
from multishift_training.export.quiet import quiet_copies
from multishift_training.models.backbone import Backbone
from multishift_training.models.deeplab import DeepLabV3Plus
from multishift_training.models.efficientnet_lite import EfficientNetLite, SamePadded
from multishift_training.models.input_scale import Normalize
from multishift_training.models.size import measure

SIZES = [(64, 96), (33, 50), (97, 63)]

Variant = Literal[0, 1, 2]


def pretrained(variant: Variant, output_stride: Literal[16, 32]) -> DeepLabV3Plus:
    model = DeepLabV3Plus(EfficientNetLite(variant, output_stride=output_stride), 19)
    checkpoints.load(model, find_imagenet_weights(model, f'efficientnet_lite{variant}'))
    return model.eval()


def image(size: tuple[int, int]) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope='module')
def lite0() -> Backbone:
    return pretrained(0, 16).backbone


@pytest.mark.parametrize('variant', [0, 1, 2])
def test_equals_the_reference(variant: Variant) -> None:
    model = pretrained(variant, 32)
    # Of no image size, it pads by the size of each image, as we do.
    reference = EfficientNet.from_name(f'efficientnet-lite{variant}', image_size=None).eval()
    weights = read_weights(find_imagenet_weights(model, 'it'))
    reference.load_state_dict(weights)
    for size in SIZES:
        with torch.no_grad():
            head = F.conv2d(model.backbone(image(size)).high, weights['_conv_head.weight'])
            parts = ('running_mean', 'running_var', 'weight', 'bias')
            mean, var, weight, bias = (weights[f'_bn1.{part}'] for part in parts)
            feature = F.relu6(F.batch_norm(head, mean, var, weight, bias, eps=1e-3))
            logits = F.linear(feature.mean((2, 3)), weights['_fc.weight'], weights['_fc.bias'])
            expected, classified = reference.extract_features(image(size)), reference(image(size))
        assert expected.abs().max() > 1
        torch.testing.assert_close(feature, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(logits, classified, atol=1e-5, rtol=1e-5)


def test_stride_16_holds_the_feature_of_stride_32(lite0: Backbone) -> None:
    """Dilation in place of the stride: the same numbers, and others between them."""
    coarse = pretrained(0, 32).backbone
    with torch.no_grad():
        for size, first in [((64, 96), 1), ((65, 97), 0)]:  # where the stride begins
            fine, expected = lite0(image(size)).high, coarse(image(size)).high
            held = fine[..., first::2, first::2]
            assert held.abs().max() > 1
            torch.testing.assert_close(held, expected, atol=1e-4, rtol=1e-4)


def test_trimmed_takes_the_first_stages_of_imagenet(lite0: Backbone) -> None:
    model = DeepLabV3Plus(EfficientNetLite(0, trimmed=True), 19)
    report = checkpoints.load(model, find_imagenet_weights(model, 'it'))
    assert untrained(model, report) == ['aspp', 'classifier', 'decoder', 'low']
    small = model.backbone.eval()
    ends = []
    lite0.blocks[10].register_forward_hook(lambda *given: ends.append(given[-1]))
    with torch.no_grad():
        low, high = small(image((64, 96)))
        expected = lite0(image((64, 96))).low
    assert torch.equal(low, expected) and torch.equal(high, ends[0])
    assert high.shape[1:] == (112, 4, 6)
    with torch.device('meta'):
        _, layout = model.layouts()
        last = (
            DeepLabV3Plus(EfficientNetLite(0), 19)
            .layouts()[1]
            .source('backbone.blocks.11.expand.0.weight')
        )
    assert any(re.fullmatch(extra, last.key) for extra in layout.extra)


def test_fast_network_has_at_most_25_gflops_at_full_size() -> None:
    assert measure('deeplabv3plus_efficientnet_lite0_fast', (1024, 2048))[1].flops <= 25e9


@pytest.mark.parametrize('kernel, stride', [(3, 2), (5, 2), (3, 1)])
@pytest.mark.parametrize('size', [(1, 2), (8, 9), (7, 10)])
def test_pads_what_tensorflow_pads(kernel: int, stride: int, size: tuple[int, int]) -> None:
    conv = SamePadded(1, 1, kernel, stride)
    torch.nn.init.ones_(conv.weight)
    x = torch.rand(1, 1, *size)
    out = conv(x)
    rows, columns = (-(-n // stride) for n in size)
    assert out.shape == (1, 1, rows, columns)
    for i in range(rows):
        for j in range(columns):
            window = [
                slice(max(at * stride - before, 0), at * stride - before + kernel)
                for at, n in zip((i, j), size, strict=True)
                for before in [max((-(-n // stride) - 1) * stride + kernel - n, 0) // 2]
            ]
            assert out[0, 0, i, j].item() == pytest.approx(x[0, 0][tuple(window)].sum().item())


def test_learns_as_the_reference(lite0: Backbone) -> None:
    norms = [m for m in lite0.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_takes_bytes_on_its_own_scale() -> None:
    frames = torch.tensor([0, 127, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    values = Normalize(EfficientNetLite.input_scale)(frames).flatten()
    torch.testing.assert_close(values, torch.tensor([-127 / 128, 0, 1]), atol=1e-6, rtol=0)


@pytest.mark.slow
def test_openvino_pads_alike(lite0: Backbone) -> None:
    frame = image((33, 64))  # on one side odd at every stride, even on the other
    with quiet_copies():
        converted = ov.convert_model(torch.export.export(lite0, (frame,), strict=False))
    # Some CPUs would compute in half precision.
    compiled = ov.compile_model(converted, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    found: list[NDArray[np.float32]] = list(compiled([frame.numpy()]).values())
    with torch.no_grad():
        for feature, expected in zip(found, lite0(frame), strict=True):
            np.testing.assert_allclose(feature, expected.numpy(), atol=1e-3, rtol=1e-3)


def timm_keys(blocks: tuple[int, ...]) -> set[str]:
    """The backbone in timm's names, of blocks that expand after a stage that does not."""
    convolutions = {'conv_stem': 'bn1'}
    for stage, count in enumerate(blocks):
        layers = ('conv_pw', 'conv_dw', 'conv_pwl') if stage else ('conv_dw', 'conv_pw')
        for block in range(count):
            for number, layer in enumerate(layers, 1):
                place = f'blocks.{stage}.{block}'
                convolutions[f'{place}.{layer}'] = f'{place}.bn{number}'
    parts = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
    return {f'{conv}.weight' for conv in convolutions} | {
        f'{norm}.{part}' for norm in convolutions.values() for part in parts
    }


@pytest.mark.parametrize(
    'variant, blocks',
    [(0, (1, 2, 2, 3, 3, 4, 1)), (1, (1, 3, 3, 4, 4, 5, 1)), (2, (1, 3, 3, 4, 4, 5, 1))],
)
def test_timms_names(variant: Variant, blocks: tuple[int, ...]) -> None:
    with torch.device('meta'):
        model = DeepLabV3Plus(EfficientNetLite(variant), 19)
    _, layout = model.layouts()
    shapes = {layout.source(k).key: t.shape for k, t in model.state_dict().items()}
    assert len(shapes) == len(model.state_dict())
    needed = {key for key in shapes if not key.startswith('deeplab.')}
    assert needed == timm_keys(blocks)
    assert shapes['blocks.0.0.conv_dw.weight'] == (32, 1, 3, 3)
    assert shapes['blocks.2.0.conv_pw.weight'] == (144, 24, 1, 1)
    assert shapes['blocks.2.0.conv_dw.weight'] == (144, 1, 5, 5)


def test_loads_timms_classifier(tmp_path: Path) -> None:
    trained = pretrained(0, 16)
    _, layout = trained.layouts()
    file = {layout.source(key).key: tensor for key, tensor in trained.state_dict().items()}
    file = {key: tensor for key, tensor in file.items() if not key.startswith('deeplab.')}
    file |= {'classifier.weight': torch.zeros(10, 1280), 'conv_head.weight': torch.zeros(3)}
    torch.save(file, tmp_path / 'lite0.pth')
    model = DeepLabV3Plus(EfficientNetLite(0), 19)
    report = checkpoints.load(model, tmp_path / 'lite0.pth')
    assert report.left_over == ('classifier.weight', 'conv_head.weight')
    state = trained.state_dict()
    for key, tensor in model.state_dict().items():
        if key.startswith('backbone.'):
            assert torch.equal(tensor, state[key]), key
    assert untrained(model, report) == ['aspp', 'classifier', 'decoder', 'low']
