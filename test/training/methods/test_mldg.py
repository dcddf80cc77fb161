# SPDX-License-Identifier: Apache-2.0
"""Episodes over domains: values, gradients, draws, and what is at the edge."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import copy
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from multishift_perception.classes import VOID
from multishift_perception.engine.verification import verify
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch, TrainingData
from multishift_training.export import build
from multishift_training.loop.config import TrainConfig
from multishift_training.loop.devices import gathered, make_fabric
from multishift_training.loop.train import train
from multishift_training.methods import Context
from multishift_training.methods.mldg import Mldg
from multishift_training.models import Prediction, SegmentationModel, create
from multishift_training.models.input_scale import IMAGENET, Normalize

STEP, WEIGHT = 0.7, 0.6


def method_of(**options: object) -> Mldg:
    return Mldg.model_validate({'kind': 'mldg', 'step_size': STEP, 'weight': WEIGHT, **options})


class Tiny(SegmentationModel):
    """Two layers, smooth, so that differences tell its gradients."""

    input_scale = IMAGENET

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3, padding=1)
        self.classifier: nn.Module = nn.Conv2d(4, 3, 1)

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        feature = self.backbone(image).tanh()
        logits = self.classifier(feature)
        return Prediction(logits, logits[:, 0], feature)


def made(domains: list[int]) -> tuple[Tiny, Batch]:
    torch.manual_seed(0)
    model = Tiny().double()
    images = torch.randint(0, 256, (len(domains), 8, 8, 3), dtype=torch.uint8)
    labels = torch.randint(0, 3, (len(domains), 8, 8))
    labels[:, 0] = VOID
    return model, Batch(images, labels, 1, {}, torch.tensor(domains))


def step(method: Mldg, model: SegmentationModel, batch: Batch, seed: int) -> dict[str, Tensor]:
    context = Context(model, None, None, None, lambda values: values)
    prediction = model(seen_by(model, batch.images))
    torch.manual_seed(seed)
    return method.losses(prediction, batch, context)


def total_of(parts: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(parts.values())).sum()


def seen_by(model: SegmentationModel, images: Tensor) -> Tensor:
    normalized: Tensor = Normalize(model.input_scale)(images)
    return normalized.to(next(model.parameters()))


def reference(model: Tiny, batch: Batch, tested: int, second_order: bool) -> tuple[Tensor, Tensor]:
    """Return both losses where one domain is tested, by hand."""
    images = seen_by(model, batch.images)
    one, two = list(model.backbone.parameters()), list(model.classifier.parameters())

    def loss(parameters: list[Tensor], rows: Tensor) -> Tensor:
        feature = F.conv2d(images[rows], *parameters[:2], padding=1).tanh()
        logits = F.conv2d(feature, *parameters[2:])
        return F.cross_entropy(logits, batch.labels[rows], ignore_index=VOID)

    rows = batch.domains == tested
    training = loss([*one, *two], ~rows)
    gradients = torch.autograd.grad(training, [*one, *two], create_graph=second_order)
    moved = [p - STEP * g for p, g in zip([*one, *two], gradients, strict=True)]
    if not second_order:
        training = loss([*one, *two], ~rows)
    return training, WEIGHT * loss(moved, rows)


@pytest.mark.parametrize('second_order', [False, True])
def test_an_episode_is_what_the_paper_writes(second_order: bool) -> None:
    method = method_of(second_order=second_order, tested='one')
    model, batch = made([0, 0, 1, 1, 2, 2])
    parameters = list(model.parameters())
    tested = []
    for seed in range(8):
        found = step(method, model, batch, seed)
        expected = [reference(model, batch, domain, second_order) for domain in range(3)]
        values = torch.stack(list(found.values()))
        [domain] = [
            i
            for i, both in enumerate(expected)
            if torch.allclose(values, torch.stack(both), rtol=1e-9)
        ]
        tested.append(domain)
        gradients = [
            torch.autograd.grad(torch.stack(parts).sum(), parameters)
            for parts in (list(found.values()), list(expected[domain]))
        ]
        for own, others in zip(*gradients, strict=True):
            torch.testing.assert_close(own, others, rtol=1e-6, atol=1e-9)
    assert set(tested) == {0, 1, 2}


def test_second_order_is_the_slope_of_the_total() -> None:
    method = method_of(second_order=True)
    model, batch = made([0, 1])
    parameters = list(model.parameters())

    def total() -> Tensor:
        return total_of(step(method, model, batch, 1))

    gradients = torch.autograd.grad(total(), parameters)
    torch.manual_seed(3)
    way = [torch.randn_like(p) for p in parameters]
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, w in zip(parameters, way, strict=True):
                p.add_(w, alpha=sign * 1e-5)
        ends.append(float(total().detach()))
        with torch.no_grad():
            for p, w in zip(parameters, way, strict=True):
                p.sub_(w, alpha=sign * 1e-5)
    slope = sum(float((g * w).sum()) for g, w in zip(gradients, way, strict=True))
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)
    first_order = method_of()
    other = torch.autograd.grad(total_of(step(first_order, model, batch, 1)), parameters)
    assert not torch.allclose(other[0], gradients[0], rtol=1e-3)


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
        # What comes back is the sum of all processes' gradients, which are alike.
        return 2 * joined - joined.detach() if sync_grads else joined


def test_two_processes_take_the_step_of_one() -> None:
    method = method_of(tested='one')
    model, batch = made([0, 0, 1, 1])
    models = [copy.deepcopy(model) for _ in range(2)]
    meeting, brought = Barrier(2), [torch.empty(0)] * 2

    def run_share(rank: int) -> dict[str, Tensor]:
        process: Any = Process(rank, meeting, brought)
        share = batch.moved(lambda values: values[rank::2])
        own = models[rank]
        context = Context(own, None, None, None, lambda values: gathered(process, values, 1))
        return method.losses(own(seen_by(own, share.images)), share, context)

    order = torch.tensor([0, 1])  # threads share torch's random state
    tested = step_with(order, method, model, batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, 'randperm', lambda count: order)
        with ThreadPoolExecutor(2) as threads:
            shares = list(threads.map(run_share, range(2)))
    expected = torch.autograd.grad(total_of(tested), list(model.parameters()))
    gradients = [
        torch.autograd.grad(total_of(parts), list(own.parameters()), retain_graph=True)
        for parts, own in zip(shares, models, strict=True)
    ]
    for name, value in tested.items():
        assert all(parts[name].item() == pytest.approx(value.item(), rel=1e-9) for parts in shares)
    for one, *others in zip(expected, *gradients, strict=True):
        torch.testing.assert_close(sum(others) / 2, one, rtol=1e-6, atol=1e-9)


def step_with(
    order: Tensor, method: Mldg, model: SegmentationModel, batch: Batch
) -> dict[str, Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, 'randperm', lambda count: order)
        return step(method, model, batch, 0)


def test_the_loop_lets_it_differentiate_in_mixed_precision() -> None:
    model, batch = made([0, 0, 1, 1])
    fabric = make_fabric('bf16')
    own = model.float()
    wrapped, _ = fabric.setup(own, torch.optim.SGD(own.parameters(), 0.1))
    context = Context(own, None, None, None, lambda values: values, fabric.autocast)
    prediction = wrapped(seen_by(own, batch.images))
    found = []
    own.register_forward_hook(lambda model, images, prediction: found.append(prediction))
    total = total_of(method_of(second_order=True).losses(prediction, batch, context))
    fabric.backward(total)
    assert [prediction.logits.dtype for prediction in found] == [torch.bfloat16]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in own.parameters())


@pytest.mark.parametrize('domains', [[0], [1, 1], [0, 2]])
def test_missing_domains_and_labels_are_finite(domains: list[int]) -> None:
    model, batch = made(domains)
    for labels in (batch.labels, torch.full_like(batch.labels, VOID)):
        parts = step(method_of(), model, batch._replace(labels=labels), 0)
        total = total_of(parts)
        gradients = torch.autograd.grad(total, list(model.parameters()))
        assert total.isfinite() and all(g.isfinite().all() for g in gradients)


def test_statistics_are_those_of_the_weights_that_stay() -> None:
    torch.manual_seed(0)
    model = create('deeplabv3plus_compact')
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    batch = Batch(images, torch.zeros(4, 64, 64).long(), 1, {}, torch.tensor([0, 0, 1, 1]))
    prediction = model(seen_by(model, batch.images))
    before = [buffer.clone() for buffer in model.buffers()]
    context = Context(model, None, None, None, lambda values: values)
    method_of().losses(prediction, batch, context)
    assert all(map(torch.equal, before, model.buffers()))
    with pytest.raises(MultishiftError) as caught:
        step(method_of(), model, batch.moved(lambda values: values[1:3]), 0)
    assert str(caught.value) == (
        'method mldg shows the network one image, of which a batch norm gets one value per '
        'channel: set batch_size to 4 or more for each process, or batch_norm to frozen'
    )


def test_one_domain_and_mask_networks_are_refused_in_one_line() -> None:
    drive = {'kind': 'sample_drive', 'split': 'train', 'frames': 8, 'seed': 1}
    data = {'images': drive, 'transforms': {'kind': 'zoom_crop', 'crop': [64, 64]}}
    with pytest.raises(MultishiftError, match='data.images are one: give a list of two or more'):
        method_of().check_data(TrainingData.model_validate(data))
    model = Tiny()
    method_of().check_network(model, 'tiny')
    model.classifier = nn.Linear(4, 3)  # of queries
    with pytest.raises(MultishiftError, match='which masks is not: choose another network'):
        method_of().check_network(model, 'masks')


@pytest.mark.slow
@pytest.mark.usefixtures('one_thread')
def test_stopped_after_every_step_ends_as_if_it_never_had_been_and_becomes_a_bundle(
    two_domains: Callable[..., dict[str, Any]],
    new_folder: Callable[[], Path],
    train_in_parts: Callable[[TrainConfig, Path], int],
    tmp_path: Path,
) -> None:
    stage = {
        'name': 'mldg',
        'epochs': 1,
        'trainable': ['*'],
        'batch_norm': 'trained',
        'method': {'kind': 'mldg', 'step_size': STEP, 'weight': WEIGHT},
        'optimizer': {'learning_rate': 1e-2},
    }
    content = two_domains(stages=[stage], batch_size=4, monitor='miou')
    for domain in (content['data'], content['data']['images'][0]):
        del domain['partners']
    config = TrainConfig.model_validate(content)
    whole, stopped = new_folder(), new_folder()
    train(config, whole, root=Path())
    assert train_in_parts(config, stopped) > 1
    one, two = (
        pytree.tree_leaves(torch.load(path / 'last.pt', weights_only=True)['model'])
        for path in (whole, stopped)
    )
    assert all(map(torch.equal, one, two)) and len(one) == len(two)
    manifest = build(whole / 'best.safetensors', tmp_path / 'engine', targets=['torch'])
    assert [verdict.state for verdict in verify(tmp_path / 'engine')] == ['right']
    assert manifest.method == 'mldg'
