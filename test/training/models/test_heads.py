# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from multishift_training.models.heads import (
    EnergyHead,
    MaskHead,
    mask_logits_to_semantic,
    mask_score,
)


@pytest.mark.parametrize('bias', [False, True])
def test_energy_head_is_the_negative_log_sum_of_the_proxies(bias: bool) -> None:
    torch.manual_seed(0)
    head = EnergyHead(6, 4, bias=bias)
    feature = torch.randn(2, 6, 3, 5) * 3
    weight = head.proxy.weight.detach().double().numpy()[:, :, 0, 0]
    logits = np.einsum('cd,bdhw->bchw', weight, feature.double().numpy())
    if bias:
        logits += head.proxy.bias.detach().double().numpy()[:, None, None]
    expected = -np.log(np.exp(logits).sum(1))
    score = head(feature).detach()
    assert score.shape == (2, 3, 5)
    assert np.allclose(score.numpy(), expected, atol=1e-6)


def test_energy_is_low_where_a_proxy_agrees() -> None:
    """Larger is more anomalous: a feature along a proxy is known, one against all is not."""
    head = EnergyHead(3, 3)
    with torch.no_grad():
        head.proxy.weight.copy_(torch.eye(3)[:, :, None, None])
    known, novel = head(torch.tensor([[9.0, 0, 0], [-9, -9, -9]])[:, :, None, None]).flatten()
    assert novel > known + 10


@pytest.mark.parametrize('bias', [False, True])
def test_energy_head_starts_as_a_copy_of_its_own(bias: bool) -> None:
    classifier, head = nn.Conv2d(6, 4, 1, bias=bias), EnergyHead(6, 4, bias=bias)
    feature = torch.randn(2, 6, 3, 5)
    head.init_from(classifier)
    energy = -torch.logsumexp(classifier(feature), 1)
    assert torch.equal(head(feature), energy)
    with torch.no_grad():
        head.proxy.weight.zero_()
    assert classifier.weight.any()


def test_bias_of_one_alone_is_refused() -> None:
    """Without its bias a classifier's energy is another score."""
    with pytest.raises(ValueError, match='both have a bias'):
        EnergyHead(6, 4).init_from(nn.Conv2d(6, 4, 1))


def test_mask_head_has_the_shape_of_the_classifier() -> None:
    classifier, head = nn.Linear(8, 5), MaskHead(8, 4)
    queries = torch.randn(2, 7, 8)
    assert not torch.equal(head(queries), classifier(queries))
    head.init_from(classifier)
    assert torch.equal(head(queries), classifier(queries))
    with torch.no_grad():
        head.classifier.bias.add_(1)
    assert not torch.equal(head.classifier.bias, classifier.bias)


def test_masks_and_classes_are_joined_by_a_sum_over_queries() -> None:
    rng = np.random.default_rng(0)
    logits, masks = rng.normal(size=(2, 7, 5)) * 3, rng.uniform(size=(2, 7, 3, 4))
    probability = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    expected = np.zeros((2, 4, 3, 4))
    for query in range(7):
        for known in range(4):  # not the fifth, "no object"
            expected[:, known] += probability[:, query, known, None, None] * masks[:, query]
    found = mask_logits_to_semantic(torch.from_numpy(logits), torch.from_numpy(masks))
    assert np.allclose(found.numpy(), expected, atol=1e-12)
    score = mask_score(torch.from_numpy(logits), torch.from_numpy(masks))
    assert np.allclose(score.numpy(), 1 - expected.max(1), atol=1e-12)


def test_mask_score_is_high_where_no_known_class_claims() -> None:
    sure = torch.tensor([[[20.0, 0, 0], [0, 0, 20]]])  # a known class, and "no object"
    masks = torch.tensor([[[[1.0, 0, 1]], [[0.0, 1, 1]]]])
    assert torch.allclose(mask_score(sure, masks), torch.tensor([[[0.0, 1, 0]]]), atol=1e-6)


def test_overlapping_queries_of_a_class_push_the_mask_score_below_zero() -> None:
    sure = torch.tensor([[[20.0, 0, 0]] * 3])
    assert mask_score(sure, torch.ones(1, 3, 1, 1)).item() == pytest.approx(-2, abs=1e-6)


def test_gradients_reach_queries_and_masks() -> None:
    head = MaskHead(8, 4)
    queries = torch.randn(1, 7, 8, requires_grad=True)
    mask_logits = torch.randn(1, 7, 3, 4, requires_grad=True)
    mask_score(head(queries), mask_logits.sigmoid()).sum().backward()
    assert queries.grad.any() and mask_logits.grad.any() and head.classifier.weight.grad.any()
