# SPDX-License-Identifier: Apache-2.0
"""What a memory of classes is written with, beside sums pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import NOVEL, VOID
from multishift_training.losses.pin_memory import ClassSums, class_sums, divergence, written

K, D = 4, 5


def drawn(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Embeddings ``[2,D,3,4]`` and labels ``[2,7,10]``; class 3 has no pixel."""
    g = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(2, D, 3, 4, generator=g, dtype=torch.float64)
    labels = torch.randint(0, 5, (2, 7, 10), generator=g)
    labels[labels == 3] = VOID
    labels[labels == 4] = NOVEL
    return embeddings.requires_grad_(), labels


def one_by_one(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums ``[B,K,D]`` and counts: each pixel has shares of four labels."""
    images, _, rows, columns = embeddings.shape
    height, width = labels.shape[1:]
    sums = [[torch.zeros(D, dtype=torch.float64) for _ in range(K)] for _ in range(images)]
    counts = torch.zeros(images, K, dtype=torch.float64)
    for image in range(images):
        for row in range(rows):
            for column in range(columns):
                y, x = row * (height - 1) / (rows - 1), column * (width - 1) / (columns - 1)
                top, left = min(int(y), height - 2), min(int(x), width - 2)
                for dy in (0, 1):
                    for dx in (0, 1):
                        share = (1 - abs(y - top - dy)) * (1 - abs(x - left - dx))
                        label = int(labels[image, top + dy, left + dx])
                        if label < K:
                            counts[image, label] += share
                            sums[image][label] = (
                                sums[image][label] + share * embeddings[image, :, row, column]
                            )
    return torch.stack([torch.stack(part) for part in sums]), counts


def test_sums_and_what_is_written() -> None:
    embeddings, labels = drawn()
    found = class_sums(embeddings, labels, K)
    sums, counts = one_by_one(embeddings, labels)
    torch.testing.assert_close(found.sums, sums, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found.counts, counts, rtol=1e-6, atol=1e-9)
    g = torch.Generator().manual_seed(1)
    items = F.normalize(torch.randn(K, D, generator=g, dtype=torch.float64), dim=1)
    momentum = torch.tensor([0.8, 0, 0.8, 0], dtype=torch.float64)
    new = written(items, found, momentum)
    assert torch.equal(new[3], items[3])
    for k in range(3):
        mean = sums[:, k].sum(0) / counts[:, k].sum()
        mixed = momentum[k] * items[k] + (1 - momentum[k]) * mean
        torch.testing.assert_close(new[k], mixed / mixed.norm(), rtol=1e-6, atol=1e-9)
    expected = sum(
        max(float((new[i] @ new[j]).detach()), 0.0) for i in range(K) for j in range(K) if i != j
    ) / (K * (K - 1))
    assert divergence(new).item() == pytest.approx(expected, rel=1e-6)
    assert torch.autograd.gradcheck(
        lambda values: divergence(written(items, class_sums(values, labels, K), momentum)),
        embeddings,
    )


def test_nothing_to_write_is_finite() -> None:
    embeddings, labels = drawn()
    items = torch.eye(K, D, dtype=torch.float64)
    sums = class_sums(embeddings, torch.full_like(labels, VOID), K)
    new = written(items, sums, torch.zeros(K, dtype=torch.float64))
    assert torch.equal(new, items)
    [gradient] = torch.autograd.grad(new.sum() + sums.sums.sum(), embeddings)
    assert gradient.isfinite().all()
    assert divergence(items[:1]) == 0
    assert isinstance(sums, ClassSums)
