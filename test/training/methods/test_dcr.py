# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from pydantic import ValidationError
import pytest
import torch

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_training import checkpoints
from multishift_training.checkpoints import trained
from multishift_training.datasets import Sample
from multishift_training.loop.config import TrainConfig
from multishift_training.loop.network import make_model
from multishift_training.loop.run_folder import RunFolder, State
from multishift_training.loop.trainable import small_batch
from multishift_training.methods import Context
from multishift_training.methods.dcr import Dcr, _log_probabilities, _overlap
from multishift_training.models import MaskPrediction, Prediction, SegmentationModel, create
from multishift_training.models.dcr import FrozenAttention

Content = dict[str, Any]


def method_of(**changes: object) -> Dcr:
    content = {'kind': 'dcr', 'crop': [48, 64], 'donors': 2, 'patches': [8, 24], 'width': 16}
    return Dcr.model_validate({**content, **changes})


def test_views_are_two_crops_with_patches_of_others() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 96, 128, 3), np.uint8)
    labels = rng.integers(0, 19, (3, 96, 128), np.uint8)
    others = list(zip(images[1:], labels[1:], strict=True))
    sample = Sample(images[:1], labels[:1], others=others)
    before = images.copy(), labels.copy()
    seen = method_of().views(sample, np.random.default_rng(3))
    assert seen.images.shape == (2, 48, 64, 3) and seen.labels.shape == (2, 48, 64)
    assert (seen.labels == NOVEL).any((1, 2)).all()
    assert seen.extras['overlap'].shape == (2, 4) and seen.extras['flipped'].shape == (2,)
    assert (images == before[0]).all() and (labels == before[1]).all()
    again = method_of().views(sample, np.random.default_rng(3))
    assert (again.images == seen.images).all()


def test_shared_parts_of_features_lie_on_each_other() -> None:
    """Of a feature that tells the column, whatever is mirrored."""
    feature = torch.arange(16.0).expand(1, 1, 12, 16)
    whole = _overlap(feature, rows=48, box=(0, 0, 48, 64), flip=False)
    assert torch.equal(whole, feature)
    part = _overlap(feature, rows=48, box=(4, 8, 24, 40), flip=False)
    mirrored = _overlap(feature.flip(-1), rows=48, box=(4, 24, 24, 56), flip=True)
    assert part.shape == (1, 1, 5, 8) and part[0, 0, 0, 0] == 2
    assert torch.equal(part, mirrored)
    assert _overlap(feature, rows=48, box=(4, 8, 5, 9), flip=False).shape == (1, 1, 1, 1)
    assert not _overlap(feature, rows=48, box=(9, 8, 5, 9), flip=False).numel()


@pytest.fixture(scope='module', params=['deeplabv3plus_compact', 'segformer_b0'])
def plain(request: pytest.FixtureRequest) -> SegmentationModel:
    torch.manual_seed(0)
    return create(request.param).eval()


@pytest.mark.parametrize('post_process', ['none', 'attention', 'blend'])
def test_the_closed_world_is_untouched_and_the_score_bounded(
    plain: SegmentationModel, post_process: str
) -> None:
    image = torch.randn(2, 3, 64, 96)
    model = deepcopy(plain)
    # As another method of the run would, whose losses read it.
    model.register_forward_hook(lambda _, __, said: said.with_auxiliary({'other': said.score}))
    model = method_of(post_process=post_process).adapt(model).eval()
    before, after = plain(image, (32, 48)), model(image, (32, 48))
    assert torch.equal(after.logits, before.logits)
    assert after.auxiliary is not None
    assert set(after.auxiliary) == {'other', 'calibrated', 'shared', 'related', 'logit'}
    assert after.score.shape == (2, 32, 48)
    assert after.score.min() > 0 and after.score.max() < 1
    added = set(model.state_dict()) - set(plain.state_dict())
    assert added and all(name.startswith('anomaly.') for name in added)
    torch.testing.assert_close(deepcopy(model)(image, (32, 48)).score, after.score)


