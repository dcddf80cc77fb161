# SPDX-License-Identifier: Apache-2.0
"""Energy-biased abstention, beside sums over pixels one by one."""

from __future__ import annotations

import math

from pydantic import ValidationError
import pytest
import torch
from torch import Tensor, nn

from multishift_perception.classes import NOVEL, VOID
from multishift_training.datasets import Batch
from multishift_training.methods import Context
from multishift_training.methods.pebal import Pebal
from multishift_training.models import Prediction, SegmentationModel

C, SIZE = 4, (5, 6)
# Losses want nothing of it but that it enlarges maps.
MODEL = SegmentationModel()  # type: ignore[abstract]


def mirrored(place: int, count: int) -> int:
    """The place inside that one outside shows, as in a mirror on the outermost pixel."""
    place = abs(place)
    return min(place, 2 * (count - 1) - place)


def reference(
    method: Pebal, logits: Tensor, abstaining: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """All losses, pixel by pixel."""
    rows, columns = SIZE
    energy = {}
    for b in range(len(labels)):
        for i in range(rows):
            for j in range(columns):
                energy[b, i, j] = -torch.stack([z.exp() for z in logits[b, :, i, j]]).sum().log()
    weights = [math.exp(-0.5 * d * d) for d in range(-3, 4)]
    weights = [w / sum(weights) for w in weights]

    known: dict[bool, list[Tensor]] = {False: [], True: []}  # by whether the image has outliers
    novel, low, high, squares = [], [], [], []
    smoothness = torch.zeros(())
    for (b, i, j), e in energy.items():
        label = int(labels[b, i, j])
        penalty = torch.zeros(())
        for di in range(-3, 4):
            for dj in range(-3, 4):
                near = energy[b, mirrored(i + di, rows), mirrored(j + dj, columns)]
                penalty = penalty + weights[di + 3] * weights[dj + 3] * near**2
        penalty = penalty.clamp(min=1)
        all_logits = torch.cat([logits[b, :, i, j], abstaining[b, i, j][None]])
        share = all_logits.exp() / all_logits.exp().sum()
        if label < C:
            mixed = bool((labels[b] == NOVEL).any())
            known[mixed].append(-(share[label] + share[C] / penalty).log())
            low.append((e - method.margins[0]).clamp(min=0) ** 2)
        if label == NOVEL:
            novel.append(-(share[:C] + share[C] / penalty).log().mean())
            high.append((method.margins[1] - e).clamp(min=0) ** 2)
            squares.append(e**2)
        for place in ((b, i + 1, j), (b, i, j + 1)):
            if place in energy:
                smoothness = smoothness + (energy[place] - e) ** 2 / 2

    def mean(values: list[Tensor]) -> Tensor:
        return torch.stack(values).mean() if values else torch.zeros(())

    half = 0.5 if novel else 1
    return {
        'abstention': mean(known[False]) + mean(known[True]) + method.outliers * mean(novel),
        'energy_known': method.energy * half * mean(low),
        'energy_novel': method.energy * half * mean(high),
        'energy_sparsity': method.energy
        * method.sparsity
        * (torch.stack(squares).sum().sqrt() if squares else torch.zeros(())),
        'energy_smoothness': method.energy * method.smoothness * smoothness,
    }


def cases() -> dict[str, tuple[Tensor, float]]:
    g = torch.Generator().manual_seed(1)
    labels = torch.tensor([*range(C), NOVEL, VOID])[torch.randint(C + 2, (2, *SIZE), generator=g)]
    one_mixed = labels.clone()
    one_mixed[0][one_mixed[0] == NOVEL] = VOID
    none = labels.where(labels != NOVEL, VOID)
    return {'mixed': (labels, 1), 'one mixed': (one_mixed, 3), 'no outliers': (none, 1)}


@pytest.mark.parametrize('name', ['mixed', 'one mixed', 'no outliers'])
def test_losses_and_gradients_are_those_of_pixels_one_by_one(name: str) -> None:
    labels, scale = cases()[name]
    g = torch.Generator().manual_seed(2)
    shape = (2, C + 1, *SIZE)
    leaf = (scale * torch.randn(shape, generator=g, dtype=torch.float64)).requires_grad_()
    logits, abstaining = leaf[:, :C], leaf[:, C]
    method = Pebal(kind='pebal', margins=(-2, -1), energy=0.3, sparsity=0.7, smoothness=0.2)
    nothing = torch.zeros(2)
    found = method.losses(
        Prediction(logits, nothing, abstaining[:, None]),
        Batch(nothing, labels, 1, {}, nothing),
        Context(MODEL, nn.Identity(), None, None, lambda values: values),
    )
    wanted = reference(method, logits, abstaining, labels)
    assert [*found] == [*wanted]
    for key, value in found.items():
        assert value.item() == pytest.approx(wanted[key].item(), rel=1e-9), key
        if wanted[key].requires_grad:
            pair = [
                torch.autograd.grad(x, leaf, retain_graph=True)[0] for x in (value, wanted[key])
            ]
            torch.testing.assert_close(*pair, rtol=1e-8, atol=1e-12)


def test_the_release_s_weights_are_the_defaults() -> None:
    method = Pebal(kind='pebal')
    assert method.margins == (-12, -6)
    found = (method.energy, method.outliers, method.sparsity, method.smoothness)
    assert found == (0.1, 0.1, 5e-4, 3e-6)


def test_margins_the_wrong_way_round() -> None:
    with pytest.raises(ValidationError, match='-6.0 is above -12.0: give the smaller first'):
        Pebal(kind='pebal', margins=(-6, -12))
