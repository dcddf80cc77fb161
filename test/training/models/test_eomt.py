# SPDX-License-Identifier: Apache-2.0
"""EoMT against `transformers`, and against figures of the public code."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import EomtConfig, EomtForUniversalSegmentation

from multishift_perception.errors import MultishiftError
from multishift_training import checkpoints, models
from multishift_training.checkpoints import key_matching
from multishift_training.loop.config import Stage
from multishift_training.loop.trainable import check_reach, choose_trainable, small_batch
from multishift_training.methods import Context
from multishift_training.models.eomt import Eomt

# Every 113th mask logit and every 5th class logit that the public code gives, without masked
# attention, for the weights and the image below, and the ranges of all.
PUBLISHED_MASKS = [
    *(-2.354314, -1.998193, -0.3097946, 1.552981, -10.26991, -1.66699, -2.88765, 3.648184),
    *(-4.605023, -3.195825, -6.732297, 0.6190991, -6.441191, 0.4844791, -2.681176, -0.2331067),
]
PUBLISHED_CLASSES = [
    *(1.787746, 0.8965211, -0.480785, -0.1514886, -0.355897, 0.3641444, 1.957856, 1.495999),
    -0.6955235,
]
MASK_RANGE, CLASS_RANGE = 24.2403, 3.44135


def configuration(layers: int = 4, joint: int = 2) -> EomtConfig:
    return EomtConfig(  # type: ignore[call-arg]
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_blocks=joint,
        image_size=64,
        num_queries=7,
        num_labels=5,
    )


@pytest.fixture
def tiny() -> Eomt:
    torch.manual_seed(0)
    return Eomt(configuration(), 5).eval()


def weights(key: str, size: torch.Size) -> Tensor:
    """Return the same noise at any time, on a scale that keeps activations near 1."""
    noise = np.random.default_rng(crc32(key.encode())).random(size, np.float32) - np.float32(0.5)
    if ('norm' in key and key.endswith('weight')) or key.endswith('gamma'):
        noise += 1
    elif len(size) > 1 and not key.endswith(('pos_embed', 'token', '.q.weight')):
        noise *= np.float32((12 / np.prod(size[1:])) ** 0.5)
    return torch.from_numpy(noise)


def published(model: Eomt) -> dict[str, Tensor]:
    """Return a file as the public code writes it."""
    whole: dict[str, Tensor] = {}
    layout = model.layouts()[1]
    for key, tensor in model.state_dict().items():
        place = layout.source(key).key
        if 'qkv' in place:
            size = torch.Size([3 * tensor.shape[0], *tensor.shape[1:]])
        else:
            size = torch.Size([1, *tensor.shape]) if 'pos_embed' in place else tensor.shape
        if place.startswith('network.'):
            whole[place] = weights(place, size)
    return {
        **whole,
        'network.attn_mask_probs': torch.zeros(2),
        'network.encoder.pixel_mean': torch.zeros(1, 3, 1, 1),
        'network.encoder.pixel_std': torch.ones(1, 3, 1, 1),
    }


# Beside the published code


def test_outputs_are_those_of_the_public_code(tiny: Eomt, tmp_path: Path) -> None:
    torch.save(published(tiny), tmp_path / 'pytorch_model.bin')
    report = checkpoints.load(tiny, tmp_path / 'pytorch_model.bin')
    assert report.layout == 'EoMT of the public code, on DINOv2'
    image = torch.from_numpy(np.random.default_rng(0).random((1, 3, 64, 64), np.float32))
    # The public code's network normalises what is 0..1.
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in (tiny.input_scale.mean, tiny.input_scale.std)
    )
    with torch.inference_mode():
        masks = tiny((image - mean) / std).masks
    assert masks is not None
    for found, wanted, spread, step in (
        (masks.mask_logits, PUBLISHED_MASKS, MASK_RANGE, 113),
        (masks.class_logits, PUBLISHED_CLASSES, CLASS_RANGE, 5),
    ):
        assert found.max() - found.min() == pytest.approx(spread, rel=1e-4)
        error = (found.flatten()[::step] - torch.tensor(wanted)).abs().max()
        assert error < 1e-5 * spread
    # The head, which the file lacks, starts from the classifier.
    assert torch.equal(masks.uncertainty_logits, masks.class_logits)


def test_outputs_are_those_of_transformers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = EomtForUniversalSegmentation(configuration()).eval()
    theirs.attn_mask_probs.zero_()  # as at the end of their training
    theirs.criterion.empty_weight.mul_(0.5)
    theirs.save_pretrained(tmp_path)
    model = models.create('eomt', 5, folder=tmp_path).eval()
    report = checkpoints.load(model, tmp_path)
    assert set(report.missing) == {
        'uncertainty.classifier.weight',
        'uncertainty.classifier.bias',
    }
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        wanted = theirs(image)
        said = model(image)
    logits, score, masks = said.logits, said.score, said.masks
    assert masks is not None
    assert torch.equal(masks.mask_logits, wanted.masks_queries_logits)
    assert torch.equal(masks.class_logits, wanted.class_queries_logits)
    assert model.class_weight[0] == 0.5
    enlarged = F.interpolate(wanted.masks_queries_logits, (64, 64), mode='bilinear').sigmoid()
    classes = wanted.class_queries_logits.softmax(-1)[..., :-1]
    maps = torch.einsum('bqc,bqhw->bchw', classes, enlarged)
    torch.testing.assert_close(logits, maps)
    torch.testing.assert_close(score, 1 - maps.amax(1))


@pytest.mark.parametrize('of_public_code', [False, True])
def test_file_of_the_middle_of_its_training(
    tiny: Eomt, of_public_code: bool, tmp_path: Path
) -> None:
    """There, evaluation masks what queries attend to."""
    if of_public_code:
        state = published(tiny)
        state['network.attn_mask_probs'][1] = 0.25
    else:
        sources = {key: tiny.layouts()[0].source(key).key for key in tiny.state_dict()}
        state = {sources[key]: tensor for key, tensor in tiny.state_dict().items()}
        state['attn_mask_probs'] = torch.tensor([0.0, 0.25])
    file = tmp_path / 'pytorch_model.bin'
    torch.save(state, file)
    before = {key: tensor.clone() for key, tensor in tiny.state_dict().items()}
    with pytest.raises(MultishiftError, match=r'attn_mask_probs is 0 at its end, and 0\.25 here'):
        checkpoints.load(tiny, file)
    assert all(torch.equal(before[key], tensor) for key, tensor in tiny.state_dict().items())
    state = {key: 0 * t if key.endswith('mask_probs') else t for key, t in state.items()}
    torch.save(state, file)
    checkpoints.load(tiny, file)


def test_file_that_lacks_a_weight_or_has_one_more(tiny: Eomt) -> None:
    state = published(tiny)
    state['network.extra'] = state.pop('network.q.weight')
    (layout,) = key_matching.detect(tiny, state)
    assert key_matching.match(tiny, layout, state).faults == [
        '1 missing: network.q.weight',
        '1 left over: network.extra',
    ]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'model_type': 'mask2former'}, "model_type is 'mask2former', not 'eomt': give a EoMT"),
        ({'patch_size': 14}, 'patch_size is 14; only 16 is supported here'),
        ({'hidden_size': 33}, r'describes no network that `transformers` can build \(ValueError'),
        ({'num_queries': 'x'}, r'describes no network that `transformers` can build \(Strict'),
    ],
)
def test_folder_of_another_network(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    (tmp_path / 'config.json').write_text(json.dumps({**configuration().to_dict(), **change}))
    with pytest.raises(MultishiftError, match=message):
        models.create('eomt', 5, folder=tmp_path)


# On its own


@pytest.mark.parametrize('size', [(33, 50), (64, 64), (8, 17)])
def test_any_image_size(tiny: Eomt, size: tuple[int, int]) -> None:
    with torch.no_grad():
        image = torch.randn(2, 3, *size)
        prediction, small = tiny(image), tiny(image, size=(7, 9))
        whole = tiny.train()(image)
    for found in (prediction, whole):
        assert found.logits.shape == (2, 5, *size) and found.score.shape == (2, *size)
        assert found.feature.shape == (2, 32, -(-size[0] // 4), -(-size[1] // 4))
    assert small.logits.shape == (2, 5, 7, 9) and small.score.shape == (2, 7, 9)


@pytest.mark.parametrize('tall', [False, True])
def test_squares_are_averaged_where_they_overlap(tiny: Eomt, tall: bool) -> None:
    def turned(maps: Tensor) -> Tensor:
        return maps.mT if tall else maps

    image = torch.randn(2, 3, 64, 112)
    with torch.inference_mode():
        prediction = tiny(turned(image))
        left, right = (tiny(turned(image[..., start : start + 64])) for start in (0, 48))
    for name in ('logits', 'score'):
        found, one, other = (turned(getattr(each, name)) for each in (prediction, left, right))
        torch.testing.assert_close(found[..., :48], one[..., :48])
        torch.testing.assert_close(found[..., 64:], other[..., 16:])
        both = (one[..., 48:] + other[..., :16]) / 2
        torch.testing.assert_close(found[..., 48:64], both)


@pytest.mark.parametrize(
    ('method', 'part', 'reaches'),
    [
        ({'kind': 'closed_world', 'masks': {}}, 'backbone', True),
        ({'kind': 'closed_world', 'masks': {}}, 'uncertainty', False),
        ({'kind': 'multishift', 'margins': [1, 1, 1], 'masks': {}}, 'uncertainty', True),
        ({'kind': 'multishift', 'margins': [1, 1, 1], 'segmentation': [0, 0]}, 'queries', True),
    ],
)
def test_methods_reach_it(tiny: Eomt, method: dict[str, object], part: str, reaches: bool) -> None:
    stage = Stage.model_validate(
        {
            'name': 'some',
            'epochs': 1,
            'trainable': [part],
            'method': method,
            'optimizer': {'learning_rate': 0.1},
        }
    )
    choose_trainable(tiny, stage)
    weights = stage.method.weights_of_classes(tiny, torch.Tensor)
    context = Context(tiny, None, weights, None, lambda values: values)
    if reaches:
        check_reach(stage, small_batch(stage.method, 2), context)
        return
    with pytest.raises(MultishiftError, match=f'no loss of its method depends on {part}'):
        check_reach(stage, small_batch(stage.method, 2), context)


@pytest.mark.slow
def test_openvino_computes_the_network(
    check_openvino: Callable[[Eomt, tuple[int, int]], object],
) -> None:
    torch.manual_seed(0)
    # Two squares, whose positions are resampled.
    check_openvino(Eomt(configuration(layers=2, joint=1), 5), (32, 48))
