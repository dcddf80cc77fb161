# SPDX-License-Identifier: Apache-2.0
"""A negative class and its score, beside sums over pixels and queries one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Mask2FormerConfig, ResNetConfig

from multishift_perception.classes import CITYSCAPES, NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_training import models
from multishift_training.checkpoints import load
from multishift_training.datasets import Batch
from multishift_training.methods import Context
from multishift_training.methods.masks import MaskLosses
from multishift_training.methods.uno import Uno
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.models.mask2former import Mask2Former
from multishift_training.models.mask2former_factory import mask2former_from_folder
from multishift_training.models.negative_class import uno_score
from multishift_training.models.segformer_layouts import Form

C = 4
PIXELS = Uno(kind='uno')
MASKS = Uno(kind='uno', masks=MaskLosses())


def alone(values: Tensor) -> Tensor:
    return values


@pytest.fixture(autouse=True, scope='module')
def seed_and_thread(one_thread: None) -> None:
    torch.manual_seed(0)


def by_pixel(
    logits: Tensor, labels: Tensor, weights: Tensor | None, groups: list[list[int]]
) -> tuple[Tensor, Tensor]:
    """The cross-entropy over ``C+1`` classes of known pixels and of outliers, over all of both."""
    known, novel = [], []
    for b, i, j in torch.cartesian_prod(*map(torch.arange, labels.shape)).tolist():
        share = logits[b, :, i, j].exp() / logits[b, :, i, j].exp().sum()
        label = int(labels[b, i, j])
        if label == NOVEL:
            novel.append(-share[C].log())
        elif label != VOID:
            any_of = [label] if label < C else groups[label - C]
            weight = 1 if weights is None else weights[label]
            known.append(-weight * torch.stack([share[c] for c in any_of]).sum().log())
    count = len(known) + len(novel)
    return torch.stack(known).sum() / count, torch.stack(novel).sum() / count


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('groups', [[], [[0, 2], [1, 3]]])
def test_losses_and_gradients_are_those_of_pixels_one_by_one(
    groups: list[list[int]], weighted: bool
) -> None:
    g = torch.Generator().manual_seed(0)
    leaf = torch.randn(2, C + 1, 4, 6, generator=g, dtype=torch.float64, requires_grad=True)
    values = torch.tensor([*range(C + len(groups)), NOVEL, VOID])
    labels = values[torch.randint(len(values), (2, 4, 6), generator=g)]
    weights = torch.linspace(0.5, 2, C + len(groups), dtype=torch.float64) if weighted else None
    table = torch.zeros(len(groups), C, dtype=torch.bool)
    for row, group in zip(table, groups, strict=True):
        row[group] = True
    nothing = torch.zeros(2)
    found = Uno(kind='uno', negative=3).losses(
        Prediction(leaf[:, :C], nothing, nothing, auxiliary={'negative': leaf[:, C]}),
        Batch(nothing, labels, 1, {}, nothing),
        Context(MODEL, None, weights, table if groups else None, alone),
    )
    known, novel = by_pixel(leaf, labels, weights, groups)
    wanted = {'cross_entropy': known, 'negative': 3 * novel}
    assert [*found] == [*wanted]
    for key, value in found.items():
        assert value.item() == pytest.approx(wanted[key].item(), rel=1e-9), key
        pair = [torch.autograd.grad(x, leaf, retain_graph=True)[0] for x in (value, wanted[key])]
        torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-12)


# Losses of pixel networks want nothing of it.
MODEL = SegmentationModel()  # type: ignore[abstract]


def test_the_score_is_the_negative_posterior_less_the_largest_known_one() -> None:
    logits = torch.randn(2, C + 1, 3, 4, dtype=torch.float64)
    found = uno_score(logits)
    for b, i, j in torch.cartesian_prod(*map(torch.arange, found.shape)).tolist():
        share = logits[b, :, i, j].exp() / logits[b, :, i, j].exp().sum()
        wanted = share[C] - max(share[:C].tolist())
        assert found[b, i, j].item() == pytest.approx(wanted.item(), abs=1e-12)
    sure = torch.tensor([[20.0, 0, 0], [0, 20, 0], [0, 0, 20]])[:, :, None, None]
    assert uno_score(sure).flatten().tolist() == pytest.approx([-1, -1, 1], abs=1e-6)


@pytest.mark.parametrize('name', ['deeplabv3plus_compact', 'segformer_b0'])
def test_pixel_networks_keep_their_labels_and_get_the_score(name: str) -> None:
    model = models.create(name).eval()
    image = torch.randn(1, 3, 64, 96)
    before = model(image)
    adapted = PIXELS.adapt(model).eval()
    after = adapted(image)
    # The negative logit starts at 0.
    torch.testing.assert_close(after.logits, before.logits)
    assert after.auxiliary is not None
    assert after.auxiliary['negative'].shape == (1, 64, 96)
    assert not after.auxiliary['negative'].any()
    nn.init.normal_(model.classifier.weight)  # type: ignore[arg-type]
    after = adapted(image)
    joint = model.classifier(after.feature)
    expected = model.enlarge(uno_score(joint)[:, None], (64, 96))[:, 0]
    torch.testing.assert_close(after.score, expected)
    torch.testing.assert_close(
        torch.cat([after.logits, after.auxiliary['negative'][:, None]], 1),
        model.enlarge(joint, (64, 96)),
    )


def test_a_network_of_another_form_keeps_what_was_added(tmp_path: Path) -> None:
    """Weights that began as MMSegmentation's are of its form, which the network takes to load."""
    trained, opened = (PIXELS.adapt(models.create('segformer_b0')) for _ in range(2))
    trained._adapt_to(Form.MMSEGMENTATION)
    nn.init.normal_(trained.classifier.weight)  # type: ignore[arg-type]
    save_file(
        {key: tensor.contiguous() for key, tensor in trained.state_dict().items()},
        tmp_path / 'trained.safetensors',
    )
    load(opened, tmp_path / 'trained.safetensors')
    image = torch.randn(1, 3, 32, 32)
    wanted, found = (model.eval()(image) for model in (trained, opened))
    assert found.logits.shape[1] == len(CITYSCAPES)
    assert torch.equal(found.score, wanted.score)
    joint = opened.classifier(found.feature)
    expected = opened.enlarge(uno_score(joint)[:, None], (32, 32))[:, 0]
    torch.testing.assert_close(found.score, expected)


