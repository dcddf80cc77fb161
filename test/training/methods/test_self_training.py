# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
import torch
from torch import Tensor, nn

from multishift_perception.classes import CITYSCAPES, NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch, Sample
from multishift_training.datasets.groups import membership
from multishift_training.datasets.kinds.lums_road import LumsRoadData
from multishift_training.loop.config import TrainConfig
from multishift_training.loop.train import train
from multishift_training.methods import Context
from multishift_training.methods.self_training import SelfTraining, classes_in_groups, follow
from multishift_training.models import Prediction
from multishift_training.models.input_scale import InputScale

C = len(CITYSCAPES)
REST = C  # the only group of LUMS Road: neither road nor sidewalk
GROUP = torch.from_numpy(membership(LumsRoadData(kind='lums_road', split='train').groups))


class Teacher(nn.Module):
    """Sees class 10 in bright pixels, 2 in dark ones, and road everywhere most of all."""

    input_scale = InputScale(mean=(0, 0, 0), std=(1, 1, 1))

    steps: Tensor

    def __init__(self, certainty: float = 20.0) -> None:
        super().__init__()
        self.certainty = nn.Parameter(torch.tensor(certainty))
        self.register_buffer('steps', torch.tensor(0))

    def forward(self, images: Tensor, size: tuple[int, int] | None = None) -> Any:
        assert not self.training
        bright = images[:, 0] > 0.5
        logits = torch.zeros(len(images), C, *images.shape[2:], dtype=torch.float64)
        logits[:, 10] = bright * self.certainty.double()
        logits[:, 2] = ~bright * self.certainty.double()
        logits[:, 0] = 100
        return SimpleNamespace(logits=logits)


def batch(labels: Tensor, plain: Tensor, images: Tensor | None = None) -> Batch:
    images = torch.zeros_like(plain) if images is None else images
    return Batch(images, labels, 1, {'plain': plain}, torch.zeros(len(labels)))


def cross_entropy(logits: Tensor, label: int) -> Tensor:
    """Of one pixel, by definition; of a group, of all its classes together."""
    probabilities = logits.exp() / logits.exp().sum()
    allowed = GROUP[label - C] if label >= C else torch.arange(C) == label
    return -probabilities[allowed].sum().log()


