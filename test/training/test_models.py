from __future__ import annotations

import pytest
import torch

from multishift_training import models


@pytest.mark.parametrize('size', [(64, 96), (65, 97), (33, 50)])
def test_compact_network_runs_on_odd_sizes(size: tuple[int, int]) -> None:
    model = models.create('deeplabv3plus_compact', num_classes=5).eval()
    logits, score = model(torch.randn(2, 3, *size))
    expected = tuple(-(-side // 4) for side in size)
    assert logits.shape == (2, 5, *expected)
    assert score.shape == (2, *expected)


def test_score_starts_as_the_classifiers_energy() -> None:
    model = models.create('deeplabv3plus_compact').eval()
    image = torch.randn(1, 3, 64, 96)
    logits, score = model(image)
    energy = -torch.logsumexp(logits, 1)
    assert not torch.allclose(score, energy)
    model.init_uncertainty_from_classifier()
    assert torch.allclose(model(image).score, energy, atol=1e-6)


def test_score_does_not_reach_the_classifier() -> None:
    model = models.create('deeplabv3plus_compact')
    model(torch.randn(2, 3, 64, 96)).score.sum().backward()
    assert model.classifier.weight.grad is None
    assert model.uncertainty.proxy.weight.grad.any()
    assert model.backbone.stem[0][0].weight.grad.any()


def test_compact_network_fits_the_embedded_engine() -> None:
    model = models.create('deeplabv3plus_compact')
    assert sum(p.numel() for p in model.parameters()) < 1.1e6


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="'resnet'.*deeplabv3plus_compact"):
        models.create('resnet')
