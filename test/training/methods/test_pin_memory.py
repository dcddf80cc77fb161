# SPDX-License-Identifier: Apache-2.0
"""A memory of classes: what recalls it, what writes it, and episodes by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from multishift_perception.classes import VOID
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch
from multishift_training.losses.pin_memory import class_sums, written
from multishift_training.methods import Context
from multishift_training.methods.pin_memory import PinMemory
from multishift_training.models import SegmentationModel, create
from multishift_training.models.input_scale import Normalize
from multishift_training.models.pin_memory import ClassMemory

STEP = 0.5


def method_of(**options: object) -> PinMemory:
    return PinMemory.model_validate({'kind': 'pin_memory', 'step_size': STEP, **options})


def made(method: PinMemory, domains: list[int]) -> tuple[Context, Batch]:
    torch.manual_seed(0)
    model = method.adapt(create('deeplabv3plus_compact'))
    state = method.make_state(model)
    for part in (model, state):
        part.double().eval()
    images = torch.randint(0, 256, (len(domains), 64, 64, 3), dtype=torch.uint8)
    labels = torch.randint(0, 3, (len(domains), 4, 4)).repeat_interleave(8, 1)
    labels = labels.repeat_interleave(8, 2)
    batch = Batch(images, labels, 1, {}, torch.tensor(domains))
    return Context(model, state, None, None, lambda values: values), batch


def seen_by(model: SegmentationModel, images: Tensor) -> Tensor:
    normalized: Tensor = Normalize(model.input_scale)(images)
    return normalized.double()


def step(method: PinMemory, context: Context, batch: Batch, seed: int = 0) -> dict[str, Tensor]:
    size = (batch.labels.shape[1], batch.labels.shape[2])
    prediction = context.model(seen_by(context.model, batch.images), size)
    torch.manual_seed(seed)
    return method.losses(prediction, batch, context)


def memory_of(model: nn.Module) -> ClassMemory:
    memory = model.get_submodule('aspp.memory')
    assert isinstance(memory, ClassMemory)
    return memory


def total_of(parts: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(parts.values())).sum()


def test_pixels_recall_items_by_likeness() -> None:
    torch.manual_seed(0)
    memory = ClassMemory(3, 4).double().eval()
    memory.join = nn.Identity()  # type: ignore[assignment]
    feature = torch.randn(1, 4, 2, 2, dtype=torch.float64)
    found = memory(feature)
    assert memory.noted.take() is feature
    for y in range(2):
        for x in range(2):
            query = feature[0, :, y, x] / feature[0, :, y, x].norm()
            weights = torch.stack([item @ query for item in memory.items]).softmax(0)
            recalled = sum(w * item for w, item in zip(weights, memory.items, strict=True))
            joined = torch.cat([query, torch.as_tensor(recalled)])
            torch.testing.assert_close(found[0, :, y, x], joined, rtol=1e-6, atol=1e-9)


def test_memory_is_written_once_whole_and_then_moves() -> None:
    method = method_of(episodes=False)
    context, batch = made(method, [0, 0])
    memory = memory_of(context.model)
    first = memory.items.clone()
    step(method, context, batch)
    assert memory.written.tolist() == [True] * 3 + [False] * 16
    assert torch.equal(memory.items[3:], first[3:])
    prediction = context.model(seen_by(context.model, batch.images), (32, 32))
    assert prediction.auxiliary is not None and context.state is not None
    embeddings = context.state.get_submodule('writing')(prediction.auxiliary['recalled_by'])
    sums, before = class_sums(embeddings, batch.labels, 19), memory.items.clone()
    means = sums.sums.sum(0)[:3]
    # All of the mean, as the pyramid does not read the memory that it feeds.
    torch.testing.assert_close(before[:3], means / means.norm(dim=1, keepdim=True))
    step(method, context, batch)
    momentum = torch.where(memory.written, 0.8, 0).double()
    torch.testing.assert_close(memory.items, written(before, sums, momentum))


def test_an_episode_is_what_its_parts_are_by_hand() -> None:
    method = method_of(tested='one')
    context, batch = made(method, [0, 0, 1, 1])
    model, state = context.model, context.state
    assert state is not None
    untouched = copy.deepcopy((model, state))
    found = step(method, context, batch, seed=1)
    learning = [*model.parameters(), *state.parameters()]
    gradients = torch.autograd.grad(total_of(found), learning, allow_unused=True)
    fits = []
    for domain in (0, 1):
        parts, expected = by_hand(copy.deepcopy(untouched), batch, batch.domains == domain)
        if torch.allclose(found['cross_entropy'], parts['cross_entropy'], rtol=1e-9):
            fits.append(domain)
            assert found.keys() == parts.keys()
            for name, value in parts.items():
                assert found[name].item() == pytest.approx(value.item(), rel=1e-6), name
            for own, other in zip(gradients, expected, strict=True):
                assert (own is None) == (other is None)
                if own is not None and other is not None:
                    torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-9)
    assert len(fits) == 1


def by_hand(
    parts: tuple[SegmentationModel, nn.Module], batch: Batch, tested: Tensor
) -> tuple[dict[str, Tensor], list[Tensor | None]]:
    """Return losses and gradients of an episode, with parameters that are moved in place."""
    model, state = parts
    plain = method_of(episodes=False)
    training = batch._replace(labels=batch.labels.masked_fill(tested[:, None, None], VOID))
    context = Context(model, state, None, None, lambda values: values)
    learning = [*model.parameters(), *state.parameters()]
    items = memory_of(model).items.clone()
    losses = step(plain, context, training)
    first = torch.autograd.grad(total_of(losses), learning, allow_unused=True, retain_graph=True)
    memory = memory_of(model)
    with torch.no_grad():
        memory.items.copy_(items)
        memory.written.zero_()
        features = model(seen_by(model, batch.images), (32, 32)).auxiliary
        for parameter, gradient in zip(learning, first, strict=True):
            if gradient is not None:
                parameter.sub_(STEP * gradient)
    assert features is not None
    embeddings = state.get_submodule('writing')(features['recalled_by'])
    sums = class_sums(embeddings, training.labels, 19)
    new = written(items, sums, torch.zeros(19, dtype=torch.float64))
    memory._buffers['items'] = new
    shown = batch.moved(lambda values: values[tested])
    prediction = model(seen_by(model, shown.images), (32, 32))
    reading = plain._reading(prediction, shown, new, context)
    meta = {f'meta_test_{name}': loss for name, loss in reading.items()}
    second = torch.autograd.grad(total_of(meta), learning, allow_unused=True)
    joined = [
        two if one is None else one if two is None else one + two
        for one, two in zip(first, second, strict=True)
    ]
    return {**losses, **meta}, joined


@pytest.mark.parametrize('domains', [[1], [0, 2]])
def test_missing_domains_and_labels_are_finite(domains: list[int]) -> None:
    method = method_of()
    context, batch = made(method, domains)
    parts = step(method, context, batch._replace(labels=torch.full_like(batch.labels, VOID)))
    assert ('meta_test_reading' in parts) == (len(domains) > 1)
    gradients = torch.autograd.grad(
        total_of(parts), list(context.model.parameters()), allow_unused=True
    )
    assert total_of(parts).isfinite()
    assert all(g.isfinite().all() for g in gradients if g is not None)


def test_what_has_no_pyramid_is_refused_in_one_line() -> None:
    model: Any = nn.Identity()
    with pytest.raises(MultishiftError) as caught:
        method_of().check_network(model, 'segformer_b0')
    assert str(caught.value) == (
        'method pin_memory puts its memory behind the pyramid of a DeepLab, which segformer_b0 '
        'lacks: choose a deeplabv3plus network'
    )
