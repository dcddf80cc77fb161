# SPDX-License-Identifier: Apache-2.0
"""The losses and moving averages of SPC against loops over pixels in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import NOVEL, VOID
from multishift_training.losses.spc import (
    ClusterSums,
    ClusterTerms,
    cluster_sums,
    cluster_terms,
    means_of_domains,
    moved,
)

CLASSES, DOMAINS, WIDTH = 3, 2, 5
# Class 2 is in no image of the second domain; 19 is a group.
LABELS = torch.tensor([[[0, 2], [VOID, 1]], [[1, 1], [NOVEL, 2]], [[1, 0], [19, 0]]])
DOMAIN = torch.tensor([0, 0, 1])


def random(seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    raw = torch.randn(3, WIDTH, 2, 2, generator=g, dtype=torch.float64)
    bases = torch.randn(DOMAINS, CLASSES, WIDTH, generator=g, dtype=torch.float64)
    return raw.requires_grad_(), F.normalize(bases, dim=-1)


def terms_of(raw: Tensor, bases: Tensor, labels: Tensor, domain: Tensor) -> ClusterTerms:
    sums = cluster_sums(F.normalize(raw, dim=1), labels, bases, domain)
    return cluster_terms(sums, bases, domain, temperature=0.1)


def by_hand(
    raw: Tensor, bases: Tensor, labels: Tensor, domain: Tensor
) -> tuple[Tensor, Tensor, dict[tuple[int, int], Tensor]]:
    variance, discrimination, means = raw.sum() * 0, raw.sum() * 0, {}
    for m in range(DOMAINS):
        for c in range(CLASSES):
            pixels = [
                raw[b, :, y, x] / raw[b, :, y, x].norm()
                for b, y, x in (labels == c).nonzero().tolist()
                if domain[b] == m
            ]
            if not pixels:
                continue
            own = bases[m, c]
            variance = variance + sum((1 - p @ own) ** 2 for p in pixels) / len(pixels)
            mean = torch.stack(pixels).mean(0)
            mean = mean / mean.norm()
            means[m, c] = mean
            positive = sum(mean @ bases[n, c] for n in range(DOMAINS)) / DOMAINS / 0.1
            others = [
                (mean @ bases[n, k] / 0.1).exp()
                for n in range(DOMAINS)
                for k in range(CLASSES)
                if k != c
            ]
            discrimination = discrimination - (
                positive - (positive.exp() + torch.stack(others).sum()).log()
            )
    count = DOMAINS * CLASSES
    return variance / count, discrimination / count, means


@pytest.mark.parametrize(
    ('labels', 'domain'),
    [(LABELS, DOMAIN), (LABELS, torch.zeros(3, dtype=torch.int64)), (LABELS * 0 + VOID, DOMAIN)],
    ids=['a domain lacks a class', 'a batch lacks a domain', 'no known pixel'],
)
def test_losses_and_gradients_are_those_of_loops(labels: Tensor, domain: Tensor) -> None:
    raw, bases = random()
    found = terms_of(raw, bases, labels, domain)
    *wanted, means = by_hand(raw, bases, labels, domain)
    for one, two in zip((found.variance, found.discrimination), wanted, strict=True):
        assert one.item() == pytest.approx(two.item(), rel=1e-9, abs=1e-12)
        gradients = [torch.autograd.grad(x, raw, retain_graph=True)[0] for x in (one, two)]
        torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)
    assert {tuple(place) for place in found.present.nonzero().tolist()} == set(means)
    for place, mean in means.items():
        torch.testing.assert_close(found.means[place], mean, rtol=1e-6, atol=1e-9)


def test_sums_of_images_are_all_that_losses_need() -> None:
    raw, bases = random()
    whole = terms_of(raw, bases, LABELS, DOMAIN)
    shares = [
        cluster_sums(F.normalize(raw[b], dim=1), LABELS[b], bases, DOMAIN[b])
        for b in (torch.tensor([0]), torch.tensor([1, 2]))
    ]
    sums = ClusterSums(*(torch.cat(parts) for parts in zip(*shares, strict=True)))
    joined = cluster_terms(sums, bases, DOMAIN, temperature=0.1)
    for one, two in zip(whole, joined, strict=True):
        torch.testing.assert_close(one, two)


def test_moves_what_is_there_and_nothing_else() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [8.0, 8.0]], dtype=torch.float64)
    means, seen = means_of_domains(values, torch.tensor([2, 2, 0]), 3)
    assert seen.tolist() == [True, False, True]
    assert means[seen].tolist() == [[8, 8], [2, 3]]
    old = torch.full((3, 2), 10.0, dtype=torch.float64)
    found = moved(old, means, seen, 0.9)
    expected = [[9.8, 9.8], [10, 10], [9.2, 9.3]]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12)
    assert math.isclose(moved(old, means, seen, torch.tensor(0.5)).sum().item(), 18 + 20 + 12.5)
