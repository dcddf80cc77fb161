# SPDX-License-Identifier: Apache-2.0
"""Entropy maximization, beside sums over pixels one by one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from multishift_perception.classes import NOVEL, VOID
from multishift_training.datasets import Batch
from multishift_training.losses.options import MeanOver
from multishift_training.methods import Context
from multishift_training.methods.max_entropy import MaxEntropy
from multishift_training.models import Prediction
from multishift_training.models.heads import softmax_entropy

C = 4


def by_pixel(logits: Tensor, labels: Tensor, weight: float, mean_over: MeanOver) -> list[Tensor]:
    """Both losses, by the formulas: of known pixels and of outliers."""
    known, novel = [], []
    for image, row, column in torch.cartesian_prod(*map(torch.arange, labels.shape)).tolist():
        exponentials = [logits[image, c, row, column].exp() for c in range(C)]
        total = torch.stack(exponentials).sum()
        label = labels[image, row, column].item()
        if label < C:
            known.append(-(exponentials[int(label)] / total).log())
        elif label == NOVEL:
            novel.append(torch.stack([-(e / total).log() for e in exponentials]).mean())
    counts = [labels.numel()] * 2 if mean_over == 'all' else [len(known), len(novel)]
    sums = torch.stack(known).sum(), torch.stack(novel).sum()
    return [(1 - weight) * sums[0] / counts[0], weight * sums[1] / counts[1]]


@pytest.mark.parametrize('mean_over', ['all', 'valid'])
@pytest.mark.parametrize('weight', [0.9, 0.3])
def test_losses_and_gradients_are_those_of_pixels_one_by_one(
    weight: float, mean_over: MeanOver
) -> None:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, C, 3, 5, generator=g, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([*range(C), NOVEL, VOID])[torch.randint(C + 2, (2, 3, 5), generator=g)]
    method = MaxEntropy(kind='max_entropy', weight=weight, mean_over=mean_over)
    nothing = torch.zeros(2)
    found = method.losses(
        Prediction(logits, nothing, nothing),
        Batch(nothing, labels, 1, {}, nothing),
        Context(None, None, None, None, lambda values: values),
    )
    wanted = by_pixel(logits, labels, weight, mean_over)
    assert [*found] == ['cross_entropy', 'flat_outliers']
    for value, expected in zip(found.values(), wanted, strict=True):
        assert value.item() == pytest.approx(expected.item(), rel=1e-9)
        pair = [torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (value, expected)]
        torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-12)


def test_outliers_are_best_where_all_classes_are_equal() -> None:
    flat, sure = torch.zeros(1, C, 1, 1), torch.zeros(1, C, 1, 1)
    sure[0, 2] = 30
    assert softmax_entropy(flat).item() == pytest.approx(math.log(C))
    assert softmax_entropy(sure).item() == pytest.approx(0, abs=1e-6)
