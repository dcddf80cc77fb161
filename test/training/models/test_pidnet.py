# SPDX-License-Identifier: Apache-2.0
"""PIDNet against figures of the published network."""

from __future__ import annotations

from collections.abc import Callable
import csv
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.nn import functional as F

from multishift_training import checkpoints
from multishift_training.checkpoints import key_matching
from multishift_training.models.layout import Layout
from multishift_training.models.pidnet import VARIANTS, PidNet, Variant

# Of each tensor of the published networks, with their auxiliary heads.
KEYS = Path(__file__).parents[1] / 'keys' / 'pidnet_keys.tsv'
RELEASED, ALONE = 'PIDNet as released', 'PIDNet alone'
TINY = {
    'light': Variant(4, 2, 3, context=8, width=12, light=True),
    'large': Variant(4, 3, 4, context=8, width=12, light=False),
}
# Every 41st logit that the public code gives for the weights and the image below, before it
# enlarges them, and the range of all: its network with the numbers of these variants.
PUBLISHED = {
    'light': (
        [-0.01096557, -0.02774891, -0.01238473, -0.1073061, -0.1234401, -0.1219678, -0.2101603]
        + [-0.1712834, -0.1412972, -0.1807059, -0.04636051, 0.005051613, -0.08172579]
        + [-0.3853373, -0.3482874, -0.4099331],
        0.5693,
    ),
    'large': (
        [-0.1080303, -0.05816673, -0.06254426, -0.07861309, -0.06816478, -0.0649369, -0.106167]
        + [-0.2273182, -0.1645951, -0.1443376, -0.1326685, -0.1198762, -0.1618301]
        + [-0.2472465, -0.1863312, -0.1933733],
        0.4320,
    ),
}


def weights(key: str, size: torch.Size) -> Tensor:
    """Return the same noise at any time, on a scale that keeps activations near 1."""
    if key.endswith('num_batches_tracked'):
        return torch.tensor(0)
    noise = np.random.default_rng(crc32(key.encode())).random(size, np.float32)
    if len(size) == 4:
        noise = (noise - 0.5) * np.float32((6 / np.prod(size[1:])) ** 0.5)
    else:
        noise += -0.5 if key.endswith(('bias', 'running_mean')) else 0.5
    return torch.from_numpy(noise)


@pytest.fixture(params=TINY)
def tiny(request: pytest.FixtureRequest) -> PidNet:
    torch.manual_seed(0)
    return PidNet(TINY[request.param], num_classes=5).eval()


# Beside the published code


@pytest.mark.parametrize('name', PUBLISHED)
def test_outputs_are_those_of_the_published_code(name: str, tmp_path: Path) -> None:
    model = PidNet(TINY[name], num_classes=5).eval()
    source = next(layout.source for layout in model.layouts() if layout.name == ALONE)
    places = {source(key).key: tensor.shape for key, tensor in model.state_dict().items()}
    state = {
        f'model.{key}': weights(key, size)
        for key, size in places.items()
        if not key.startswith('ood_head.')
    }
    # As the released files are, with what serves training alone.
    state |= {
        'model.seghead_p.conv2.weight': torch.ones(5, 12, 1, 1),
        'sem_loss.criterion.weight': torch.ones(5),
    }
    torch.save(state, tmp_path / 'best.pt')
    assert checkpoints.load(model, tmp_path / 'best.pt').layout == RELEASED
    image = torch.from_numpy(np.random.default_rng(0).random((1, 3, 64, 128), np.float32))
    with torch.inference_mode():
        logits, score, feature, *_ = model(image)
        small = model.classifier(feature)
    published, spread = PUBLISHED[name]
    assert small.max() - small.min() == pytest.approx(spread, abs=1e-3)
    error = (small.flatten()[::41] - torch.tensor(published)).abs().max()
    assert error < 1e-5 * spread
    # The published code evaluates at the image's size; the head starts from the classifier.
    enlarged = F.interpolate(small, (64, 128), mode='bilinear', align_corners=True)
    torch.testing.assert_close(logits, enlarged)
    energy = -small.logsumexp(1, keepdim=True)
    enlarged = F.interpolate(energy, (64, 128), mode='bilinear', align_corners=True)
    torch.testing.assert_close(score, enlarged[:, 0])


