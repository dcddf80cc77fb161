# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
import copy

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from multishift_training import models
from multishift_training.export.fusion import optimize

_NORM = torch.ops.aten.batch_norm.default
_CONV = torch.ops.aten.conv2d.default
FRAMES = torch.randint(
    0, 256, (2, 33, 50, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
)


class Graph(nn.Module):
    """Any function of an image over some parts, fed with bytes."""

    def __init__(self, forward: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.function = forward

    def forward(self, frames: Tensor) -> Tensor:
        frames = frames.to(next(self.parameters()).dtype)
        return self.function(frames.permute(0, 3, 1, 2) / 255, **self.parts)


def settled(model: nn.Module) -> nn.Module:
    """Give batch norms statistics and weights that they would have after training."""
    generator = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 2, generator=generator)
                nn.init.normal_(norm.bias, generator=generator)
    return model.eval()


def outputs(image: Tensor, model: models.SegmentationModel) -> Tensor:
    logits, score, *_ = model(image)
    return torch.cat([logits, score[:, None]], 1)


def exported(model: nn.Module) -> ExportedProgram:
    return torch.export.export(model, (FRAMES,), strict=False)


def count(program: ExportedProgram, target: object) -> int:
    return sum(node.target is target for node in program.graph.nodes)


def check(model: nn.Module, *, norms: int) -> tuple[ExportedProgram, ExportedProgram]:
    """Optimise ``model``, in float64: it computes the same, with so many batch norms left."""
    model = model.double()
    program = exported(model)
    fused = optimize(program, FRAMES)
    assert count(fused, _NORM) == norms
    assert count(fused, _CONV) == count(program, _CONV)
    with torch.inference_mode():
        assert torch.allclose(fused.module()(FRAMES), model(FRAMES), rtol=1e-9, atol=1e-9)
    return program, fused


@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('affine', [False, True])
@pytest.mark.parametrize('groups', [1, 3])
def test_norm_after_a_convolution_is_folded(bias: bool, affine: bool, groups: int) -> None:
    conv = nn.Conv2d(3, 6, 3, 2, 2, dilation=2, groups=groups, bias=bias)
    block = nn.Sequential(conv, nn.BatchNorm2d(6, affine=affine), nn.ReLU(inplace=True))
    _, fused = check(settled(Graph(lambda x, block: block(x), block=block)), norms=0)
    assert {tuple(t.shape) for t in fused.state_dict.values()} == {tuple(conv.weight.shape), (6,)}


@pytest.mark.slow
def test_compact_network_has_no_norm_left() -> None:
    torch.manual_seed(0)
    model = settled(models.create('deeplabv3plus_compact'))
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    program, _ = check(Graph(outputs, model=model), norms=0)
    assert count(program, _NORM) == norms > 20


def test_pre_activation_keeps_the_norm_that_follows_no_convolution() -> None:
    """As in a WideResNet: norm, ReLU, convolution, norm, ReLU, convolution, shortcut."""

    def block(x: Tensor, first: nn.Module, second: nn.Module, **convs: nn.Module) -> Tensor:
        x = convs['stem'](x)
        branch = convs['conv1'](first(x).relu())
        return x + convs['conv2'](second(branch).relu())

    parts = {name: nn.BatchNorm2d(6) for name in ('first', 'second')}
    convs = {name: nn.Conv2d(6, 6, 3, padding=1, bias=False) for name in ('conv1', 'conv2')}
    check(settled(Graph(block, **parts, **convs, stem=nn.Conv2d(3, 6, 1))), norms=1)


def test_norm_is_kept_where_something_else_reads_the_convolution() -> None:
    def block(x: Tensor, conv: nn.Module, norm: nn.Module) -> Tensor:
        x = conv(x)
        return x + norm(x)

    check(settled(Graph(block, conv=nn.Conv2d(3, 6, 3), norm=nn.BatchNorm2d(6))), norms=1)


def test_weights_shared_by_two_convolutions() -> None:
    def block(x: Tensor, conv: nn.Module, one: nn.Module, other: nn.Module) -> Tensor:
        return one(conv(x)) + other(conv(2 * x)) + conv(x).sigmoid()

    norms = {name: nn.BatchNorm2d(6) for name in ('one', 'other')}
    check(settled(Graph(block, conv=nn.Conv2d(3, 6, 3), **norms)), norms=0)


def test_norm_in_training_mode_is_kept() -> None:
    block = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
    model = settled(Graph(lambda x, block: block(x), block=block))
    block[1].train()
    program = optimize(exported(model), FRAMES)
    assert count(program, _NORM) == 1


def test_the_network_itself_stays_as_it_is() -> None:
    block = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
    model = settled(Graph(lambda x, block: block(x), block=block))
    before = copy.deepcopy(model.state_dict())
    program = exported(model)
    optimize(program, FRAMES)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert model.parts['block'][0].weight.is_contiguous()
    assert torch.equal(program.module()(FRAMES), model(FRAMES))


@pytest.mark.slow
def test_compact_network_is_channels_last_throughout() -> None:
    """Bytes come in rows of pixels: no layer needs another order."""
    model = settled(models.create('deeplabv3plus_compact'))
    fused = optimize(exported(Graph(outputs, model=model)), FRAMES)
    layouts: dict[str, bool] = {}

    class Watch(torch.fx.Interpreter):
        def run_node(self, node: torch.fx.Node) -> object:
            result = super().run_node(node)
            if node.target is _CONV or 'upsample' in str(node.target):
                layouts[node.name] = result.is_contiguous(memory_format=torch.channels_last)
            return result

    Watch(fused.module()).run(FRAMES)
    assert len(layouts) > 30
    assert [name for name, channels_last in layouts.items() if not channels_last] == []
