# SPDX-License-Identifier: Apache-2.0
"""Content extension and consistency, beside sums pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import NOVEL, VOID
from multishift_training.losses import wildnet
from multishift_training.losses.wildnet import consistency, content_extension

B, N, D, Q, T = 2, 6, 4, 5, 0.07


def drawn() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, generator=g, dtype=torch.float64), dim=-1)

    labels = torch.tensor([[0, 1, 1, VOID, 2, 0], [3, 3, NOVEL, 0, VOID, 1]])
    return unit(B, N, D).requires_grad_(), unit(B, N, D).requires_grad_(), labels, unit(Q, D)


def one_by_one(own: Tensor, other: Tensor, labels: Tensor, wild: Tensor) -> list[list[Tensor]]:
    terms = []
    for b in range(B):
        source, beyond, count = [], [], 0
        for i in range(N):
            if labels[b, i] >= NOVEL:
                continue
            count += 1
            logits, others = [], []
            for j in range(N):
                value = (own[b, i] @ other[b, j]) / T
                if j != i and (labels[b, j] == labels[b, i] or labels[b, j] >= NOVEL):
                    logits.append(torch.tensor(-1 / T, dtype=torch.float64))
                else:
                    logits.append(value)
                if labels[b, j] != labels[b, i] and labels[b, j] < NOVEL:
                    others.append(value)
            source.append(torch.stack(logits).logsumexp(0) - logits[i])
            near = max(range(Q), key=lambda q: float((other[b, i] @ wild[q]).detach()))
            positive = (own[b, i] @ wild[near]) / T
            beyond.append(torch.stack([positive, *others]).logsumexp(0) - positive)
        terms.append([torch.stack(part).sum() / (count + 1e-5) for part in (source, beyond)])
    return terms


@pytest.mark.parametrize('at_once', [2, 4096])
def test_contents_are_extended_as_published(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wildnet, '_AT_ONCE', at_once)
    own, other, labels, wild = drawn()
    found = content_extension(own, other, labels, wild)
    expected = one_by_one(own, other, labels, wild)
    for b in range(B):
        assert found.source[b].item() == pytest.approx(expected[b][0].item(), rel=1e-6)
        assert found.wild[b].item() == pytest.approx(expected[b][1].item(), rel=1e-6)
    ours = torch.autograd.grad((found.source + 2 * found.wild).sum(), [own, other])
    total = torch.stack([one + 2 * two for one, two in expected]).sum()
    for one, two in zip(ours, torch.autograd.grad(total, [own, other]), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)
    void = content_extension(own, other, torch.full_like(labels, VOID), wild)
    [gradient] = torch.autograd.grad(void.source.sum() + void.wild.sum(), own)
    assert not void.source.any() and gradient.isfinite().all()


def test_the_nearest_may_be_sought_in_16_bits() -> None:
    """Of two contents that are one in 16 bits the first is taken; the rest is as exact as ever."""
    own, other, labels, wild = drawn()
    alike = torch.stack([other[0, 0] * 0.999, other[0, 0], wild[0]]).detach()
    labels[1] = VOID
    exact, taken = (
        content_extension(own, other, labels, only) for only in (alike[1:], alike[::2])
    )
    found = content_extension(own, other, labels, alike)
    coarse = content_extension(own, other, labels, alike, compare_in=torch.bfloat16)
    assert torch.equal(found.wild, exact.wild) and torch.equal(coarse.wild, taken.wild)
    assert coarse.wild.dtype == torch.float64 and not torch.equal(exact.wild, taken.wild)


def test_consistency_is_a_mean_over_pixels_and_classes() -> None:
    g = torch.Generator().manual_seed(1)
    one, two = torch.randn(2, 2, 3, 2, 2, generator=g, dtype=torch.float64)
    found = consistency(one, two)
    for b in range(2):
        total = 0.0
        for y in range(2):
            for x in range(2):
                p, q = one[b, :, y, x].softmax(0), two[b, :, y, x].softmax(0)
                total += sum(float(u) * math.log(u / v) for u, v in zip(p, q, strict=True))
        assert found[b].item() == pytest.approx(total / 12, rel=1e-6)
    assert torch.autograd.gradcheck(
        consistency, (one.requires_grad_(), two.requires_grad_()), raise_exception=True
    )
    coarse = two.detach().bfloat16()
    assert torch.equal(consistency(one.float(), coarse), consistency(one.float(), coarse.float()))
