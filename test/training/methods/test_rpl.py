# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import Tensor

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch
from multishift_training.losses.rpl import residual_terms
from multishift_training.methods import Context
from multishift_training.methods.rpl import Rpl
from multishift_training.models import SegmentationModel, create


def adapted(**options: object) -> tuple[Rpl, SegmentationModel, SegmentationModel]:
    """The method, a network as it was, and with the block."""
    torch.manual_seed(0)
    plain = create('deeplabv3plus_compact').eval()
    method = Rpl.model_validate({'kind': 'rpl', **options})
    return method, plain, method.adapt(plain).eval()


def test_the_closed_world_is_untouched() -> None:
    method, plain, model = adapted(smooth=False)
    image = torch.randn(1, 3, 64, 64)
    before, after = plain(image, (32, 32)), model(image, (32, 32))
    assert torch.equal(after.logits, before.logits)
    assert torch.equal(after.feature, before.feature)
    assert after.auxiliary is not None
    assert not torch.equal(after.auxiliary['logits'], after.logits)
    assert torch.equal(after.score, -after.auxiliary['logits'].logsumexp(1))
    names, added = set(plain.state_dict()), set(model.state_dict())
    assert names < added and all(name.startswith('residual.') for name in added - names)


def test_without_residual_the_paths_are_one() -> None:
    _, _, model = adapted()
    torch.nn.init.zeros_(model.get_submodule('residual.final').weight)  # type: ignore[arg-type]
    prediction = model(torch.randn(1, 3, 64, 64))
    assert prediction.auxiliary is not None
    assert torch.equal(prediction.auxiliary['logits'], prediction.logits)


def test_the_score_is_smoothed_by_a_gaussian() -> None:
    _, _, model = adapted()
    prediction = model(torch.randn(1, 3, 64, 96))
    assert prediction.auxiliary is not None
    raw = -prediction.auxiliary['logits'].logsumexp(1)[0]
    row, column, wanted, total = 20, 30, 0.0, 0.0
    for y in range(-3, 4):
        for x in range(-3, 4):
            weight = float(torch.tensor(-(x * x + y * y) / 2).exp())
            wanted += weight * raw[row + y, column + x].item()
            total += weight
    assert prediction.score.shape == (1, 64, 96)
    assert prediction.score[0, row, column].item() == pytest.approx(wanted / total, rel=1e-5)


def losses_of(method: Rpl, model: SegmentationModel, members: int) -> dict[str, Tensor]:
    torch.manual_seed(1)
    labels = torch.randint(0, 19, (2, 64, 64))
    labels[:, :20] = NOVEL
    batch = Batch(torch.zeros(2, 64, 64, 3), labels, members, {}, torch.zeros(2))
    state = method.make_state(model)
    context = Context(model, state, None, None, lambda values: values)
    prediction = model(torch.randn(2, 3, 64, 64))
    parts = method.losses(prediction, batch, context)
    assert prediction.auxiliary is not None
    terms = residual_terms(prediction.auxiliary['logits'], prediction.logits, labels)
    counts = (labels < NOVEL).sum(), (labels < NOVEL).sum(), (labels == NOVEL).sum()
    weights = method.agreement, method.disparity, method.energy
    for term, count, weight, name in zip(terms, counts, weights, terms._fields, strict=True):
        assert parts[name].item() == pytest.approx((weight * term.sum() / count).item())
        assert parts[name].item() > 0
    return parts


def test_weighs_its_parts() -> None:
    method, _, model = adapted(agreement=2, disparity=3, energy=5)
    assert set(losses_of(method, model, 1)) == {'agreement', 'disparity', 'energy'}
    assert method.make_state(model) is None


@pytest.mark.parametrize('members', [1, 2])
def test_contrast_is_between_contexts(members: int) -> None:
    """Of two images: an original and its partner, or one single image and another."""
    method, _, model = adapted(corocl=2, embedding=8, samples=16)
    assert losses_of(method, model, members)['corocl'].item() > 0
    state = method.make_state(model)
    assert state is not None
    assert {tuple(p.shape) for p in state.parameters()} == {(8, 96, 1, 1), (8,)}


def test_refuses_networks_without_a_pyramid_in_one_line() -> None:
    with torch.device('meta'):
        model = create('segformer_b0')
    with pytest.raises(MultishiftError) as caught:
        Rpl(kind='rpl').check_network(model, 'segformer_b0')
    assert str(caught.value) == (
        'method rpl adds a block beside the pyramid of a DeepLab, which segformer_b0 lacks: '
        'choose a deeplabv3plus network'
    )