@pytest.fixture(scope='module')
def small(tmp_path_factory: pytest.TempPathFactory) -> Mask2Former:
    """A mask network of some thousand parameters."""
    config = Mask2FormerConfig(  # type: ignore[call-arg]
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=4,
        num_queries=24,
        num_labels=len(CITYSCAPES),
    )
    config.backbone_config = ResNetConfig(  # type: ignore[call-arg]
        embedding_size=8,
        hidden_sizes=[8, 8, 8, 8],
        depths=[1, 1, 1, 1],
        out_features=['stage1', 'stage2', 'stage3', 'stage4'],
    )
    folder = tmp_path_factory.mktemp('small')
    config.save_pretrained(folder)
    return mask2former_from_folder(len(CITYSCAPES), folder=folder).eval()


@pytest.fixture(scope='module')
def adapted(small: Mask2Former) -> Mask2Former:
    """That network with a negative class whose weights are no longer 0."""
    classifier = small.classifier
    MASKS.adapt(small)
    weight = small.classifier.weight.detach()
    assert torch.equal(weight[:19], classifier.weight[:19])
    assert not weight[19].any()
    assert torch.equal(weight[20], classifier.weight[19])  # "no object" stays last
    assert small.class_weight.tolist() == pytest.approx([1] * 20 + [0.1])
    nn.init.normal_(small.classifier.weight, std=3)
    return small


def test_mask_networks_score_by_queries_and_masks(adapted: Mask2Former) -> None:
    """The arithmetic of the release, query by query in float64."""
    with torch.no_grad():
        found = adapted(torch.randn(1, 3, 45, 64))
    assert found.logits.shape == (1, 19, 45, 64)
    assert found.masks is not None
    large = F.interpolate(found.masks.mask_logits.double(), scale_factor=4, mode='bilinear')
    masks = large[0, :, :45, :64].sigmoid()
    score, logits = torch.zeros(45, 64).double(), torch.zeros(19, 45, 64).double()
    for query, mask in zip(found.masks.class_logits[0].double(), masks, strict=True):
        share = query.exp() / query.exp().sum()
        score += (share[19] - max(share[:19].tolist())) * mask
        for c in range(19):
            logits[c] += share[c] * mask
    torch.testing.assert_close(found.score[0].double(), score, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.logits[0].double(), logits, rtol=1e-4, atol=1e-4)
    assert found.score.std() > 1e-3


def test_mask_losses_learn_the_negative_class(adapted: Mask2Former) -> None:
    adapted.train()
    adapted.classes_first = True
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    labels[0, :32] = NOVEL
    labels[1, :, :32] = VOID
    prediction = adapted(torch.randn(2, 3, 64, 64))
    assert prediction.score.shape == (2, 64, 64)
    weights = MASKS.weights_of_classes(adapted, lambda: torch.ones(19))
    context = Context(adapted, None, weights, None, alone)
    torch.manual_seed(1)
    found = MASKS.losses(prediction, Batch(labels, labels, 1, {}, labels), context)
    total = torch.stack([*found.values()]).sum()
    (gradient,) = torch.autograd.grad(total, adapted.classifier.weight)
    assert gradient.isfinite().all()
    # Without outliers, no query is drawn towards the negative class.
    labels = labels.masked_fill(labels == NOVEL, VOID)
    prediction = adapted(torch.randn(2, 3, 64, 64))
    found = MASKS.losses(prediction, Batch(labels, labels, 1, {}, labels), context)
    total = torch.stack([*found.values()]).sum()
    prediction_gradient = torch.autograd.grad(total, prediction.masks.class_logits)[0]
    assert (prediction_gradient[..., 19] >= 0).all()
    adapted.eval()


def test_networks_and_losses_that_do_not_go_together(small: Mask2Former) -> None:
    with pytest.raises(MultishiftError) as caught:
        PIXELS.check_network(small, 'mask2former')
    assert str(caught.value) == (
        'method uno learns the masks of mask2former by their own losses: set method.masks, such '
        'as `masks: {}`'
    )
    with pytest.raises(MultishiftError, match=r'method\.masks is for mask networks'):
        MASKS.check_network(models.create('deeplabv3plus_compact'), 'deeplabv3plus_compact')
    MASKS.check_network(small, 'mask2former')


def test_mask_networks_are_exported_with_their_score(adapted: Mask2Former) -> None:
    image = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        program = torch.export.export(adapted, (image,), strict=False)
        found, wanted = program.module()(image), adapted(image)
    torch.testing.assert_close(found.score, wanted.score, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-4, atol=1e-5)
