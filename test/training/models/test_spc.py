# SPDX-License-Identifier: Apache-2.0
"""Style projection and clusters against loops in float64, and on every backbone."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multishift_perception.errors import MultishiftError
from multishift_training.checkpoints.published import open_published
from multishift_training.methods.spc import Spc
from multishift_training.models import create
from multishift_training.models.deeplab import DeepLabV3Plus
from multishift_training.models.spc import (
    Clusters,
    SpcDeepLab,
    add_clusters,
    add_style_projection,
)
from multishift_training.models.style_projection import StyleProjection, Weighting


def projection(domains: int, weighting: Weighting = 'weighted') -> StyleProjection:
    torch.manual_seed(domains)
    module = StyleProjection(3, domains, weighting).double()
    module.bases[:, 0].normal_()
    module.bases[:, 1].uniform_(0.5, 2)
    return module


def projected_by_hand(x: Tensor, bases: Tensor, weighting: Weighting) -> Tensor:
    out = []
    for image in x:
        seen = image.detach()
        mean = [seen[c].mean() for c in range(len(seen))]
        count = seen[0].numel()
        deviation = [
            (((seen[c] - mean[c]) ** 2).sum() / (count - 1) + 1e-6).sqrt()
            for c in range(len(seen))
        ]
        near = []
        for means, deviations in bases:
            terms = [
                (mean[c] - means[c]) ** 2
                + deviation[c] ** 2
                + deviations[c] ** 2
                - 2 * deviation[c] * deviations[c]
                for c in range(len(seen))
            ]
            near.append(1 / (1 + torch.stack(terms).mean()))
        total = sum(value.exp() for value in near)
        weights = [value.exp() / total for value in near]
        if weighting == 'nearest':
            weights = [torch.tensor(float(value == max(near))) for value in near]
        for c in range(len(seen)):
            plain = (image[c] - mean[c]) / deviation[c]
            if weighting != 'none':
                style = sum(w * b[:, c] for w, b in zip(weights, bases, strict=True))
                plain = plain * style[1] + style[0]
            out.append(plain)
    return torch.stack(out).view_as(x)


@pytest.mark.parametrize('domains', [1, 2, 3, 10])
@pytest.mark.parametrize('weighting', ['weighted', 'nearest', 'none'])
def test_projection_and_gradient_are_those_of_loops(domains: int, weighting: Weighting) -> None:
    module = projection(domains, weighting)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    found, wanted = module(x), projected_by_hand(x, module.bases, weighting)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    direction = torch.randn_like(x)
    gradients = [torch.autograd.grad((y * direction).sum(), x)[0] for y in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def test_a_style_like_all_bases_stays() -> None:
    module = projection(3)
    x = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    module(x)
    module.bases.copy_(module.noted.take())
    torch.testing.assert_close(module(x), x)


def test_weights_are_soft() -> None:
    """Logits lie between 0 and 1: of two bases, none has less than 0.27."""
    module = projection(2)
    module.bases[0, 0] += 100
    mean, deviation = module.bases[1].clone()
    found = module.mixed(mean[None], deviation[None])[0, 0] - module.bases[1, 0]
    share = found / (module.bases[0, 0] - module.bases[1, 0])
    torch.testing.assert_close(share, torch.full_like(share, 1 / (1 + np.e)), rtol=1e-3, atol=0)


def test_nothing_of_the_styles_is_not_a_number_for_one_pixel() -> None:
    assert projection(2)(torch.randn(1, 3, 1, 1, dtype=torch.float64)).isfinite().all()


def test_nearest_of_all_bases_decides() -> None:
    torch.manual_seed(0)
    clusters = Clusters(4, 3, 2, width=6).double()
    nn.init.normal_(clusters.class_norm.weight)
    nn.init.normal_(clusters.feature_norm.bias)
    feature = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    found, distance = clusters(feature), clusters.distance(feature)
    for b, y, x in torch.cartesian_prod(*map(torch.arange, (2, 3, 5))).tolist():
        point = clusters.projection(feature[b : b + 1, :, y : y + 1, x : x + 1]).flatten()
        point = F.layer_norm(
            point / point.norm(), (6,), clusters.feature_norm.weight, clusters.feature_norm.bias
        )
        point = point / point.norm()
        cosines = torch.stack(
            [
                torch.stack([point @ clusters.by_domain[m, c] for m in range(2)]).max()
                for c in range(3)
            ]
        )
        norm = clusters.class_norm
        wanted = F.layer_norm(cosines, (3,), norm.weight, norm.bias)
        torch.testing.assert_close(found[b, :, y, x], wanted, rtol=1e-6, atol=1e-9)
        assert distance[b, y, x].item() == pytest.approx(1 - cosines.max().item(), abs=1e-9)
    norms = clusters.noted.take().norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    assert torch.equal(clusters(feature), found)  # what the distance left is of this feature
    assert not torch.equal(clusters(feature + 1), found)


NAMES = [
    'deeplabv3plus_compact',
    'deeplabv3plus_efficientnet_lite0',
    'deeplabv3plus_resnet50',
    'deeplabv3plus_wideresnet38',
]


@pytest.mark.parametrize('name', NAMES)
def test_every_backbone_has_taps(name: str) -> None:
    with torch.device('meta'):
        model = create(name)
        assert isinstance(model, DeepLabV3Plus)
        before = set(model.state_dict())
        add_style_projection(model, 2, 'weighted')
        add_clusters(model, 2)
        prediction = model.eval()(torch.zeros(1, 3, 64, 96))
    assert prediction.logits.shape == (1, 19, 64, 96) and prediction.score.shape == (1, 64, 96)
    assert prediction.auxiliary is not None
    assert prediction.auxiliary['low_style'].shape == (1, 2, model.backbone.low_channels)
    assert prediction.auxiliary['embeddings'].shape[1] == prediction.feature.shape[1]
    added = set(model.state_dict()) - before
    assert {'backbone.entry_tap.bases', 'backbone.low_tap.bases', 'classifier.bases'} <= added


def test_only_the_path_to_the_deep_layers_is_projected() -> None:
    torch.manual_seed(0)
    model = create('deeplabv3plus_compact').eval()
    assert isinstance(model, DeepLabV3Plus)
    image = torch.randn(1, 3, 64, 64)
    low, high = model.backbone(image)
    copy.deepcopy(model)
    model.backbone.low_tap = StyleProjection(model.backbone.low_channels, 2)
    projected_low, projected_high = model.backbone(image)
    assert torch.equal(projected_low, low) and not torch.equal(projected_high, high)
    assert copy.deepcopy(model)(image).feature.isfinite().all()


STYLES, TAPS = ('styleAdaIN1', 'styleAdaIN2'), ('entry', 'low')


def published_of(model: SpcDeepLab) -> dict[str, Tensor]:
    """The network's tensors as the author's files have them; see `deeplab_layouts.spc`."""
    layout = next(iter(model.layouts()))
    clusters, backbone = model.classifier, model.backbone
    assert isinstance(clusters, Clusters)
    own = {'classifier.steps', 'classifier.bases', *(f'backbone.{t}_tap.bases' for t in TAPS)}
    found = {layout.source(k).key: v for k, v in model.state_dict().items() if k not in own}
    # Bases [C,M,D], of which the author uses the direction.
    found['prototypes'] = 3 * clusters.by_domain.transpose(0, 1)
    for place, tap in zip(STYLES, (backbone.entry_tap, backbone.low_tap), strict=True):
        means, deviations = tap.get_buffer('bases').unbind(1)
        found |= {f'{place}.style_mu': means, f'{place}.style_sig': deviations}
    return {f'module.{key}': value.clone() for key, value in found.items()}


def random_spc(domains: int) -> SpcDeepLab:
    """The network with random styles."""
    torch.manual_seed(domains)
    model = create('deeplabv3plus_resnet50_spc')
    assert isinstance(model, SpcDeepLab)
    model._set_domains(domains)
    for tap in (model.backbone.entry_tap, model.backbone.low_tap):
        tap.get_buffer('bases').uniform_(0.5, 2)
    return model


@pytest.mark.slow
def test_files_of_the_author_give_the_network_their_domains(tmp_path: Path) -> None:
    written = random_spc(3)
    published = published_of(written)
    published |= {'module.dsn.0.weight': torch.zeros(512, 1024, 3, 3)}
    torch.save({'state_dict': published}, tmp_path / 'spc.pth')
    model, report = open_published(tmp_path / 'spc.pth', 'deeplabv3plus_resnet50_spc')
    assert report.layout == 'DeepLabV3+ ResNet of SPC, 3 domains'
    assert report.missing == ('classifier.steps',)
    found, wanted = model.state_dict(), written.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[key], value) for key, value in wanted.items())
    published['module.styleAdaIN2.style_sig'] = torch.ones(2, 256)
    torch.save(published, tmp_path / 'torn.pth')
    with pytest.raises(MultishiftError, match=r'styleAdaIN2\.style_mu'):
        open_published(tmp_path / 'torn.pth', 'deeplabv3plus_resnet50_spc')


def test_layout_has_the_keys_of_the_authors_code() -> None:
    with torch.device('meta'):
        model = create('deeplabv3plus_resnet50_spc')
    assert isinstance(model, SpcDeepLab)
    keys = {key.removeprefix('module.') for key in published_of(model)}
    own = {key for key in keys if not key.startswith(('layer', 'aspp.', 'bot_', 'final1.'))}
    assert own == {
        *(f'projection.{i}.{part}' for i in (0, 2) for part in ('weight', 'bias')),
        *(f'{norm}_norm.{part}' for norm in ('feat', 'mask') for part in ('weight', 'bias')),
        *(f'{place}.style_{part}' for place in STYLES for part in ('mu', 'sig')),
        'prototypes',
    }
    before = model.backbone.entry_tap, model.classifier
    undo = model._set_domains(10)
    assert model.backbone.entry_tap.get_buffer('bases').shape == (10, 2, 64)
    undo()
    assert (model.backbone.entry_tap, model.classifier) == before


def test_projections_are_not_put_onto_projections() -> None:
    with torch.device('meta'):
        model = create('deeplabv3plus_resnet50_spc')
    method = Spc.model_validate({'kind': 'spc', 'sources': 2})
    with pytest.raises(MultishiftError, match='choose deeplabv3plus_resnet50'):
        method.check_network(model, 'deeplabv3plus_resnet50_spc')
