# SPDX-License-Identifier: Apache-2.0
"""Semantic-aware normalisation and whitening, beside loops over classes, groups and pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import NOVEL, VOID
from multishift_training.datasets import Batch
from multishift_training.losses.san_saw import class_whitening
from multishift_training.methods import Context
from multishift_training.methods.san_saw import SanSaw
from multishift_training.models import SegmentationModel, create
from multishift_training.models.san_saw import SemanticNorm, above_lowest, semantic_norms

S, C, K = (0, 2, 3), 7, 5


def test_whitening_is_of_the_channels_that_tell_classes_apart() -> None:
    g = torch.Generator().manual_seed(0)
    x = 4 * torch.randn(2, C, 3, 4, generator=g, dtype=torch.float64)
    weights = torch.randn(K, C, generator=g, dtype=torch.float64)
    x.requires_grad_()
    found = class_whitening(x, weights, S)
    expected = []
    for image in x:
        total = torch.zeros((), dtype=torch.float64)
        for k in range(C // 3):
            group = []
            for label in S:
                channel = sorted(range(C), key=lambda c: -abs(float(weights[label, c])))[k]
                strength = weights[label, channel].abs().sigmoid()
                group.append(strength * image[channel].flatten())
            apart = sum(
                ((group[i] @ group[j]) / 11).abs() for i in range(3) for j in range(i + 1, 3)
            )
            total = total + ((apart - 1) / 3).clamp(min=0)  # of three pairs one is free
        expected.append(total)
    by_hand = torch.stack(expected)
    assert (by_hand > 0).all()
    torch.testing.assert_close(found, by_hand, rtol=1e-6, atol=1e-9)
    own, other = (torch.autograd.grad(v.sum(), x)[0] for v in (found, by_hand))
    torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-9)


def test_regions_are_what_is_above_the_lowest_cluster() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(1, 1, (2, 1, 5, 6))
    for image, found in zip(values, above_lowest(torch.from_numpy(values)), strict=True):
        flat = image.ravel()
        centres = np.linspace(flat.min(), flat.max(), 5)
        for step in range(6):
            nearest = np.abs(flat[:, None] - centres).argmin(1)
            if step < 5:
                means = [flat[nearest == k].mean() if (nearest == k).any() else c
                         for k, c in enumerate(centres)]  # fmt: skip
                centres = np.array(means)
        assert np.array_equal(found.flatten().numpy(), nearest > 0)
        assert 0 < found.sum() < found.numel()
    flat_one = torch.full((1, 1, 3, 3), 0.5)
    assert above_lowest(flat_one).shape == (1, 1, 3, 3)


def normalised(x: Tensor, norm: SemanticNorm) -> Tensor:
    """Instance norm of each channel, one by one."""
    out = torch.zeros_like(x)
    for b in range(len(x)):
        for c in range(x.shape[1]):
            plain = x[b, c]
            spread = (((plain - plain.mean()) ** 2).mean() + 1e-5).sqrt()
            out[b, c] = (plain - plain.mean()) / spread * norm.norm.weight[c] + norm.norm.bias[c]
    return out


def test_each_region_is_normalised_by_itself() -> None:
    torch.manual_seed(0)
    norm = SemanticNorm(C, K, S).double()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, C, 4, 5, dtype=torch.float64)
    found = norm(x)
    assert norm.noted.take() is x
    shares = norm.said.take().softmax(1)
    total = torch.zeros_like(x)
    for place, label in enumerate(S):
        part = x * shares[:, label : label + 1]
        shown = torch.stack([part.mean(1), part.max(1).values, shares[:, label]], 1)
        kernel = norm.refine.weight[place : place + 1]
        part = part * F.conv2d(shown, kernel, padding=3).sigmoid()
        region = above_lowest(part.detach().mean(1, keepdim=True))
        total = total + normalised(part * region, norm)
    torch.testing.assert_close(found, total.clamp(min=0), rtol=1e-6, atol=1e-9)
    labels = torch.randint(0, 4, (2, 4, 5))
    by_labels = sum(normalised(x * (labels == c)[:, None], norm) for c in S)
    torch.testing.assert_close(norm.by_labels(x, labels), torch.as_tensor(by_labels).clamp(min=0))


def made() -> tuple[SanSaw, SegmentationModel, Batch]:
    torch.manual_seed(0)
    method = SanSaw(kind='san_saw')
    model = method.adapt(create('deeplabv3plus_compact')).double().eval()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    labels = torch.randint(0, 9, (2, 8, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    return method, model, Batch(images, labels, 1, {}, torch.zeros(2, dtype=torch.int64))


def test_losses_reach_what_finds_regions_and_what_normalises() -> None:
    method, model, batch = made()
    context = Context(model, None, None, None, lambda values: values)
    parts = method.losses(model(batch.images), batch, context)
    assert list(parts) == ['cross_entropy', 'regions', 'normalisation', 'whitening']
    for norm in semantic_norms(model):  # type: ignore[arg-type]
        assert norm.classes == (0, 10, 2, 1, 8)
        [weight] = torch.autograd.grad(parts['regions'], norm.classifier.weight, retain_graph=True)
        assert weight.any()
        bias = norm.norm.bias
        [gradient] = torch.autograd.grad(parts['normalisation'], bias, retain_graph=True)
        assert gradient.any()


@pytest.mark.parametrize('label', [0, NOVEL, VOID])
def test_one_image_of_one_label_is_finite(label: int) -> None:
    method, model, batch = made()
    one = batch.moved(lambda values: values[:1])
    one = one._replace(labels=torch.full_like(one.labels, label))
    context = Context(model, None, None, None, lambda values: values)
    total = torch.stack(list(method.losses(model(one.images), one, context).values())).sum()
    gradients = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    assert total.isfinite()
    assert all(g.isfinite().all() for g in gradients if g is not None)
