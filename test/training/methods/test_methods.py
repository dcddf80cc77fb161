# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multishift_perception.classes import NOVEL, VOID
from multishift_training.datasets import Batch
from multishift_training.loop.devices import gathered
from multishift_training.losses.contrastive import Margins, relative_contrastive
from multishift_training.losses.masks import mask_losses
from multishift_training.losses.noise_aware import noise_aware_mean, pixel_cross_entropy
from multishift_training.losses.options import MaskWeights
from multishift_training.losses.sampled import sampled_contrastive
from multishift_training.methods import Context, Gather, Method
from multishift_training.methods.closed_world import ClosedWorld
from multishift_training.methods.masks import MaskLosses
from multishift_training.methods.max_entropy import MaxEntropy
from multishift_training.methods.multishift import MultiShift
from multishift_training.methods.pebal import Pebal
from multishift_training.methods.uno import Uno
from multishift_training.models import MaskPrediction, Prediction, SegmentationModel

C = 5


def alone(values: Tensor) -> Tensor:
    """The gather of a process that has no other."""
    return values


def batch(members: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits ``[4m,C,6,7]``, scores ``[4m,6,7]``, labels; in float64, to reorder sums."""
    g = torch.Generator().manual_seed(seed)
    shape = (4 * members, 6, 7)
    labels = torch.randint(0, C + 2, shape, generator=g)
    labels[labels == C] = NOVEL
    labels[labels == C + 1] = VOID
    logits = torch.randn(shape[0], C, *shape[1:], generator=g, dtype=torch.float64)
    return logits, torch.randn(shape, generator=g, dtype=torch.float64), labels


def losses_of(
    method: Method, class_weights: Tensor | None
) -> Callable[[Prediction, Tensor, Gather], dict[str, Tensor]]:
    """What a method computes of a prediction and its labels, given a gather."""

    def losses(prediction: Prediction, labels: Tensor, gather: Gather) -> dict[str, Tensor]:
        context = Context(MODEL, nn.Identity(), class_weights, None, gather)
        images = torch.zeros(*labels.shape, 3, dtype=torch.uint8)
        return method.losses(
            prediction, Batch(images, labels, 1, {}, torch.zeros(len(labels))), context
        )

    return losses


# A network of which losses want nothing but that it enlarges maps.
MODEL = SegmentationModel()  # type: ignore[abstract]


def predicted(logits: Tensor, score: Tensor) -> Prediction:
    """A prediction whose score is the logit of abstention and of the negative class too."""
    return Prediction(logits, score, score[:, None], auxiliary={'negative': score})


class TwoProcesses:
    """Stands for Fabric in the second of two processes, when what the first gathers is known."""

    world_size = 2

    def __init__(self, first: Iterator[Tensor]) -> None:
        self._first = first

    def all_gather(self, values: Tensor, *, sync_grads: bool) -> Tensor:
        assert sync_grads == values.requires_grad
        return torch.stack([next(self._first), values])


METHODS: dict[str, tuple[Method, int]] = {
    'closed world': (ClosedWorld(kind='closed_world'), 1),
    'closed world of pairs': (ClosedWorld(kind='closed_world'), 2),
    'multishift': (MultiShift(kind='multishift', margins=(1, 0.5, 0.3)), 2),
    'multishift, sampled': (
        MultiShift(kind='multishift', margins=(1, 0.5, 0.3), pairs='sampled', mean_over='valid'),
        2,
    ),
    'max_entropy': (MaxEntropy(kind='max_entropy'), 1),
    'max_entropy of pairs, means': (MaxEntropy(kind='max_entropy', mean_over='valid'), 2),
    'pebal': (Pebal(kind='pebal', margins=(-3, 0)), 1),
    'pebal of pairs': (Pebal(kind='pebal', margins=(-3, 0)), 2),
    'uno': (Uno(kind='uno'), 1),
    'uno of pairs': (Uno(kind='uno', negative=3), 2),
}
# Whose losses read the score, or what `predicted` has in its place.
READ_SCORES = (MultiShift, Pebal, Uno)


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('name', METHODS)
def test_shares_of_two_processes_give_the_losses_of_the_whole_batch(
    name: str, weighted: bool
) -> None:
    method, members = METHODS[name]
    class_weights = torch.linspace(0.5, 2, C, dtype=torch.float64) if weighted else None
    losses = losses_of(method, class_weights)
    logits, score, labels = batch(members)

    def gradients(of: dict[str, Tensor], leaves: list[Tensor]) -> tuple[Tensor, ...]:
        found = torch.autograd.grad(torch.stack([*of.values()]).sum(), leaves, allow_unused=True)
        pairs = zip(leaves, found, strict=True)
        return tuple(torch.zeros_like(x) if g is None else g for x, g in pairs)

    leaves = [logits.clone().requires_grad_(), score.clone().requires_grad_()]
    torch.manual_seed(3)
    whole = losses(predicted(*leaves), labels, alone)
    expected = gradients(whole, leaves)

    # As the loader shares a batch out: of each member, every second sample.
    shared = [
        [x.unflatten(0, (members, -1))[:, rank::2].flatten(0, 1) for x in (logits, score, labels)]
        for rank in (0, 1)
    ]
    parts = [[x.clone().requires_grad_() for x in share[:2]] for share in shared]
    gathers: list[Tensor] = []

    def note(values: Tensor) -> Tensor:
        gathers.append(values)
        return values

    losses(predicted(*parts[0]), shared[0][2], note)
    second = TwoProcesses(iter(gathers))
    torch.manual_seed(3)
    joined = losses(
        predicted(*parts[1]),
        shared[1][2],
        lambda values: gathered(second, values, members),  # type: ignore[arg-type]
    )
    assert joined.keys() == whole.keys()
    if 'sampled' not in name:  # whose draws go by the order of the pixels
        for key, value in whole.items():
            assert joined[key].item() == pytest.approx(value.item(), rel=1e-12), key
        found = gradients(joined, [*parts[0], *parts[1]])
        for i, gradient in enumerate(expected):
            by_rank = gradient.unflatten(0, (members, -1))
            for rank in (0, 1):
                own = by_rank[:, rank::2].flatten(0, 1)
                assert torch.allclose(found[2 * rank + i], own, rtol=1e-10, atol=1e-15)
    else:
        for key in (
            'cross_entropy_original',
            'cross_entropy_augmented',
            'contrastive_consistency',
        ):
            assert joined[key].item() == pytest.approx(whole[key].item(), rel=1e-12), key
    assert all(g.abs().sum() > 0 for g in expected[: 2 if isinstance(method, READ_SCORES) else 1])


def test_one_process_gathers_nothing() -> None:
    class Alone:
        world_size = 1

    values = torch.zeros(4, requires_grad=True)
    assert gathered(Alone(), values, 2) is values  # type: ignore[arg-type]


def test_closed_world_is_the_mean_over_known_pixels() -> None:
    logits, score, labels = batch(1)
    found = losses_of(ClosedWorld(kind='closed_world'), None)(
        predicted(logits, score), labels, alone
    )
    known = labels < NOVEL
    wanted = F.cross_entropy(logits.movedim(1, -1)[known], labels[known])
    assert found.keys() == {'cross_entropy'}
    assert found['cross_entropy'].item() == pytest.approx(wanted.item(), rel=1e-12)


def test_closed_world_weighs_classes() -> None:
    logits, score, labels = batch(1)
    weights = torch.linspace(0.5, 2, C, dtype=torch.float64)
    found = losses_of(ClosedWorld(kind='closed_world'), weights)(
        predicted(logits, score), labels, alone
    )
    known = labels < NOVEL
    log_share = logits.log_softmax(1).movedim(1, -1)[known]
    by_hand = [-weights[c] * row[c] for row, c in zip(log_share, labels[known], strict=True)]
    wanted = sum(by_hand) / len(by_hand)
    assert found['cross_entropy'].item() == pytest.approx(wanted.item(), rel=1e-12)


@pytest.mark.parametrize('name', METHODS)
def test_nothing_known_gives_zero(name: str) -> None:
    method, members = METHODS[name]
    logits, score, labels = batch(members)
    labels[:] = VOID
    leaf = logits.clone().requires_grad_()
    found = losses_of(method, None)(predicted(leaf, score), labels, alone)
    for part, value in found.items():
        assert value.item() == 0 or part == 'energy_smoothness'  # which is of all pixels


@pytest.mark.parametrize('images', [1, 2])
@pytest.mark.parametrize('left_out', ['known', 'novel', 'void', 'known and novel'])
@pytest.mark.parametrize('name', ['max_entropy', 'max_entropy of pairs, means', 'pebal', 'uno'])
def test_batches_that_lack_something_give_finite_gradients(
    name: str, left_out: str, images: int
) -> None:
    logits, score, labels = (part[:images].clone() for part in batch(1))
    if 'known' in left_out:
        labels[labels < NOVEL] = VOID
    if 'novel' in left_out:
        labels[labels == NOVEL] = VOID
    if 'void' in left_out:
        labels[labels == VOID] = 1
    leaves = [logits.requires_grad_(), score.requires_grad_()]
    found = losses_of(METHODS[name][0], None)(predicted(*leaves), labels, alone)
    total = torch.stack([*found.values()]).sum()
    assert total.isfinite()
    for gradient in torch.autograd.grad(total, leaves, allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


@pytest.mark.parametrize('pairs', ['all', 'sampled'])
@pytest.mark.parametrize('weights', [None, torch.linspace(0.5, 2, C, dtype=torch.float64)])
def test_multishift_weighs_its_parts(weights: Tensor | None, pairs: str) -> None:
    logits, score, labels = batch(2)
    method = MultiShift(
        kind='multishift',
        pairs=pairs,  # type: ignore[arg-type]
        margins=(1, 0.5, 0.3),
        third_term='paper',
        contrastive=3,
        segmentation=(7, 11),
        trusted_ratio=0.6,
    )
    torch.manual_seed(1)
    found = losses_of(method, weights)(predicted(logits, score), labels, alone)
    torch.manual_seed(1)
    compute: Callable[..., tuple[Tensor, ...]]
    compute = relative_contrastive if pairs == 'all' else sampled_contrastive
    contrastive = compute(score, labels, margins=Margins(1, 0.5, 0.3), third_term='paper')
    segmentation = noise_aware_mean(
        pixel_cross_entropy(logits, labels),
        labels,
        ratio=0.6,
        mean_over='all',
        class_weights=weights,
    )
    wanted = [3 * value for value in contrastive]
    wanted += [7 * segmentation.original, 11 * segmentation.augmented]
    names = [f'contrastive_{k}' for k in ('original', 'augmented', 'consistency')]
    names += ['cross_entropy_original', 'cross_entropy_augmented']
    assert list(found) == names
    for value, expected in zip(found.values(), wanted, strict=True):
        assert value.item() == pytest.approx(expected.item(), rel=1e-12)
        assert expected.item() > 0


@pytest.mark.parametrize(
    ('change', 'parts'),
    [
        ({'segmentation': (0, 0)}, {'contrastive'}),
        ({'contrastive': 0}, {'cross_entropy'}),
        ({}, {'contrastive', 'cross_entropy'}),
        ({'segmentation': (0, 1)}, {'contrastive', 'cross_entropy'}),
    ],
)
def test_weight_zero_leaves_a_part_out(change: dict[str, object], parts: set[str]) -> None:
    method = MultiShift.model_validate({'kind': 'multishift', 'margins': (1, 1, 1)} | change)
    logits, score, labels = batch(2)
    found = losses_of(method, None)(predicted(logits, score), labels, alone)
    assert {name.rpartition('_')[0] for name in found} == parts


def test_labels_are_gathered_once() -> None:
    logits, score, labels = batch(2)
    gathers: list[Tensor] = []

    def note(values: Tensor) -> Tensor:
        gathers.append(values)
        return values

    losses_of(METHODS['multishift'][0], None)(predicted(logits, score), labels, note)
    assert len(gathers) == 3  # with scores and cross-entropy
    assert sum(values is labels for values in gathers) == 1


WEIGHTS = MaskLosses(classification=2, mask=3, dice=5)


@pytest.mark.parametrize(
    ('method', 'ratio', 'images'),
    [
        (MultiShift(kind='multishift', margins=(1, 1, 1), contrastive=0, masks=WEIGHTS), 0.8, 4),
        (ClosedWorld(kind='closed_world', masks=WEIGHTS), None, 3),  # single images, all trusted
    ],
)
def test_mask_losses_take_the_place_of_cross_entropy(
    method: Method, ratio: float | None, images: int
) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, C, (images, 8, 8)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    masks = MaskPrediction(
        torch.randn(images, 9, C + 1), torch.randn(images, 9, C + 1), torch.randn(images, 9, 8, 8)
    )
    logits, score = torch.randn(images, C, 32, 32), torch.randn(images, 32, 32)
    prediction = Prediction(logits, score, labels, masks)
    weights = torch.linspace(1, 0.1, C + 1)
    torch.manual_seed(1)
    found = losses_of(method, weights)(prediction, labels, alone)
    torch.manual_seed(1)
    terms = mask_losses(
        masks, labels, class_weight=weights, ratio=ratio, weights=MaskWeights(2, 3, 5)
    )
    wanted = {
        'mask_classification': 2 * terms.classification.item(),
        'mask': 3 * terms.mask.item(),
        'mask_dice': 5 * terms.dice.item(),
    }
    assert {k: v.item() for k, v in found.items()} == pytest.approx(wanted)
    assert all(math.isfinite(value) and value > 0 for value in found.values())


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('name', METHODS)
def test_outputs_that_are_no_numbers_show_wherever_they_are(name: str, value: float) -> None:
    """Their pixels may count in no loss; the gradients they spoil all the same."""
    method, members = METHODS[name]
    losses = losses_of(method, None)
    logits, score, labels = batch(members)
    whole = torch.stack(list(losses(predicted(logits, score), labels, alone).values())).sum()
    assert whole.isfinite()
    for image in (0, len(labels) - 1):
        for label in (1, NOVEL, VOID):
            row, column = (labels[image] == label).nonzero()[0].tolist()
            spoiled = logits.clone()
            spoiled[image, 2, row, column] = value
            parts = losses(predicted(spoiled, score), labels, alone)
            assert not torch.stack(list(parts.values())).sum().isfinite()
            if isinstance(method, READ_SCORES):
                spoiled = score.clone()
                spoiled[image, row, column] = value
                parts = losses(predicted(logits, spoiled), labels, alone)
                assert not torch.stack(list(parts.values())).sum().isfinite()


@pytest.mark.parametrize('field', ['class_logits', 'mask_logits'])
def test_queries_that_are_no_numbers_show(field: str) -> None:
    """Points are drawn, and of those the largest losses left out."""
    labels = torch.zeros(2, 32, 32, dtype=torch.long)
    masks = MaskPrediction(
        torch.randn(2, 9, C + 1), torch.randn(2, 9, C + 1), torch.randn(2, 9, 8, 8)
    )
    getattr(masks, field)[1, 8].view(-1)[-1] = math.nan
    prediction = Prediction(torch.randn(2, C, 32, 32), torch.randn(2, 32, 32), labels, masks)
    method = MultiShift(kind='multishift', margins=(1, 1, 1), contrastive=0, masks=WEIGHTS)
    parts = losses_of(method, torch.ones(C + 1))(prediction, labels, alone)
    assert not torch.stack(list(parts.values())).sum().isfinite()
