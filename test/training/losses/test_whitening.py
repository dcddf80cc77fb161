# SPDX-License-Identifier: Apache-2.0
"""Selective whitening against loops in float64."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from multishift_training.losses.whitening import (
    covariance,
    covariance_variance,
    sensitive,
    whitening,
)


def maps(seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(2, 4, 3, 5, generator=g, dtype=torch.float64).requires_grad_()


def by_hand(x: Tensor, a: int, b: int) -> Tensor:
    products = [x[a, i, j] * x[b, i, j] for i in range(x.shape[1]) for j in range(x.shape[2])]
    return torch.stack(products).sum() / (len(products) - 1)


def test_loss_and_gradient_are_those_of_loops() -> None:
    x = maps(0)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    chosen = [(0, 1), (1, 3), (2, 3)]
    for place in chosen:
        mask[place] = True
    wanted = torch.stack(
        [torch.stack([by_hand(image, *place).abs() for place in chosen]).mean() for image in x]
    )
    found = whitening(x, mask)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    gradients = [torch.autograd.grad(y.sum(), x)[0] for y in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-12)
    assert torch.equal(whitening(x, torch.zeros_like(mask)), torch.zeros(2, dtype=torch.float64))


def test_variance_is_that_of_both_looks() -> None:
    one, other = maps(0), maps(1)
    found = covariance_variance(one, other)
    assert not found.tril().any()
    for a, b in combinations(range(4), 2):
        for image in range(2):
            pair = torch.stack([by_hand(x[image], a, b) for x in (one, other)])
            assert found[image, a, b].item() == pytest.approx(pair.var().item(), rel=1e-9)
    assert torch.allclose(covariance(one), covariance(one).mT)


def test_all_but_the_cluster_of_the_least_are_sensitive() -> None:
    variances = torch.zeros(6, 6)
    values = [0.1, 0.2, 0.1, 3.0, 3.2, 9.0, 0.15, 0.1, 8.5, 0.2, 0.1, 0.1, 0.1, 0.2, 3.1]
    places = list(combinations(range(6), 2))
    for place, value in zip(places, values, strict=True):
        variances[place] = value
    found = sensitive(variances, 3)
    wanted = {place for place, value in zip(places, values, strict=True) if value > 1}
    assert {tuple(place) for place in found.nonzero().tolist()} == wanted
    assert not sensitive(torch.zeros(6, 6), 3).any()