@pytest.mark.parametrize('certainty', [20.0, 0.1])
def test_coarse_labels_become_the_teachers_classes_where_it_is_sure(certainty: float) -> None:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, C, 2, 3, generator=g, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[[0, REST, REST], [NOVEL, VOID, 1]], [[0, 1, 1], [1, 1, 4]]])
    plain = torch.zeros(2, 2, 3, 3, dtype=torch.uint8)
    plain[0, 0, 1] = 255
    method = SelfTraining(kind='self_training', weight=0.5)
    teacher = Teacher(certainty)
    state = method.make_state(teacher)  # type: ignore[arg-type]
    entered = []

    @contextmanager
    def precision() -> Iterator[None]:
        entered.append('in')
        yield
        entered.append('out')

    context = Context(teacher, state, None, GROUP, lambda values: values, precision)  # type: ignore[arg-type]
    found = method.losses(Prediction(logits, logits[:, 0], logits), batch(labels, plain), context)

    assert entered == ['in', 'out']
    taught = {(0, 0, 1): 10, (0, 0, 2): 2} if certainty == 20 else {}
    total = torch.tensor(0.0, dtype=torch.float64)
    for image, row, column in np.ndindex(2, 2, 3):
        place = (image, row, column)
        label = taught.get(place, int(labels[place]))
        if label < NOVEL:
            pixel = logits[image, :, row, column]
            total = total + (0.5 if place in taught else 1) * cross_entropy(pixel, label)
    wanted = total / 10
    assert found['cross_entropy'].item() == pytest.approx(wanted.item(), rel=1e-9)
    [gradient] = torch.autograd.grad(found['cross_entropy'], logits)
    [expected] = torch.autograd.grad(wanted, logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_classes_are_of_the_group_alone() -> None:
    logits = torch.zeros(1, C, 1, 1)
    logits[:, 0] = 9  # road, which the group rules out
    logits[:, 5] = 3
    classes, sure = classes_in_groups(logits, torch.full((1, 1, 1), REST), GROUP)
    others = int(GROUP[0].sum()) - 1
    assert classes.item() == 5
    assert sure.item() == pytest.approx(np.exp(3) / (np.exp(3) + others), rel=1e-5)


def test_teacher_follows_the_network() -> None:
    teacher, model = Teacher(1.0), Teacher(3.0)
    model.steps += 7
    follow(teacher, model, torch.tensor(0.75))
    assert teacher.certainty.item() == 1.5
    assert teacher.steps == 7


def test_teacher_starts_as_the_network_of_its_first_step() -> None:
    method = SelfTraining(kind='self_training', momentum=0.6)
    state = method.make_state(Teacher(1.0))  # type: ignore[arg-type]
    labels = torch.full((1, 1, 1), REST)
    seen = []
    for certainty in (4.0, 6.0, 8.0):
        context = Context(Teacher(certainty), state, None, GROUP, lambda values: values)  # type: ignore[arg-type]
        logits = torch.zeros(1, C, 1, 1)
        prediction = Prediction(logits, logits[:, 0], logits)
        method.losses(prediction, batch(labels, torch.zeros(1, 1, 1, 3)), context)
        seen.append(state.get_parameter('teacher.certainty').item())
    assert seen == pytest.approx([4, 5, 0.6 * 5 + 0.4 * 8])


def test_only_images_with_coarse_labels_change_their_look() -> None:
    method = SelfTraining(kind='self_training', strong_color=1)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    labels = np.zeros((2, 32, 32), np.uint8)
    fine = method.views(Sample(images, labels), np.random.default_rng(1))
    assert fine.images is images and fine.extras['plain'] is images
    labels[0, 0, 0] = REST
    coarse = method.views(Sample(images, labels), np.random.default_rng(1))
    assert coarse.extras['plain'] is images
    assert (coarse.images != images).any((1, 2, 3)).all()
    again = method.views(Sample(images, labels), np.random.default_rng(1))
    assert (coarse.images == again.images).all()


@pytest.mark.slow
@pytest.mark.usefixtures('one_thread')
def test_a_stopped_run_ends_as_if_it_never_had_been(
    content: Callable[..., dict[str, Any]],
    coarse: Path,
    new_folder: Callable[[], Path],
    train_in_parts: Callable[[TrainConfig, Path], int],
) -> None:
    stage = {
        'name': 'own',
        'epochs': 3,
        'trainable': ['*'],
        'method': {'kind': 'self_training', 'confidence': 0.06},
        'optimizer': {'learning_rate': 1e-2},
    }
    whole = content(batch_size=2, stages=[stage])
    whole['data']['images'] = {'kind': 'lums_road', 'root': str(coarse)}
    del whole['data']['partners']
    config = TrainConfig.model_validate(whole)
    run, stopped = new_folder(), new_folder()
    train(config, run, root=Path())
    assert train_in_parts(config, stopped) >= 2
    assert (run / 'log.jsonl').read_text() == (stopped / 'log.jsonl').read_text()
    states = [torch.load(x / 'last.pt', weights_only=True) for x in (run, stopped)]
    teachers = [state['methods']['self_training'] for state in states]
    assert teachers[0].keys() == teachers[1].keys() and teachers[0]['steps'] == 3
    assert all(torch.equal(teachers[0][key], teachers[1][key]) for key in teachers[0])
    name = next(iter(states[0]['model']))
    assert torch.equal(states[0]['model'][name], states[1]['model'][name])
    assert not any('teacher' in key for key in load_file(run / 'best.safetensors'))


def test_data_without_coarse_labels_are_refused() -> None:
    data: Any = SimpleNamespace(groups=())
    with pytest.raises(MultishiftError, match='lums_road'):
        SelfTraining(kind='self_training').check_data(data)
