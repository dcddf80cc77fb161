# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from multishift_perception.classes import NOVEL, VOID
from multishift_training.losses import contrastive
from multishift_training.losses.contrastive import (
    THIRD_TERMS,
    ContrastiveTerms,
    Margins,
    relative_contrastive,
)
from multishift_training.losses.options import ThirdTerm
from multishift_training.losses.sorted_hinge import sorted_hinge_sums

DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]
MARGINS = Margins(2.0, 1.0, 0.5)


def brute_force(
    score: Tensor, labels: Tensor, margins: Margins, third_term: ThirdTerm
) -> list[Tensor]:
    """Return the three terms of the paper's Eq. 4, pair by pair."""
    half = len(score) // 2
    before, after = score[:half], score[half:]
    known_before, known_after = labels[:half] < NOVEL, labels[half:] < NOVEL
    novel = score[labels == NOVEL]
    pairs = [
        (before[known_before][:, None] + margins.original - novel).relu(),
        (after[known_after][:, None] + margins.augmented - novel).relu(),
    ]
    rise = (after - before)[known_before & known_after]
    pairs.append(
        {
            'paper': (margins.consistency + rise).relu(),
            'poster': (margins.consistency + rise.abs()).relu(),
            'code': (rise - margins.consistency).relu(),
        }[third_term]
    )
    return [p.mean() if p.numel() else score.sum() * 0 for p in pairs]


def random_labels(shape: tuple[int, ...], novel: float, generator: torch.Generator) -> Tensor:
    labels = torch.randint(0, 19, shape, generator=generator)
    chance = torch.rand(shape, generator=generator)
    labels[chance < 0.2] = VOID
    labels[chance > 1 - novel] = NOVEL
    return labels


