# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multishift_perception.engine import Engine
from multishift_perception.engine.manifest import Calibration, ClassEntry, read_manifest
from multishift_perception.engine.probe import ProbeSet
from multishift_training import models
from multishift_training.export import export_bundle
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.inference.fitting import fit_scores
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.models.input_scale import IMAGENET, Normalize
from multishift_training.scores.rescored import with_score

# More segments than any CPU has vector registers.


class TinyModel(SegmentationModel):
    """Three classes, a batch norm to fold, and outputs at the image's size."""

    input_scale = IMAGENET

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, 4, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )
        nn.init.uniform_(self.backbone[1].running_var, 0.2, 0.5)  # type: ignore[arg-type]
        nn.init.normal_(self.backbone[1].running_mean)  # type: ignore[arg-type]
        self.classifier = nn.Conv2d(8, 3, 1)

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        feature = self.backbone(image)
        logits = F.interpolate(
            self.classifier(feature), size or image.shape[2:], mode='bilinear', align_corners=True
        )
        return Prediction(logits, logits.square().sum(1), feature)


@pytest.fixture
def model() -> TinyModel:
    torch.manual_seed(0)
    return TinyModel()


def random_frames(*shape: int) -> np.ndarray:
    """Frames ``uint8 [*shape,3]`` of blocks, which networks tell apart better than noise."""
    *batch, height, width = shape
    coarse = np.random.default_rng(0).integers(
        0, 256, (*batch, -(-height // 8), -(-width // 8), 3), np.uint8
    )
    blocks = coarse.repeat(8, axis=-3).repeat(8, axis=-2)
    return np.ascontiguousarray(blocks[..., :height, :width, :])


def test_bytes_are_normalised_as_imagenet_is() -> None:
    frames = torch.from_numpy(random_frames(2, 9, 7))
    expected = (frames.numpy() / 255 - IMAGENET.mean) / IMAGENET.std
    image = Normalize(IMAGENET)(frames)
    assert np.allclose(image.permute(0, 2, 3, 1), expected, atol=1e-6)
    assert image.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('size', [(32, 48), (33, 47)])
def test_outputs_are_the_networks_own(
    model: TinyModel, size: tuple[int, int], many_segments: Calibration
) -> None:
    frames = torch.from_numpy(random_frames(2, *size))
    graph = DeployGraph(model, many_segments)
    label, score, anomaly, look, confidence = graph(frames)
    expected = model(Normalize(IMAGENET)(frames))
    assert not model.training
    assert label.dtype == anomaly.dtype == torch.uint8 and score.dtype == torch.float32
    assert torch.equal(label, expected.logits.argmax(1))
    assert torch.equal(score, expected.score)
    assert torch.equal(anomaly >= 128, score >= many_segments.operating_point)
    assert label.unique().numel() > 1
    image = Normalize(IMAGENET)(frames)
    moments = torch.cat([image.mean((2, 3)), image.std((2, 3), correction=0)], 1)
    assert torch.allclose(look, moments, atol=1e-5)
    probability = expected.logits.softmax(1).amax(1)
    assert confidence.dtype == torch.uint8 and confidence.shape == label.shape
    assert (confidence / 255 - probability).abs().max() <= 0.51 / 255


def test_the_look_is_of_the_early_feature_whatever_wraps_the_network(
    many_segments: Calibration,
) -> None:
    torch.manual_seed(0)
    network: Any = models.create('deeplabv3plus_efficientnet_lite0', 3).eval()
    graph = DeployGraph(with_score(network, 'entropy'), many_segments)
    frames = torch.from_numpy(random_frames(2, 32, 48))
    with torch.inference_mode():
        look = graph(frames)[3]
        low = network.backbone(Normalize(network.input_scale)(frames)).low
        assert torch.allclose(look[:, : low.shape[1]], low.mean((2, 3)), atol=1e-5)
        assert torch.allclose(look[:, low.shape[1] :], low.std((2, 3), correction=0), atol=1e-3)
        assert torch.equal(graph.look(frames), look)


@pytest.mark.parametrize(
    'name', ['deeplabv3plus_efficientnet_lite0', 'segformer_b0', 'mask2former_resnet50']
)
def test_the_confidence_is_the_probability_that_the_head_gives_the_label(
    name: str, many_segments: Calibration
) -> None:
    torch.manual_seed(0)
    network: Any = models.create(name, 3).eval()
    with torch.no_grad():  # random networks are sure of nothing, or claim a pixel by all queries
        if name.startswith('mask2former'):
            network.classifier.bias[-1] += 6
        else:
            network.classifier.weight *= 30
    graph = DeployGraph(with_score(network, 'entropy'), many_segments)
    frames = torch.from_numpy(random_frames(1, 64, 96))
    with torch.inference_mode():
        confidence = graph(frames)[4] / 255
        said = network(Normalize(network.input_scale)(frames))
        if said.masks is not None:
            probability = said.logits.amax(1).clamp(0, 1)
        else:
            coarse = network.classifier(said.feature).softmax(1).amax(1, keepdim=True)
            probability = network.enlarge(coarse, (64, 96))[:, 0]
    assert (confidence - probability).abs().max() <= 0.51 / 255
    assert confidence.min() < confidence.max() - 0.01


def bundle(
    path: Path, network: SegmentationModel, calibration: Calibration
) -> tuple[np.ndarray, DeployGraph]:
    probes = random_frames(2, 1, 32, 48)
    graph = DeployGraph(network, calibration)
    export_bundle(
        path,
        graph,
        calibration=calibration,
        probes=probes,
        targets=('openvino', 'torch'),
        model='tiny',
        method='none',
        classes=[ClassEntry(name=name, color=(0, 0, 0)) for name in ('road', 'sky', 'car')],
        provenance={},
    )
    return probes, graph


@pytest.fixture(scope='module')
def tiny(
    tmp_path_factory: pytest.TempPathFactory, many_segments: Calibration
) -> tuple[Path, np.ndarray, DeployGraph]:
    """A bundle, its probe frames, and the graph it was made of."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('bundles') / 'bundle'
    return path, *bundle(path, TinyModel(), many_segments)


@pytest.mark.slow
def test_bundle_expects_what_the_network_computes_eagerly(
    tiny: tuple[Path, np.ndarray, DeployGraph],
) -> None:
    """Not what the optimised program computes, or nothing would notice a fault of it."""
    path, probes, graph = tiny
    stored = ProbeSet.load(path / 'probe.npz')
    with torch.inference_mode():
        for frames, label, score in zip(probes, stored.label, stored.score, strict=True):
            expected = graph(torch.from_numpy(frames))
            assert np.array_equal(label, expected[0])
            assert np.array_equal(score, expected[1][:, ::4, ::4])
    assert {a.backend for a in read_manifest(path).artifacts} == {'openvino', 'torch'}


@pytest.mark.slow
def test_compiles_without_avx512(
    tiny: tuple[Path, np.ndarray, DeployGraph], older_cpu: Callable[..., None]
) -> None:
    older_cpu(tiny[0])


@pytest.mark.slow
def test_torch_artifact_is_fused_and_channels_last(
    tiny: tuple[Path, np.ndarray, DeployGraph],
) -> None:
    file = tiny[0] / 'torch.pt2'
    program = torch.export.load(file)
    assert not any('batch_norm' in str(node.target) for node in program.graph.nodes)
    weights = [tensor for tensor in program.state_dict.values() if tensor.shape == (8, 3, 3, 3)]
    assert len(weights) == 1
    assert weights[0].is_contiguous(memory_format=torch.channels_last)
    # Nothing of the machine it was made on, nor the example frames.
    assert program.example_inputs is None
    assert str(Path(__file__).parents[3]).encode() not in file.read_bytes()


@pytest.mark.slow
def test_fitted_score_becomes_an_engine(
    model: TinyModel, tmp_path: Path, many_segments: Calibration
) -> None:
    frames = torch.from_numpy(random_frames(4, 32, 48))
    labels = torch.arange(3, dtype=torch.uint8).repeat(4, 32, 16)
    fitted = fit_scores(model, ['mahalanobis'], [(frames, labels)])
    rescored = with_score(model, 'mahalanobis', fitted=fitted['mahalanobis'])
    probes, _ = bundle(tmp_path / 'bundle', rescored, many_segments)
    with torch.inference_mode():
        expected = rescored(Normalize(IMAGENET)(torch.from_numpy(probes[1]))).score.numpy()
    spread = expected.max() - expected.min()
    assert spread > 0.01
    for backend in ('openvino', 'torch'):
        with Engine.load(tmp_path / 'bundle', backend=backend) as engine:
            found = engine.infer(probes[1])
        assert np.abs(found.score - expected).max() < 5e-3 * spread
