# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import Tensor

from multishift_perception.classes import NOVEL, VOID
from multishift_training.losses.contrastive import Margins, relative_contrastive
from multishift_training.losses.sampled import sampled_contrastive

MARGINS = Margins(10.0, 5.0, 2.0)


def random_batch(novel: float, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 19, (4, 13, 17), generator=generator)
    chance = torch.rand(labels.shape, generator=generator)
    labels[chance < 0.2] = VOID
    labels[chance > 1 - novel] = NOVEL
    score = 4 * torch.randn(labels.shape, generator=generator) - 8
    score[labels == NOVEL] += 5
    return score, labels


def pair_by_pair(score: Tensor, labels: Tensor) -> list[float]:
    """Return the three terms as the facts of the reference describe them, in plain Python."""
    pixels = list(zip(score.flatten().tolist(), labels.flatten().tolist(), strict=True))
    half = len(pixels) // 2
    original = [u for u, label in pixels[:half] if label < 19]
    augmented = [u for u, label in pixels[half:] if label < 19]
    novel = [u for u, label in pixels if label == NOVEL]
    pairs = min(len(original), len(augmented), len(novel))
    # One order for each set, drawn in this order, and its first elements.
    sets = (original, augmented, novel)
    first, second, third = (
        [values[i] for i in torch.randperm(len(values)).tolist()[:pairs]] for values in sets
    )
    rises = [
        max(after[0] - before[0] - MARGINS.consistency, 0)
        for before, after in zip(pixels[:half], pixels[half:], strict=True)
        if before[1] < 19 and after[1] < 19
    ]
    return [
        sum(max(a + MARGINS.original - o, 0) for a, o in zip(first, third, strict=True)) / pairs,
        sum(max(c + MARGINS.augmented - o, 0) for c, o in zip(second, third, strict=True)) / pairs,
        sum(rises) / len(rises),
    ]


@pytest.mark.parametrize('novel', [0.01, 0.1, 0.6])
def test_equals_the_released_sampling(novel: float) -> None:
    for seed in range(5):
        score, labels = random_batch(novel, seed)
        torch.manual_seed(seed)
        expected = pair_by_pair(score, labels)
        drawn = torch.get_rng_state()
        torch.manual_seed(seed)
        terms = sampled_contrastive(score, labels, margins=MARGINS)
        assert [t.item() for t in terms] == pytest.approx(expected, rel=1e-5)
        # The run goes on with the same random numbers.
        assert torch.equal(torch.get_rng_state(), drawn)


def test_gradient_reaches_the_drawn_pixels_alone() -> None:
    score, labels = random_batch(0.05, seed=11)
    score.requires_grad_()
    torch.manual_seed(0)
    terms = sampled_contrastive(score, labels, margins=Margins(1000, 1000, 5))
    (terms.original + terms.augmented).backward()
    # Margins out of reach: every pair counts, each novel pixel in two of them.
    pairs = (labels == NOVEL).sum().item()
    novel, known = score.grad[labels == NOVEL], score.grad[labels < 19]
    assert novel.tolist() == pytest.approx([-2 / pairs] * pairs)
    assert known.count_nonzero() == 2 * pairs
    assert known.sum().item() == pytest.approx(2)
    assert not score.grad[labels == VOID].any()


def test_expects_what_all_pairs_give() -> None:
    score, labels = random_batch(0.1, seed=12)
    exact = relative_contrastive(score, labels, margins=MARGINS, third_term='code')
    torch.manual_seed(1)
    draws = [sampled_contrastive(score, labels, margins=MARGINS) for _ in range(300)]
    assert sum(d.original.item() for d in draws) / 300 == pytest.approx(
        exact.original.item(), rel=0.02
    )
    assert sum(d.augmented.item() for d in draws) / 300 == pytest.approx(
        exact.augmented.item(), rel=0.05
    )
    assert draws[0].consistency == exact.consistency


@pytest.mark.parametrize('fill', [(0, 1), (NOVEL, NOVEL), (VOID, VOID), (0, NOVEL)])
def test_terms_without_pairs_are_zero_and_stay_in_the_graph(fill: tuple[int, int]) -> None:
    labels = torch.tensor(fill)[:, None, None].expand(2, 2, 3)
    score = torch.ones(2, 2, 3, requires_grad=True)
    terms = sampled_contrastive(score, labels, margins=MARGINS)
    assert [t.item() for t in terms] == [0, 0, 0]
    terms.total.backward()
    assert not score.grad.any()