@pytest.fixture(scope='module', params=VARIANTS)
def pair(request: pytest.FixtureRequest) -> tuple[PidNet, dict[str, Tensor]]:
    """A network and what a published one has for it, both without memory."""
    with KEYS.open() as file:
        rows = list(csv.DictReader(file, delimiter='\t'))
    with torch.device('meta'):
        state = {}
        for row in rows:
            if shape := row[request.param]:
                whole = row['key'].endswith('num_batches_tracked')
                size = [] if whole else [int(side) for side in shape.split('x')]
                state[row['key']] = torch.empty(size, dtype=torch.int64 if whole else None)
        return PidNet(VARIANTS[request.param]), state


def found(model: PidNet, state: dict[str, Tensor]) -> tuple[Layout, key_matching.Match]:
    (layout,) = key_matching.detect(model, state)
    return layout, key_matching.match(model, layout, state)


@pytest.mark.parametrize(('prefix', 'name'), [('model.', RELEASED), ('', ALONE)])
def test_every_key_of_a_published_file_has_its_place(
    pair: tuple[PidNet, dict[str, Tensor]], prefix: str, name: str
) -> None:
    model, state = pair
    layout, match = found(model, {prefix + key: tensor for key, tensor in state.items()})
    assert layout.name == name and layout.licence == 'MIT'
    assert not match.faults and match.lacks_head
    assert set(match.lacking) == {'uncertainty.proxy.weight', 'uncertainty.proxy.bias'}
    assert all('seghead_' in key for key in match.report.left_over)
    # Networks for inference alone lack the auxiliary heads.
    needed = {prefix + key: tensor for key, tensor in state.items() if 'seghead_' not in key}
    assert not found(model, needed)[1].faults


def test_a_file_that_lacks_a_weight_or_has_one_more_is_refused(
    pair: tuple[PidNet, dict[str, Tensor]],
) -> None:
    model, state = pair
    state = {**state, 'layer9.weight': state['pag3.f_x.0.weight']}
    del state['pag3.f_x.0.weight']
    missing, left_over = found(model, state)[1].faults
    assert missing == '1 missing: pag3.f_x.0.weight'
    assert left_over.endswith(' left over: layer9.weight')


# On its own


@pytest.mark.parametrize('size', [(33, 50), (8, 17)])
def test_any_image_size(tiny: PidNet, size: tuple[int, int]) -> None:
    with torch.no_grad():
        prediction = tiny(torch.randn(2, 3, *size))
        small = tiny(torch.randn(2, 3, *size), size=(7, 9))
    assert prediction.logits.shape == (2, 5, *size)
    assert prediction.score.shape == (2, *size)
    assert prediction.feature.shape == (2, 12, -(-size[0] // 8), -(-size[1] // 8))
    assert small.logits.shape == (2, 5, 7, 9) and small.score.shape == (2, 7, 9)


def test_gradients_reach_every_weight_but_the_other_head(tiny: PidNet) -> None:
    tiny.train()
    logits, score, *_ = tiny(torch.randn(2, 3, 64, 64))

    def untouched(loss: Tensor) -> set[str]:
        names, parameters = zip(*tiny.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        return {name.split('.')[0] for name, g in zip(names, gradients, strict=True) if g is None}

    assert untouched(logits.square().mean()) == {'uncertainty'}
    assert untouched(score.mean()) == {'classifier'}


@pytest.mark.slow
@pytest.mark.parametrize('tiny', ['light'], indirect=True)
def test_openvino_computes_the_network(
    tiny: PidNet, check_openvino: Callable[[PidNet, tuple[int, int]], ExportedProgram]
) -> None:
    program = check_openvino(tiny, (64, 96))
    # The auxiliary heads' weights would be among these.
    assert len(program.state_dict) <= len(tiny.state_dict()) + 4
