# SPDX-License-Identifier: Apache-2.0
"""WildNet: whose styles images are seen in, what is remembered, and what is at the edge."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import copy
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from multishift_perception.classes import VOID
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch, TrainingData
from multishift_training.loop.devices import gathered
from multishift_training.methods import Context
from multishift_training.methods.wildnet import WildNet
from multishift_training.models import SegmentationModel, create
from multishift_training.models.input_scale import Normalize
from multishift_training.models.wildnet import Contents, in_styles, noting_styles, styled


def method_of(**options: object) -> WildNet:
    small = {'grid': 4, 'wild_grid': 2, 'contents': 20, 'width': 8}
    return WildNet.model_validate({'kind': 'wildnet', 'sources': 2, **small, **options})


def made(method: WildNet, domains: list[int]) -> tuple[Context, Batch]:
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


def step(method: WildNet, context: Context, batch: Batch) -> dict[str, Tensor]:
    return method.losses(seen(context.model, batch.images), batch, context)


def seen(model: SegmentationModel, images: Tensor) -> Any:
    return model(Normalize(model.input_scale)(images).double(), (32, 32))


def contents_of(context: Context) -> Contents:
    assert isinstance(context.state, Contents)
    return context.state


def test_features_take_the_statistics_of_a_style() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    mean, deviation = torch.randn(2, 3, 1, 1).double(), torch.rand(2, 3, 1, 1).double() + 1
    found = styled(x, (mean, deviation))
    for b in range(2):
        for c in range(3):
            plain = x[b, c]
            spread = (((plain - plain.mean()) ** 2).sum() / 19 + 1e-5).sqrt()
            by_hand = (plain - plain.mean()) / spread * deviation[b, c] + mean[b, c]
            torch.testing.assert_close(found[b, c], by_hand, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ('domains', 'wild', 'partner'),
    [
        ([0, 0, 1, 1], [0, 1, 2, 3], [2, 3, 0, 1]),  # of the other source
        ([0, 1, 2, 3], [2, 3], [0, 1]),  # of wild domains
        ([0, 1, 2], [2], [0, 0]),
        ([0, 0], [0, 1], [1, 0]),
    ],
)
def test_styles_and_contents_are_of_the_wild(
    domains: list[int], wild: list[int], partner: list[int]
) -> None:
    method = method_of()
    context, batch = made(method, domains)
    model, before = context.model, contents_of(context).contents.clone()
    own = [i for i, domain in enumerate(domains) if domain < 2]
    found = step(method, context, batch)
    styles: dict[str, tuple[Tensor, Tensor]] = {}
    with torch.no_grad(), noting_styles(model, styles):
        there = seen(model, batch.images[wild])
    turned = {name: (m[partner], d[partner]) for name, (m, d) in styles.items()}
    with in_styles(model, turned):
        other = seen(model, batch.images[own])
    cross_entropy = nn.functional.cross_entropy(other.logits, batch.labels[own])
    assert found['style'].item() == pytest.approx(cross_entropy.item(), rel=1e-9)
    assert found['style'] != found['cross_entropy']
    assert all(value > 0 for value in found.values())
    count = 4 * len(wild)
    state = contents_of(context)
    embedded = state(there.feature, 2).flatten(0, 1)
    torch.testing.assert_close(state.contents[:count], embedded)
    assert torch.equal(state.contents[count:], before[count:])
    assert state.place == count


def test_the_oldest_contents_go_first() -> None:
    state = Contents(4, 2, 5)
    for start in (0, 3):
        state.remember(torch.arange(start, start + 3.0)[:, None].expand(-1, 2))
    assert state.contents[:, 0].tolist() == [5, 1, 2, 3, 4]
    assert state.place == 1
    state.remember(torch.arange(10.0, 17)[:, None].expand(-1, 2))  # more than there is room for
    assert sorted(state.contents[:, 0].tolist()) == [12, 13, 14, 15, 16]
    assert set(state.state_dict()) >= {'contents', 'place'}  # which a run saves


class Process:
    """Stands for Fabric in one of two processes, which are threads here."""

    world_size = 2

    def __init__(self, rank: int, meeting: Barrier, brought: list[Tensor]) -> None:
        self._rank, self._meeting, self._brought = rank, meeting, brought

    def all_gather(self, values: Tensor, *, sync_grads: bool) -> Tensor:
        self._brought[self._rank] = values
        self._meeting.wait(timeout=60)
        joined = torch.stack(self._brought)
        self._meeting.wait(timeout=60)
        return joined


def test_two_processes_say_what_one_does() -> None:
    method = method_of(sources=2)
    context, batch = made(method, [0, 0, 1, 1, 2, 2])
    contexts = [copy.deepcopy(context[:2]) for _ in range(2)]
    whole = step(method, context, batch)
    meeting, brought = Barrier(2), [torch.empty(0)] * 2

    def run_share(rank: int) -> dict[str, Tensor]:
        process: Any = Process(rank, meeting, brought)
        gather = lambda values: gathered(process, values, 1)  # noqa: E731
        share = batch.moved(lambda values: values[rank::2])
        return step(method, Context(*contexts[rank], None, None, gather), share)

    with ThreadPoolExecutor(2) as threads:
        shares = list(threads.map(run_share, range(2)))
    for parts, (_, state) in zip(shares, contexts, strict=True):
        for name, value in whole.items():
            assert parts[name].item() == pytest.approx(value.item(), rel=1e-9), name
        assert isinstance(state, Contents)
        # Of the same images, in another order.
        one, two = (s.contents[:8].sort(0).values for s in (contents_of(context), state))
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize('domains', [[0], [2, 3], [1, 2]])
def test_missing_domains_and_labels_are_finite(domains: list[int]) -> None:
    method = method_of()
    context, batch = made(method, domains)
    parts = step(method, context, batch._replace(labels=torch.full_like(batch.labels, VOID)))
    assert list(parts) == ['cross_entropy', 'style', 'content', 'consistency']
    total = torch.stack(list(parts.values())).sum()
    gradients = torch.autograd.grad(total, list(context.model.parameters()), allow_unused=True)
    assert total.isfinite()
    assert all(g.isfinite().all() for g in gradients if g is not None)


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    drive = {'kind': 'sample_drive', 'split': 'train', 'frames': 8, 'seed': 1}
    data = TrainingData.model_validate(
        {'images': drive, 'transforms': {'kind': 'zoom_crop', 'crop': [64, 64]}}
    )
    method_of(sources=1).check_data(data)
    with pytest.raises(MultishiftError, match='data.images are 1 domain: set sources to 1 or'):
        method_of().check_data(data)
    model: Any = nn.Identity()
    with pytest.raises(MultishiftError, match='which segformer_b0 lacks: choose a deeplabv3plus'):
        method_of().check_network(model, 'segformer_b0')
