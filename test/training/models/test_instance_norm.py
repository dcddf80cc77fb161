# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from multishift_training.models import create
from multishift_training.models.backbone import Backbone
from multishift_training.models.compact import CompactBackbone
from multishift_training.models.deeplab import DeepLabV3Plus
from multishift_training.models.efficientnet_lite import EfficientNetLite
from multishift_training.models.instance_norm import (
    HalfInstanceNorm,
    InstanceNorm,
    halve_norms,
    normalize_ends,
)
from multishift_training.models.resnet import ResNet


@pytest.mark.parametrize('affine', [False, True])
def test_is_instance_norm(affine: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 4, 6, dtype=torch.float64, requires_grad=True)
    ours = InstanceNorm(5, affine=affine, noted=True).double()
    theirs = nn.InstanceNorm2d(5, affine=affine).double()
    if affine:
        nn.init.normal_(ours.weight)
        nn.init.normal_(ours.bias)
        theirs.load_state_dict(ours.state_dict())
    found, wanted = ours(x), theirs(x)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    direction = torch.randn_like(x)
    gradients = [torch.autograd.grad((y * direction).sum(), x)[0] for y in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)
    assert ours.noted is not None and ours.noted.take() is found
    assert not ours(torch.randn(1, 5, 1, 1, dtype=torch.float64)).isnan().any()


def test_halves_are_instance_and_batch_norm() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5, eps=1e-3)
    for values in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(values)
    half, x = HalfInstanceNorm(norm).eval(), torch.randn(2, 5, 4, 6)
    found, batch = half(x), norm.eval()(x)
    torch.testing.assert_close(found[:, 2:], batch[:, 2:])
    instance = nn.functional.instance_norm(x[:, :2])
    scale, shift = (values[:2, None, None] for values in (norm.weight, norm.bias))
    torch.testing.assert_close(found[:, :2], instance * scale + shift)


def backbone_of(name: str) -> Backbone:
    with torch.device('meta'):
        model = create(f'deeplabv3plus_{name}')
    assert isinstance(model, DeepLabV3Plus)
    return model.backbone.eval()


# By network, halved norms; and channels behind the stem, and at the ends of strides 4 and 8.
PLACES: dict[str, tuple[int, list[int]]] = {
    'compact': (5, [40, 40, 80]),
    'efficientnet_lite0': (10, [32, 24, 40]),
    'efficientnet_lite1': (14, [32, 24, 40]),
    'resnet50': (13, [64, 256, 512]),
    'resnet101': (30, [64, 256, 512]),
}


@pytest.mark.parametrize('name', PLACES)
def test_norms_are_where_published(name: str) -> None:
    halved, ends = backbone_of(name), backbone_of(name)
    count, channels = PLACES[name]
    keys = set(ends.state_dict())
    with torch.device('meta'):
        halve_norms(halved)
        norms = normalize_ends(ends, affine=True)
        image = torch.zeros(1, 3, 64, 96)
        for backbone in (halved, ends):
            features = backbone(image)
            assert features.low.shape[1] == backbone.low_channels
            assert features.high.shape[1] == backbone.high_channels
    assert sum(isinstance(part, HalfInstanceNorm) for part in halved.modules()) == count
    assert [norm.num_features for norm in norms] == channels
    assert [norm for norm in ends.modules() if isinstance(norm, InstanceNorm)] == norms
    lost = keys - set(ends.state_dict())  # statistics of the stem's batch norm
    assert len(lost) == 3 and all('stem' in key for key in lost)


def test_ends_are_normalised_before_their_activation() -> None:
    """A norm that gives 0 everywhere leaves nothing of what comes before it."""
    for make, active in ((lambda: ResNet(50), True), (EfficientNetLite, False)):
        torch.manual_seed(0)
        backbone: Any = make().eval()
        _, end, _ = normalize_ends(backbone, affine=True)
        with torch.no_grad():
            low = backbone(torch.randn(1, 3, 64, 64)).low
            assert (low.min() >= 0) == active
            end.weight.zero_()
            end.bias.fill_(-1)
            low = backbone(torch.randn(1, 3, 64, 64)).low
        assert torch.equal(low, torch.full_like(low, 0.0 if active else -1.0))


@pytest.mark.parametrize('halved', [True, False])
def test_exported_graph_is_the_eager_one(halved: bool) -> None:
    torch.manual_seed(0)
    backbone = CompactBackbone().eval()
    if halved:
        halve_norms(backbone)
    else:
        normalize_ends(backbone, affine=True)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        program = torch.export.export(backbone, (image,), strict=False)
        found, wanted = program.module(check_guards=False)(image), backbone(image)
    targets = {str(node.target) for node in program.graph.nodes}
    assert not any('instance_norm' in target for target in targets)  # not every target has it
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two)