def keep_weights(seen: list[torch.Tensor], module: Any, inputs: Any, output: Any) -> None:
    seen.append(output[1])


def kept(attention: FrozenAttention) -> torch.Tensor:
    assert attention.taken is not None
    return attention.taken


def test_attention_is_that_of_the_network() -> None:
    """Against what transformers computes, of a stage and of one that is coarser."""
    torch.manual_seed(0)
    model = create('segformer_b0').eval()
    image = torch.randn(1, 3, 92, 96)  # 23 rows of the finest stage: its cells leave 7 out
    for stage in (1, 3):
        inner = deepcopy(model)
        adapted = method_of(attention_stage=stage, similarity='attention').adapt(inner)
        adapted.eval()
        backbone: Any = inner.get_submodule('backbone')
        backbone.set_attn_implementation('eager')
        seen: list[torch.Tensor] = []
        for block in backbone.stages[stage - 1].blocks:
            block.attention.register_forward_hook(partial(keep_weights, seen))
        head: Any = adapted.get_submodule('anomaly')
        with patch.object(FrozenAttention, 'take', autospec=True, side_effect=kept) as taking:
            adapted(image)
        found = taking.call_args.args[0].taken
        assert head._attention.taken is found
        wanted = torch.stack([weights.mean(1) for weights in seen]).mean(0)
        assert torch.allclose(found.flatten(3).flatten(1, 2), wanted, atol=1e-6)


@pytest.mark.slow
def test_a_network_of_either_form_is_opened_and_resumed(
    content: Callable[..., Content], tmp_path: Path
) -> None:
    """MMSegmentation's decoder has other parts than a new network's, and the head goes with it."""
    stage = {'name': 'own', 'epochs': 1, 'trainable': ['anomaly']}
    stage |= {'method': {'kind': 'dcr', 'width': 16}, 'optimizer': {'learning_rate': 1}}
    run = content(model='segformer_b0', stages=[stage])
    config = TrainConfig.model_validate(run)
    model: Any = create('segformer_b0')
    (layout,) = [x for x in model.layouts() if x.signature == 'decoder.levels.0.norm.weight']
    assert layout.adapt is not None
    layout.adapt()
    method = config.stages[0].method
    state = dict(method.adapt(model).state_dict())
    best = tmp_path / 'best.safetensors'
    trained.save(best, model, config, {})
    opened = trained.open_trained(best).model.state_dict()
    runs = RunFolder(tmp_path, config, writes=False)
    resumed = make_model(config, tmp_path, runs, State(model=state)).state_dict()
    start = config.model_copy(update={'weights': str(best)})
    started = make_model(start, tmp_path, runs, State()).state_dict()
    for found in (opened, resumed, started):
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], value) for key, value in state.items())


def test_the_head_is_as_wide_as_the_form_has_it() -> None:
    with torch.device('meta'):
        wide: Any = create('segformer_b2')
        (layout,) = [x for x in wide.layouts() if x.signature == 'decoder.levels.0.norm.weight']
        assert layout.adapt is not None
        layout.adapt()
        new = create('segformer_b2')
        checkpoints.take_structure(new, wide.state_dict())
        model = method_of().adapt(new)
    assert model.get_submodule('anomaly.decoder.0.0').in_channels == 256


def test_similarities_are_mixed_by_other_shares_in_training() -> None:
    torch.manual_seed(0)
    plain = create('deeplabv3plus_compact').eval()
    image = torch.randn(1, 3, 64, 64)
    scores = []
    for alphas, weighted in (((1, 1), 'learned'), ((0, 0), 'frozen'), ((1, 0), 'learned')):
        torch.manual_seed(1)
        method = method_of(alphas=alphas, weighted=weighted)
        model = method.adapt(deepcopy(plain)).eval()
        scores.append(model(image).score)
    learned, same, frozen = scores
    assert torch.equal(learned, same) and not torch.equal(learned, frozen)
    torch.manual_seed(1)
    model = method_of(similarity='learned').adapt(deepcopy(plain)).eval()
    assert torch.equal(model(image).score, learned)


