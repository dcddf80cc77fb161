from __future__ import annotations

import pytest
import torch

from multishift_perception.classes import NOVEL, VOID
from multishift_training.losses import cross_entropy, relative_contrastive


def labels_of(*values: int) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, -1)


def test_cross_entropy_is_the_mean_over_known_pixels() -> None:
    logits = torch.randn(
        1, 3, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    labels = labels_of(0, 2, NOVEL, VOID)
    log_p = logits.log_softmax(1)
    expected = -(log_p[0, 0, 0, 0] + log_p[0, 2, 0, 1]) / 2
    assert torch.allclose(cross_entropy(logits, labels), expected)


def test_cross_entropy_weighs_classes() -> None:
    logits = torch.zeros(1, 2, 1, 2)
    loss = cross_entropy(logits, labels_of(0, 1), torch.tensor([1.0, 3.0]))
    assert loss.item() == pytest.approx((1 + 3) / 2 * torch.tensor(2.0).log().item())


def test_cross_entropy_of_nothing_known_is_zero() -> None:
    logits = torch.zeros(1, 2, 1, 2, requires_grad=True)
    loss = cross_entropy(logits, labels_of(NOVEL, VOID))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_contrastive_with_one_novel_pixel_equals_all_pairs() -> None:
    """With a single novel pixel, the random pairing is the pairing."""
    score = torch.tensor([[[1.0, 4.0, -2.0, 3.0, 100.0]]], dtype=torch.float64, requires_grad=True)
    labels = labels_of(0, 1, 2, NOVEL, VOID)
    loss = relative_contrastive(score, labels, margin=2.0, generator=torch.Generator())
    # u_known + 2 - 3, cut at 0: 0, 3, 0
    assert loss.item() == pytest.approx(1.0)
    loss.backward()
    assert score.grad[0, 0].tolist() == pytest.approx([0, 1 / 3, 0, -1 / 3, 0])


def test_contrastive_pairs_are_seeded_and_unbiased() -> None:
    values = torch.randn(1, 1, 4000, generator=torch.Generator().manual_seed(1)).double()
    labels = torch.zeros(1, 1, 4000, dtype=torch.int64)
    labels[..., 3000:] = NOVEL

    def loss(seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        return relative_contrastive(values, labels, margin=1.0, generator=generator).item()

    known, novel = values[0, 0, :3000], values[0, 0, 3000:]
    all_pairs = (known[:, None] + 1.0 - novel[None]).clamp(min=0).mean().item()
    assert loss(5) == loss(5)
    assert sum(loss(seed) for seed in range(20)) / 20 == pytest.approx(all_pairs, rel=0.02)


@pytest.mark.parametrize('values', [(0, 1, VOID), (NOVEL, NOVEL, VOID)])
def test_contrastive_of_an_empty_side_is_zero(values: tuple[int, ...]) -> None:
    score = torch.ones(1, 1, 3, requires_grad=True)
    loss = relative_contrastive(score, labels_of(*values), margin=1.0, generator=torch.Generator())
    loss.backward()
    assert loss.item() == 0
    assert not score.grad.any()
