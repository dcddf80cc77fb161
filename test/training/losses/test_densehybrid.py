# SPDX-License-Identifier: Apache-2.0
"""DenseHybrid's losses against loops over pixels in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from multishift_perception.classes import NOVEL, VOID
from multishift_training.losses.densehybrid import HybridTerms, hybrid_terms
from multishift_training.losses.noise_aware import pixel_cross_entropy
from multishift_training.models.densehybrid import HybridScore, hybrid_score

LABELS = torch.tensor([[[0, 2, NOVEL], [VOID, 1, NOVEL]], [[1, VOID, VOID], [2, 0, 1]]])


def terms_of(logits: Tensor, discriminator: Tensor, labels: Tensor) -> HybridTerms:
    return hybrid_terms(
        pixel_cross_entropy(logits, labels),
        logits.logsumexp(1),
        logits.mean(1),
        discriminator,
        labels,
    )


def by_hand(logits: Tensor, discriminator: Tensor, labels: Tensor) -> list[Tensor]:
    average = logits.detach().sum() / logits.numel()
    losses: list[list[Tensor]] = [[], [], []]
    for b, y, x in torch.cartesian_prod(*(torch.arange(n) for n in labels.shape)).tolist():
        label, each = int(labels[b, y, x]), logits[b, :, y, x]
        evidence = each.exp().sum().log()
        outside = 1 / (1 + (-discriminator[b, y, x]).exp())
        if label < NOVEL:
            losses[0].append(evidence - each[label])
            losses[2].append(-(1 - outside).log())
        elif label == NOVEL:
            losses[1].append(evidence - average)
            losses[2].append(-outside.log())
    return [torch.stack(part).mean() if part else logits.sum() * 0 for part in losses]


def random(seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 2, 3, generator=g, dtype=torch.float64)
    discriminator = torch.randn(2, 2, 3, generator=g, dtype=torch.float64)
    return logits.requires_grad_(), discriminator.requires_grad_()


@pytest.mark.parametrize(
    'labels', [LABELS, LABELS.clamp(max=2), torch.full_like(LABELS, NOVEL)], ids=str
)
@pytest.mark.parametrize('term', range(3))
def test_losses_and_gradients_are_those_of_loops(term: int, labels: Tensor) -> None:
    leaves = random()
    found, wanted = terms_of(*leaves, labels)[term], by_hand(*leaves, labels)[term]
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12, abs=1e-15)
    gradients = [
        torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        for loss in (found, wanted)
    ]
    for one, two in zip(*gradients, strict=True):
        assert torch.allclose(one, two, rtol=0, atol=1e-12)


def test_void_alone_gives_zero() -> None:
    leaves = random()
    total = torch.stack(terms_of(*leaves, torch.full_like(LABELS, VOID))).sum()
    assert total.item() == 0
    assert all(gradient.abs().sum() == 0 for gradient in torch.autograd.grad(total, leaves))


@pytest.mark.parametrize('kind', ['hybrid', 'likelihood', 'discriminator'])
def test_score_is_the_ratio_of_the_paper(kind: HybridScore) -> None:
    logits, discriminator = (leaf.detach() for leaf in random(1))
    outside = 1 / (1 + (-discriminator).exp())
    likelihood = logits.exp().sum(1)
    wanted = {
        'hybrid': (outside / likelihood).log(),
        'likelihood': -likelihood.log(),
        'discriminator': outside.log(),
    }[kind]
    assert torch.allclose(hybrid_score(logits, discriminator[:, None], kind), wanted)
