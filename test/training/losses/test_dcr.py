# SPDX-License-Identifier: Apache-2.0
"""DCR's losses against loops over pixels in float64."""

from __future__ import annotations

from collections.abc import Callable
import math

import pytest
import torch
from torch import Tensor

from multishift_perception.classes import NOVEL, VOID
from multishift_training.losses.dcr import (
    cognitive_cross_entropy,
    cognitive_discrepancy,
    novelty_cross_entropy,
    novelty_dice,
    reconstruction_loss,
)

LABELS = torch.tensor([[[0, 2, NOVEL], [VOID, 1, NOVEL]], [[1, VOID, VOID], [2, 0, 1]]])


def pixels() -> list[list[int]]:
    places: list[list[int]] = torch.cartesian_prod(
        *(torch.arange(n) for n in LABELS.shape)
    ).tolist()
    return places


def same(found: Tensor, wanted: Tensor, leaf: Tensor) -> None:
    assert found.item() == pytest.approx(wanted.item(), rel=1e-10)
    gradients = [torch.autograd.grad(x, leaf, retain_graph=True)[0] for x in (found, wanted)]
    assert torch.allclose(gradients[0], gradients[1], rtol=0, atol=1e-10)
    assert gradients[0].abs().sum() > 0


def randn(*shape: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64)


def test_novelty_cross_entropy() -> None:
    logit, weights = randn(2, 2, 3).requires_grad_(), randn(2, 2, 3, seed=1).abs()
    wanted = torch.zeros((), dtype=torch.float64)
    for b, y, x in pixels():
        found = 1 / (1 + (-logit[b, y, x]).exp())
        if LABELS[b, y, x] == NOVEL:
            wanted = wanted - weights[b, y, x] * found.log()
        elif LABELS[b, y, x] != VOID:
            wanted = wanted - (1 - found).log()
    same(novelty_cross_entropy(logit, LABELS, weights).sum(), wanted, logit)


def test_novelty_dice() -> None:
    logit = randn(2, 2, 3).requires_grad_()
    losses = []
    for b in range(2):
        shared = squares = count = torch.zeros((), dtype=torch.float64)
        for y, x in ((y, x) for i, y, x in pixels() if i == b and LABELS[i, y, x] != VOID):
            found = 1 / (1 + (-logit[b, y, x]).exp())
            novel = float(LABELS[b, y, x] == NOVEL)
            shared, squares, count = shared + found * novel, squares + found**2, count + novel
        losses.append(1 - (2 * shared + 1) / (squares + count + 1))
    same(novelty_dice(logit, LABELS).sum(), torch.stack(losses).sum(), logit)
    assert (novelty_dice(logit, torch.full_like(LABELS, VOID)) == 0).all()


def test_cognitive_cross_entropy() -> None:
    logits = randn(2, 3, 2, 3).requires_grad_()
    wanted = torch.zeros((), dtype=torch.float64)
    for b, y, x in pixels():
        log_probability = logits[b, :, y, x] - logits[b, :, y, x].exp().sum().log()
        label = int(LABELS[b, y, x])
        if label < NOVEL:
            wanted = wanted - log_probability[label]
        elif label == NOVEL:
            wanted = wanted - log_probability.sum() / 3
    same(cognitive_cross_entropy(logits, LABELS).sum(), wanted, logits)


def test_cognitive_discrepancy() -> None:
    frozen, learned = randn(2, 3, 2, 3).log_softmax(1), randn(2, 3, 2, 3, seed=1)
    learned.requires_grad_()
    found = cognitive_discrepancy(frozen, learned, LABELS)
    assert not found.requires_grad
    for b in range(2):
        apart = {}
        for y, x in ((y, x) for i, y, x in pixels() if i == b and LABELS[i, y, x] != VOID):
            one, two = frozen[b, :, y, x].exp(), learned[b, :, y, x].detach().exp()
            two = two / two.sum()
            apart[y, x] = sum(float(p) * math.log(p / q) for p, q in zip(one, two, strict=True))
        low, high = min(apart.values()), max(apart.values())
        for (y, x), value in apart.items():
            assert found[b, y, x].item() == pytest.approx((value - low) / (high - low), abs=1e-9)


@pytest.mark.parametrize('label', [VOID, NOVEL])
def test_discrepancy_of_equals_is_one(label: int) -> None:
    logits = torch.zeros(1, 3, 2, 2)
    labels = torch.full((1, 2, 2), label)
    assert (cognitive_discrepancy(logits.log_softmax(1), logits, labels) == 1).all()


def similarity_by_hand(first: Tensor, second: Tensor) -> Tensor:
    """Of one channel ``[h,w]``, with the window of 11 or what fits."""
    sides = [min(11, side) for side in first.shape]
    weights = [
        torch.tensor(
            [math.exp(-((i - (n - 1) / 2) ** 2) / 4.5) for i in range(n)], dtype=torch.float64
        )
        for n in sides
    ]
    window = torch.outer(weights[0] / weights[0].sum(), weights[1] / weights[1].sum())
    values = []
    for y in range(first.shape[0] - sides[0] + 1):
        for x in range(first.shape[1] - sides[1] + 1):
            one, two = (p[y : y + sides[0], x : x + sides[1]] for p in (first, second))
            m1, m2 = (window * one).sum(), (window * two).sum()
            v1, v2 = (window * (one - m1) ** 2).sum(), (window * (two - m2) ** 2).sum()
            v12 = (window * (one - m1) * (two - m2)).sum()
            c1, c2 = 0.02**2, 0.06**2
            values.append(
                (2 * m1 * m2 + c1) * (2 * v12 + c2) / ((m1**2 + m2**2 + c1) * (v1 + v2 + c2))
            )
    return torch.stack(values).mean()


@pytest.mark.parametrize('size', [(12, 13), (5, 12), (1, 3)])
def test_reconstruction(size: tuple[int, int]) -> None:
    found = randn(2, 3, *size).tanh().requires_grad_()
    target = randn(2, 3, *size, seed=1).tanh()
    losses = []
    for one, two in zip(found, target, strict=True):
        similar = [similarity_by_hand(a, b) for a, b in zip(one, two, strict=True)]
        losses.append((one - two).abs().sum() / one.numel() + 1 - torch.stack(similar).mean())
    same(reconstruction_loss(found, target).sum(), torch.stack(losses).sum(), found)


@pytest.mark.parametrize(
    'loss',
    [
        lambda logit, labels: novelty_cross_entropy(logit, labels, torch.ones_like(logit)),
        novelty_dice,
        lambda logit, labels: cognitive_cross_entropy(
            logit[:, None].expand(-1, 3, -1, -1), labels
        ),
    ],
)
def test_far_logits_stay_finite(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    logit = torch.tensor([[[1e4, -1e4], [1e4, -1e4]]]).requires_grad_()
    found = loss(logit, torch.tensor([[[0, NOVEL], [NOVEL, VOID]]])).sum()
    assert found.isfinite()
    assert torch.autograd.grad(found, logit)[0].isfinite().all()
