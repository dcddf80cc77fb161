# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import Tensor

from multishift_perception.classes import NOVEL, VOID
from multishift_training.losses import noise_aware
from multishift_training.losses.noise_aware import (
    SegmentationTerms,
    noise_aware_mean,
    pixel_cross_entropy,
)
from multishift_training.losses.options import MeanOver


def noise_aware_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    ratio: float = 0.8,
    mean_over: MeanOver = 'all',
    class_weights: Tensor | None = None,
    groups: Tensor | None = None,
) -> SegmentationTerms:
    losses = pixel_cross_entropy(logits, labels, groups=groups)
    return noise_aware_mean(
        losses, labels, ratio=ratio, mean_over=mean_over, class_weights=class_weights
    )


def random_batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 5, (4, 6, 7), generator=generator)
    chance = torch.rand(labels.shape, generator=generator)
    labels[chance < 0.2] = VOID
    labels[chance > 0.9] = NOVEL
    logits = 3 * torch.randn(4, 5, 6, 7, dtype=torch.float64, generator=generator)
    return logits, labels


WEIGHTS = torch.tensor([0.5, 1, 2, 4, 0.1], dtype=torch.float64)


def pixel_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the losses of the known pixels, ``[K]``."""
    known = labels < 5
    log_p = logits.log_softmax(1).movedim(1, -1)[known]
    return -log_p[torch.arange(len(log_p)), labels[known]]


def brute_force(
    logits: Tensor, labels: Tensor, ratio: float, mean_over: MeanOver, weights: Tensor
) -> tuple[Tensor, Tensor]:
    half = len(labels) // 2

    def mean(losses: Tensor) -> Tensor:
        return losses.sum() / (labels[:half].numel() if mean_over == 'all' else len(losses))

    first, second = labels[:half], labels[half:]
    original = pixel_losses(logits[:half], first) * weights[first[first < 5]]
    plain = pixel_losses(logits[half:], second)
    augmented = plain * weights[second[second < 5]]
    if ratio == 1:
        return mean(original), mean(augmented)
    trusted = plain.argsort()[: int(ratio * len(plain))]
    return mean(original), augmented[trusted].mean()


@pytest.mark.parametrize('mean_over', ['all', 'valid'])
@pytest.mark.parametrize('ratio', [0.1, 0.5, 0.8, 0.95, 1.0])
@pytest.mark.parametrize('weights', [None, WEIGHTS])
def test_value_and_gradient_equal_brute_force(
    weights: Tensor | None, ratio: float, mean_over: MeanOver
) -> None:
    given = torch.ones(5) if weights is None else weights
    for seed in range(10):
        logits, labels = random_batch(seed)
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        terms = noise_aware_cross_entropy(
            ours, labels, ratio=ratio, mean_over=mean_over, class_weights=weights
        )
        expected = brute_force(theirs, labels, ratio, mean_over, given)
        torch.testing.assert_close(tuple(terms), expected, rtol=1e-12, atol=0)
        (terms.original + 3 * terms.augmented).backward()
        (expected[0] + 3 * expected[1]).backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-14)


def test_way_of_gpus_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for ratio in (0.01, 0.5, 0.95):
        for seed in range(10):
            logits, labels = random_batch(seed)
            terms = noise_aware_cross_entropy(logits, labels, ratio=ratio)
            with monkeypatch.context() as patch:
                patch.setattr(noise_aware, '_smallest', noise_aware._smallest_by_rank)
                assert noise_aware_cross_entropy(logits, labels, ratio=ratio) == terms


def two_class_batch(losing: list[float]) -> tuple[Tensor, Tensor]:
    """Return a pair of images of class 0; augmented pixels prefer class 1 by ``losing``."""
    logits = torch.zeros(2, 2, 1, len(losing))
    logits[1, 1, 0] = torch.tensor(losing)
    return logits.requires_grad_(), torch.zeros(2, 1, len(losing), dtype=torch.int64)


def test_largest_losses_of_the_augmented_half_do_not_learn() -> None:
    logits, labels = two_class_batch([-3.0, 9.0, -1.0, 0.0, 2.0])
    noise_aware_cross_entropy(logits, labels, ratio=0.8).augmented.backward()
    assert logits.grad[1, 0, 0].ne(0).tolist() == [True, False, True, True, True]
    assert not logits.grad[0].any()


def test_selection_is_over_all_augmented_images_at_once() -> None:
    """An image that the generator spoiled as a whole may drop out as a whole."""
    logits = torch.zeros(4, 2, 1, 3)
    logits[3, 1] = 8.0
    logits.requires_grad_()
    labels = torch.zeros(4, 1, 3, dtype=torch.int64)
    noise_aware_cross_entropy(logits, labels, ratio=0.5).augmented.backward()
    assert logits.grad[2].all()
    assert not logits.grad[3].any()


def test_equal_losses_are_cut_to_the_number_wanted() -> None:
    logits, labels = two_class_batch([1.0] * 10)
    terms = noise_aware_cross_entropy(logits, labels, ratio=0.35)
    assert terms.augmented.item() == pytest.approx(torch.tensor(1.0).exp().add(1).log().item())
    terms.augmented.backward()
    assert logits.grad[1, 0].count_nonzero() == 3


def test_originals_all_count_however_large() -> None:
    logits, labels = random_batch(0)
    logits[0, 0, 0, 0], labels[0, 0, 0] = -100.0, 0
    loss = noise_aware_cross_entropy(logits, labels).original
    assert loss.item() > 100 / labels[:2].numel()


@pytest.mark.parametrize('mean_over', ['all', 'valid'])
@pytest.mark.parametrize('ratio', [0.8, 1.0])
@pytest.mark.parametrize('fill', [VOID, NOVEL])
def test_halves_without_known_pixels_are_zero_and_stay_in_the_graph(
    fill: int, ratio: float, mean_over: MeanOver
) -> None:
    logits = torch.randn(2, 3, 2, 2, requires_grad=True)
    labels = torch.full((2, 2, 2), fill)
    terms = noise_aware_cross_entropy(logits, labels, ratio=ratio, mean_over=mean_over)
    assert [t.item() for t in terms] == [0, 0]
    sum(terms).backward()
    assert logits.grad.count_nonzero() == 0


def test_too_few_pixels_to_keep_one_give_zero() -> None:
    logits, labels = two_class_batch([1.0])
    terms = noise_aware_cross_entropy(logits, labels, ratio=0.8)
    assert terms.augmented.item() == 0
    assert terms.original.item() == pytest.approx(torch.tensor(2.0).log().item())


def test_labels_stay_as_they_were() -> None:
    logits, labels = random_batch(1)
    before = labels.clone()
    noise_aware_cross_entropy(logits, labels)
    assert torch.equal(labels, before)


def test_narrow_logits_are_summed_in_float32() -> None:
    logits, labels = random_batch(2)
    narrow = logits.bfloat16().requires_grad_()
    terms = noise_aware_cross_entropy(narrow, labels)
    expected = noise_aware_cross_entropy(narrow.double(), labels)
    assert [t.item() for t in terms] == pytest.approx([t.item() for t in expected], rel=1e-5)
    sum(terms).backward()
    assert narrow.grad.dtype == torch.bfloat16


@pytest.mark.parametrize('ratio', [0.0, -0.5, 1.5])
def test_a_ratio_that_is_no_share_is_refused(ratio: float) -> None:
    logits, labels = random_batch(3)
    with pytest.raises(ValueError, match='ratio'):
        noise_aware_cross_entropy(logits, labels, ratio=ratio)


GROUPS = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1]], dtype=torch.bool)


def random_groups(seed: int) -> tuple[Tensor, Tensor]:
    """A batch in which half of the known pixels are labelled with groups."""
    logits, labels = random_batch(seed)
    coarse = torch.randint(5, 8, labels.shape, generator=torch.Generator().manual_seed(seed))
    chosen = (labels < 5) & (coarse.cumsum(2) % 2 == 0)
    return logits, torch.where(chosen, coarse, labels)


@pytest.mark.parametrize('weights', [None, torch.rand(8, dtype=torch.float64) + 0.5])
def test_a_group_is_as_likely_as_its_classes_together(weights: Tensor | None) -> None:
    for seed in range(5):
        logits, labels = random_groups(seed)
        assert {5, 6, 7, NOVEL, VOID} < set(labels.unique().tolist())
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        p = theirs.softmax(1)
        expected = torch.zeros(labels.shape, dtype=torch.float64)
        for b, y, x in (labels < NOVEL).nonzero().tolist():
            label = int(labels[b, y, x])
            inside = [label] if label < 5 else GROUPS[label - 5].nonzero().flatten().tolist()
            weight = 1 if weights is None else weights[label]
            expected[b, y, x] = -weight * sum(p[b, c, y, x] for c in inside).log()
        found = pixel_cross_entropy(ours, labels, weights, GROUPS)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        uneven = torch.rand(found.shape, dtype=torch.float64)
        (found * uneven).sum().backward()
        (expected * uneven).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-12)


def test_pixels_of_single_classes_are_as_without_groups() -> None:
    logits, labels = random_batch(1)
    torch.testing.assert_close(
        pixel_cross_entropy(logits, labels, groups=GROUPS), pixel_cross_entropy(logits, labels)
    )


def test_a_group_that_the_network_rules_out_still_has_a_gradient() -> None:
    logits = torch.tensor([200.0, -200, -200, 0, 0]).view(1, 5, 1, 1).requires_grad_()
    loss = pixel_cross_entropy(logits, torch.tensor([[[6]]]), groups=GROUPS)
    loss.sum().backward()
    assert loss.item() == pytest.approx(400)
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([1, 0, -1, 0, 0])


def test_noise_aware_means_are_over_groups_too() -> None:
    logits, labels = random_groups(3)
    losses = pixel_cross_entropy(logits, labels, groups=GROUPS)
    terms = noise_aware_cross_entropy(logits, labels, ratio=0.5, groups=GROUPS, mean_over='valid')
    known = labels < NOVEL
    torch.testing.assert_close(terms.original, losses[:2][known[:2]].mean())
    ranked = losses[2:][known[2:]].sort().values
    torch.testing.assert_close(terms.augmented, ranked[: len(ranked) // 2].mean())
