# SPDX-License-Identifier: Apache-2.0
"""The losses of residual pattern learning against loops over pixels in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from multishift_perception.classes import NOVEL, VOID
from multishift_training.losses.rpl import context_contrast, info_nce, residual_terms

LABELS = torch.tensor([[[0, 2, NOVEL], [VOID, 1, NOVEL]], [[1, VOID, NOVEL], [2, 0, 1]]])


def entropy(logits: Tensor) -> Tensor:
    probabilities = logits.exp() / logits.exp().sum()
    return -sum((p * p.log() for p in probabilities), start=torch.zeros((), dtype=logits.dtype))


def by_hand(logits: Tensor, untouched: Tensor, labels: Tensor) -> list[Tensor]:
    sums = [torch.zeros((), dtype=torch.float64) for _ in range(3)]
    for b, y, x in torch.cartesian_prod(*(torch.arange(n) for n in labels.shape)).tolist():
        each, before = logits[b, :, y, x], untouched[b, :, y, x].detach()
        evidence = each.exp().sum().log()
        if labels[b, y, x] < NOVEL:
            sums[0] = sums[0] + evidence - each[int(before.argmax())]
            sums[1] = sums[1] + (entropy(each) - entropy(before)) ** 2
        elif labels[b, y, x] == NOVEL:
            sums[2] = sums[2] + max(evidence, torch.zeros_like(evidence))
    return sums


@pytest.mark.parametrize('term', range(3))
def test_terms_and_gradients_are_those_of_loops(term: int) -> None:
    g = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 3, 2, 3, generator=g, dtype=torch.float64) - 1.5
    logits.requires_grad_()
    untouched = torch.randn(2, 3, 2, 3, generator=g, dtype=torch.float64).requires_grad_()
    evidence = logits.logsumexp(1)[LABELS == NOVEL]
    assert (evidence > 0).any() and (evidence < 0).any()
    found = residual_terms(logits, untouched, LABELS)[term].sum()
    wanted = by_hand(logits, untouched, LABELS)[term]
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (found, wanted)]
    assert torch.allclose(gradients[0], gradients[1], rtol=0, atol=1e-12)
    assert gradients[0].abs().sum() > 0


def test_no_gradient_reaches_the_untouched_path() -> None:
    untouched = torch.randn(2, 3, 2, 3).requires_grad_()
    terms = residual_terms(torch.randn(2, 3, 2, 3), untouched, LABELS)
    assert not any(term.requires_grad for term in terms)


def test_sure_pixels_stay_finite() -> None:
    logits = (1000 * torch.eye(3)[torch.zeros(1, 2, 2, dtype=torch.long)]).movedim(-1, 1)
    leaf = logits.clone().requires_grad_()
    terms = residual_terms(leaf, -logits, torch.tensor([[[0, NOVEL], [1, VOID]]]))
    total = torch.stack([term.sum() for term in terms]).sum()
    assert total.isfinite()
    assert torch.autograd.grad(total, leaf)[0].isfinite().all()


def contrast_by_hand(points: Tensor, groups: Tensor, anchors: int, temperature: float) -> Tensor:
    means = []
    for i in range(anchors):
        similar = [(points[i] * other).sum() / temperature for other in points]
        apart = sum(s.exp() for j, s in enumerate(similar) if groups[j] != groups[i])
        losses = [
            -(s.exp() / (s.exp() + apart)).log()
            for j, s in enumerate(similar)
            if groups[j] == groups[i] and j != i
        ]
        means.append(torch.stack(losses).mean())
    return torch.stack(means).mean()


def test_contrast_and_its_gradient_are_those_of_loops() -> None:
    g = torch.Generator().manual_seed(0)
    raw = torch.randn(12, 4, generator=g, dtype=torch.float64).requires_grad_()
    points = torch.nn.functional.normalize(raw, dim=1)
    groups = torch.tensor([1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0])
    found = info_nce(points, groups, 6, 0.1)
    wanted = contrast_by_hand(points, groups, 6, 0.1)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    gradients = [torch.autograd.grad(x, raw, retain_graph=True)[0] for x in (found, wanted)]
    assert torch.allclose(gradients[0], gradients[1], rtol=0, atol=1e-11)


def test_contexts_are_drawn_evenly() -> None:
    """With as many pixels as there are of each, it is the loss over all, in whatever order."""
    g = torch.Generator().manual_seed(1)
    own, other = (torch.randn(1, 4, 2, 2, generator=g, dtype=torch.float64) for _ in range(2))
    labels = torch.tensor([[[NOVEL, 3], [NOVEL, 1]]])
    found = context_contrast(own, labels, other, labels, temperature=0.5, samples=9)
    flat = torch.cat(
        [x.flatten(2)[0].T[order] for x in (own, other) for order in ([0, 2], [1, 3])]
    )
    flat = flat / flat.norm(dim=1, keepdim=True)
    groups = torch.tensor([1, 1, 0, 0, 1, 1, 0, 0])
    assert found.item() == pytest.approx(contrast_by_hand(flat, groups, 4, 0.5).item(), rel=1e-12)
    fewer = context_contrast(own, labels, other, labels, temperature=0.5, samples=1)
    assert fewer.isfinite() and fewer.item() != pytest.approx(found.item())


@pytest.mark.parametrize('label', [0, NOVEL, VOID])
def test_without_both_kinds_in_both_contexts_it_is_zero(label: int) -> None:
    own, other = (torch.randn(n, 4, 2, 2).requires_grad_() for n in (2, 0))
    labels = torch.full((2, 2, 2), label)
    found = context_contrast(own, labels, other, labels[:0], temperature=0.1, samples=4)
    assert found.item() == 0 and math.isfinite(found.item())
    found.backward()