@pytest.mark.parametrize(
    ('changes', 'parts'),
    [
        ({}, {'discrepancy', 'novelty', 'dice', 'reconstruction'}),
        ({'discrepancy': 0, 'dice': 0, 'reconstruction': 0}, {'novelty'}),
        ({'calibrate': False}, {'discrepancy', 'novelty', 'dice', 'reconstruction'}),
    ],
)
def test_switches(changes: Content, parts: set[str]) -> None:
    torch.manual_seed(0)
    method = method_of(**changes)
    model = method.adapt(create('deeplabv3plus_compact'))
    state = method.make_state(model)
    has_calibration = any('calibration' in name for name in model.state_dict())
    assert has_calibration is method.calibrate
    batch = small_batch(method, 1)
    batch = batch._replace(labels=batch.labels.long())
    context = Context(model, state, None, None, lambda values: values)
    prediction = model(batch.images.permute(0, 3, 1, 2) / 255)
    found = method.losses(prediction, batch, context)
    assert set(found) == parts
    assert all(value.isfinite() and value.item() > 0 for value in found.values())


def test_probabilities_of_classes_are_those_of_either_network() -> None:
    logits = torch.tensor([[[[1.0]], [[3.0]], [[0.0]]]])
    prediction = Prediction(logits, logits[:, 0], logits)
    assert torch.equal(_log_probabilities(prediction), logits.log_softmax(1))
    masks = MaskPrediction(logits, logits, logits)
    found = _log_probabilities(prediction._replace(masks=masks)).exp()
    assert found.flatten().tolist() == pytest.approx([0.25, 0.75, 0], abs=1e-6)


def test_second_classifier_starts_as_the_network_s_own() -> None:
    model = create('deeplabv3plus_compact')
    state: Any = method_of(width=96).make_state(model)
    classifier: Any = model.get_submodule('classifier')
    assert torch.equal(state.known.weight, classifier.weight)


@pytest.mark.parametrize(
    ('changes', 'line'),
    [
        (
            {'partners': {'kind': 'pasted_weather'}},
            'method dcr makes two crops of each image itself: leave data.partners out',
        ),
        (
            {'outliers': {'kind': 'sample_objects', 'split': 'train'}},
            'method dcr makes what is novel of other training images: leave data.outliers out',
        ),
        (
            {'transforms': {'kind': 'zoom_crop', 'crop': [48, 64]}},
            'method dcr cuts two crops of [48, 64] from images of [48, 64]: set `crop` of '
            'data.transforms larger, or that of the method smaller',
        ),
    ],
)
def test_asks_of_data_in_one_line(
    changes: Content, line: str, content: Callable[..., Content]
) -> None:
    run = content()
    del run['data']['partners']
    run['data'] |= changes
    with pytest.raises(MultishiftError) as caught:
        method_of().check_data(TrainConfig.model_validate(run).data)
    assert str(caught.value) == line


def test_asks_of_the_network_in_one_line() -> None:
    with torch.device('meta'):
        model = create('deeplabv3plus_compact')
    method_of(similarity='feature').check_network(model, 'deeplabv3plus_compact')
    with pytest.raises(MultishiftError) as caught:
        method_of(similarity='attention').check_network(model, 'deeplabv3plus_compact')
    assert str(caught.value) == (
        'method dcr: similarity attention is that of a SegFormer, which deeplabv3plus_compact is '
        'not: set feature, or leave it out'
    )


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'crop': [50, 64]}, 'sides are multiples of 4'),
        ({'patches': [9, 8]}, '9 is above 8: give the smaller first'),
    ],
)
def test_wrong_configurations_are_told(changes: Content, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        method_of(**changes)