def spread(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 3 * torch.randn(shape, dtype=torch.float64, generator=generator)


def tied(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return few distinct values; together with the margins, many hinges are exactly at zero."""
    return torch.randint(-4, 5, shape, generator=generator) / 2


def heavy_tailed(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return values of all magnitudes, so that nearly all of them share a cell of the grid."""
    return torch.randn(shape, dtype=torch.float64, generator=generator) ** 15


def constant(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.full(shape, -7.25, dtype=torch.float64)


def assert_equals_brute_force(
    score: Tensor, labels: Tensor, margins: Margins, third_term: ThirdTerm
) -> None:
    ours, theirs = score.clone().requires_grad_(), score.clone().requires_grad_()
    terms = relative_contrastive(ours, labels, margins=margins, third_term=third_term)
    expected = brute_force(theirs, labels, margins, third_term)
    for name, term, value in zip(ContrastiveTerms._fields, terms, expected, strict=True):
        torch.testing.assert_close(term, value, rtol=1e-10, atol=1e-12, msg=name)
        # One by one and scaled: the gradient of each term, and the factor it is called with.
        (gradient,) = torch.autograd.grad(1.5 * term, ours, retain_graph=True)
        (wanted,) = torch.autograd.grad(1.5 * value, theirs, retain_graph=True)
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize('third_term', THIRD_TERMS)
@pytest.mark.parametrize('values', [spread, tied, heavy_tailed, constant])
@pytest.mark.parametrize('device', DEVICES)
def test_value_and_gradient_equal_brute_force(
    device: str,
    values: Callable[[tuple[int, ...], torch.Generator], Tensor],
    third_term: ThirdTerm,
) -> None:
    generator = torch.Generator().manual_seed(3)
    for case in range(40):
        shape = (2 * (1 + case % 3), 1 + case % 7, 1 + case % 11)
        # From no novel pixel to nothing but novel ones.
        labels = random_labels(shape, (case % 9) / 8, generator)
        score = values(shape, generator).double()
        assert_equals_brute_force(score.to(device), labels.to(device), MARGINS, third_term)


@pytest.mark.parametrize('values', [spread, tied, heavy_tailed, constant])
def test_way_of_gpus_equals_brute_force(
    values: Callable[[tuple[int, ...], torch.Generator], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contrastive, '_hinge_sums', sorted_hinge_sums)
    for third_term in THIRD_TERMS:
        test_value_and_gradient_equal_brute_force('cpu', values, third_term)


@pytest.mark.parametrize('margins', [Margins(0, 0, 0), Margins(-1, 0.5, -0.25)])
def test_margins_may_be_zero_or_less(margins: Margins) -> None:
    generator = torch.Generator().manual_seed(4)
    labels = random_labels((4, 6, 7), 0.3, generator)
    for third_term in THIRD_TERMS:
        assert_equals_brute_force(tied((4, 6, 7), generator).double(), labels, margins, third_term)


def test_analytic_gradient_equals_the_numerical_one() -> None:
    generator = torch.Generator().manual_seed(5)
    labels = random_labels((2, 3, 5), 0.4, generator)
    score = spread((2, 3, 5), generator).requires_grad_()
    for third_term in THIRD_TERMS:
        assert torch.autograd.gradcheck(
            lambda s, form=third_term: relative_contrastive(
                s, labels, margins=MARGINS, third_term=form
            ),
            score,
        )


def test_one_pixel_of_each_kind() -> None:
    # originals: known 1, void 9; augmented: known 0, novel 2
    score = torch.tensor([[[1.0, 9.0]], [[0.0, 2.0]]], requires_grad=True)
    labels = torch.tensor([[[3, VOID]], [[5, NOVEL]]])
    terms = relative_contrastive(score, labels, margins=Margins(4, 2.5, 1.5))
    assert [t.item() for t in terms] == [1 + 4 - 2, 0 + 2.5 - 2, 1.5 + 0 - 1]
    assert terms.total.item() == 4.0
    terms.total.backward()
    assert score.grad.tolist() == [[[1 - 1, 0]], [[1 + 1, -2]]]


def test_novel_pixels_of_both_halves_meet_known_pixels_of_both() -> None:
    score = torch.tensor([[[0.0, 1.0]], [[0.0, 3.0]]], requires_grad=True)
    labels = torch.tensor([[[0, NOVEL]], [[0, NOVEL]]])
    terms = relative_contrastive(score, labels, margins=Margins(2, 4, 0))
    assert terms.original.item() == (1 + 0) / 2
    assert terms.augmented.item() == (3 + 1) / 2


@pytest.mark.parametrize(
    ('fill', 'zero'),
    [
        ((0, 1), ['original', 'augmented']),
        ((NOVEL, NOVEL), ['original', 'augmented', 'consistency']),
        ((VOID, VOID), ['original', 'augmented', 'consistency']),
        ((VOID, NOVEL), ['original', 'augmented', 'consistency']),
        ((0, NOVEL), ['augmented', 'consistency']),
        ((NOVEL, 0), ['original', 'consistency']),
    ],
)
@pytest.mark.parametrize('device', DEVICES)
def test_terms_without_pairs_are_zero_and_stay_in_the_graph(
    device: str, fill: tuple[int, int], zero: list[str]
) -> None:
    labels = torch.tensor(fill, device=device)[:, None, None].expand(2, 2, 3).contiguous()
    score = torch.ones(2, 2, 3, device=device, requires_grad=True)
    terms = relative_contrastive(score, labels, margins=MARGINS)
    for name in terms._fields:
        term = getattr(terms, name)
        (gradient,) = torch.autograd.grad(term, score, retain_graph=True)
        assert (term.item() == 0) == (name in zero)
        assert gradient.any().item() == (name not in zero)


def test_float32_keeps_its_digits_over_many_pairs() -> None:
    """A billion pairs; sums of them in float32 would be off in the third digit."""
    generator = torch.Generator().manual_seed(6)
    shape = (4, 150, 150)
    labels = random_labels(shape, 0.3, generator)
    score = 1000 + spread(shape, generator).float()
    single = relative_contrastive(score, labels, margins=MARGINS)
    double = relative_contrastive(score.double(), labels, margins=MARGINS)
    for a, b in zip(single, double, strict=True):
        assert a.dtype == torch.float32
        assert a.item() == pytest.approx(b.item(), rel=2e-5)


def test_float32_gradient_equals_brute_force() -> None:
    generator = torch.Generator().manual_seed(7)
    labels = random_labels((4, 12, 17), 0.2, generator)
    score = spread((4, 12, 17), generator).float().requires_grad_()
    relative_contrastive(score, labels, margins=MARGINS).total.backward()
    loss = torch.stack(brute_force(score, labels, MARGINS, 'paper')).sum()
    (wanted,) = torch.autograd.grad(loss, score)
    torch.testing.assert_close(score.grad, wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize('narrow', [torch.float16, torch.bfloat16])
def test_narrow_scores_are_counted_in_float32(narrow: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(8)
    labels = random_labels((2, 30, 31), 0.3, generator)
    score = spread((2, 30, 31), generator).to(narrow).requires_grad_()
    loss = relative_contrastive(score, labels, margins=MARGINS).total
    expected = relative_contrastive(score.double(), labels, margins=MARGINS).total
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert score.grad.dtype == narrow


@pytest.mark.parametrize('broken', [float('nan'), float('inf')])
@pytest.mark.parametrize('label', [0, NOVEL])
def test_a_broken_score_breaks_the_loss(label: int, broken: float) -> None:
    """The training loop stops at such a loss: it must not be hidden here."""
    generator = torch.Generator().manual_seed(9)
    labels = random_labels((2, 5, 6), 0.3, generator)
    score = spread((2, 5, 6), generator)
    labels[0, 0, 0] = label
    score[0, 0, 0] = broken
    assert not relative_contrastive(score, labels, margins=MARGINS).total.isfinite()


def test_an_odd_batch_is_refused() -> None:
    with pytest.raises(ValueError, match='even, not 3'):
        relative_contrastive(
            torch.zeros(3, 2, 2), torch.zeros(3, 2, 2, dtype=torch.int64), margins=MARGINS
        )
