# SPDX-License-Identifier: Apache-2.0
"""Networks with scores by name: on single images, in batches, and in the deploy graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multishift_perception.classes import VOID
from multishift_perception.errors import MultishiftError
from multishift_training.export.calibration import fit_calibration
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.inference.batches import pooled_scores, predict_batches
from multishift_training.inference.fitting import fit_scores
from multishift_training.inference.runners import NetworkRunner
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.models.input_scale import IMAGENET
from multishift_training.scores import (
    SCORES,
    Score,
    check_scores,
    find_score,
    fitted_scores,
    register,
)
from multishift_training.scores.fitted import FittedScore
from multishift_training.scores.rescored import score_of, with_score


class TinyModel(SegmentationModel):
    """Feature at a quarter of the size, four classes; its score is the head's."""

    input_scale = IMAGENET

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 6, 3, 4, 1), nn.Tanh())
        self.classifier = nn.Conv2d(6, 4, 1)

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        feature = self.backbone(image)
        logits = F.interpolate(self.classifier(feature), size or image.shape[2:], mode='bilinear')
        return Prediction(logits, logits.square().sum(1), feature)


def spread(prediction: Prediction) -> Tensor:
    """Return minus the standard deviation of the logits."""
    return -prediction.logits.std(1)


class FarFromMean(FittedScore):
    """Distance of the feature to the mean of all that are not void."""

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.statistics = {'mean': mean}
        self.register_buffer('mean', mean.view(1, -1, 1, 1))

    @classmethod
    def fitting(cls) -> MeanFit:
        return MeanFit()

    def forward(self, prediction: Prediction) -> Tensor:
        distance = (prediction.feature - self.mean).norm(dim=1, keepdim=True)
        return F.interpolate(distance, prediction.logits.shape[2:], mode='bilinear')[:, 0]

    @staticmethod
    def fault(statistics: dict[str, Tensor]) -> str | None:
        return None if statistics.keys() == {'mean'} else 'there is no mean'


class MeanFit:
    def __init__(self) -> None:
        self.features: list[Tensor] = []

    def update(self, prediction: Prediction, labels: Tensor) -> None:
        nearest = labels[:, 2::4, 2::4]
        self.features.append(prediction.feature.movedim(1, -1)[nearest != VOID])

    def result(self) -> FarFromMean:
        return FarFromMean(torch.cat(self.features).mean(0))


@pytest.fixture
def registered(
    monkeypatch: pytest.MonkeyPatch, own_registries: Callable[[], AbstractContextManager[None]]
) -> Iterator[None]:
    """Each of the scores above is registered by one line."""
    # Pytest keeps test modules under names of its own.
    monkeypatch.setitem(sys.modules, 'toys', sys.modules[__name__])
    with own_registries():
        register(Score('spread', spread))
        register(Score('far', 'toys:FarFromMean', is_fitted=True))
        yield


@pytest.fixture
def model() -> TinyModel:
    torch.manual_seed(0)
    return TinyModel().eval()


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    """Two batches, of which the classes differ in brightness and some pixels are novel or void."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(2):
        images = torch.randint(0, 256, (2, 40, 56, 3), generator=generator, dtype=torch.uint8)
        values = torch.tensor([0, 1, 3, 254, 255], dtype=torch.uint8)
        labels = values[torch.randint(5, (2, 40, 56), generator=generator)]
        images[labels == 1] //= 4
        made.append((images, labels))
    return made


EXPORTABLE = [name for name, score in SCORES.items() if score.obstacle is None]


@pytest.mark.usefixtures('registered')
@pytest.mark.parametrize('name', [*EXPORTABLE, 'spread', 'far'])
def test_every_exportable_score_is_the_same_in_the_deploy_graph(
    model: TinyModel, batches: list[tuple[Tensor, Tensor]], name: str
) -> None:
    """As the runner of images, the batches that calibration sees, and an exported program say."""
    fitted = fit_scores(model, [name], batches)
    network = with_score(model, name, fitted=fitted.get(name))
    SCORES[name].check_exportable()
    known, novel = pooled_scores(network, batches, stride=1)
    calibration = fit_calibration(known, novel, dataset='made up')
    graph = DeployGraph(network, calibration)
    frames = batches[0][0]
    runner = NetworkRunner(model, [name], fitted=fitted)
    eager = np.stack([output.scores[name] for output in runner.run(list(frames.numpy()))])
    assert eager.std() > 1e-4
    with torch.inference_mode():
        label, score, anomaly, *_ = graph(frames)
    torch.testing.assert_close(score.numpy(), eager, rtol=1e-5, atol=1e-5)
    assert label.unique().numel() > 1
    assert (anomaly.numpy() >= 128).mean() == pytest.approx(
        (eager >= calibration.operating_point).mean(), abs=0.01
    )
    with torch.no_grad():
        program = torch.export.export(graph, (frames,))
        found = program.module()(frames)
    torch.testing.assert_close(found[1], score, rtol=1e-5, atol=1e-5)
    if name in fitted:
        # What was fitted is frozen in the graph.
        held = dict(program.named_buffers()).values()
        assert all(any(torch.equal(b, h) for h in held) for b in fitted[name].buffers())


@pytest.mark.usefixtures('registered')
def test_toy_scores_are_known_everywhere(
    model: TinyModel, batches: list[tuple[Tensor, Tensor]], tmp_path: Path
) -> None:
    names = ['spread', 'far', 'mahalanobis', 'odin', 'uncertainty']
    check_scores(names)
    assert fitted_scores(names) == ('far', 'mahalanobis')
    fitted = fit_scores(model, names, iter(batches))
    image = batches[0][0][0].numpy()
    [output] = NetworkRunner(model, names, fitted=fitted).run([image])
    assert list(output.scores) == names
    [batch] = predict_batches(model, batches[:1], others=['spread'])
    assert np.allclose(output.scores['spread'], batch.others['spread'][0], atol=1e-5)
    for name in names:
        network = with_score(model, name, fitted=fitted.get(name))
        alone = next(predict_batches(network, batches[:1])).score[0]
        assert np.allclose(output.scores[name], alone, rtol=1e-4, atol=1e-5), name
    # Kept statistics are taken, and what is not among them fitted.
    kept = fit_scores(model, ['far'], batches, kept=tmp_path)
    again = fit_scores(model, names, batches[:1], kept=tmp_path)
    assert torch.equal(again['far'].statistics['mean'], kept['far'].statistics['mean'])
    assert {path.stem for path in tmp_path.iterdir()} == {'far', 'mahalanobis'}


@pytest.mark.usefixtures('registered')
def test_several_scores_are_fitted_in_one_pass(
    model: TinyModel, batches: list[tuple[Tensor, Tensor]]
) -> None:
    runs: list[nn.Module] = []
    model.register_forward_hook(lambda module, *_: runs.append(module))
    assert fit_scores(model, ['energy', 'odin'], batches) == {}
    assert not runs
    assert set(fit_scores(model, ['far', 'energy', 'mahalanobis'], batches)) == {
        'far',
        'mahalanobis',
    }
    assert len(runs) == len(batches)


def test_runner_refuses_what_is_not_fitted(model: TinyModel) -> None:
    with pytest.raises(MultishiftError, match='score mahalanobis is fitted on labelled images'):
        NetworkRunner(model, ['energy', 'mahalanobis'])
    with pytest.raises(MultishiftError, match='energy is named twice'):
        NetworkRunner(model, ['energy', 'energy'])
    with pytest.raises(ValueError, match='odin cannot be read off a prediction'):
        score_of('odin')


@pytest.mark.parametrize(
    ('compute', 'found'),
    [
        (lambda p: p.logits.amax(1, keepdim=True), 'float32 [1, 1, 40, 56]'),
        (lambda p: p.logits.amax(1).double(), 'float64 [1, 40, 56]'),
        (lambda p: p.logits.argmax(1), 'int64 [1, 40, 56]'),
        (lambda p: 0.5, 'of type float'),
    ],
)
def test_score_of_another_form(
    model: TinyModel,
    own_registries: Callable[[], AbstractContextManager[None]],
    compute: Callable[[Prediction], Tensor],
    found: str,
) -> None:
    message = (
        f'score odd is {found}, expected float32 [1, 40, 56]: return one value for each pixel of '
        'the logits'
    )
    with own_registries():
        register(Score('odd', compute))
        runner = NetworkRunner(model, ['energy', 'odd'])
        with pytest.raises(MultishiftError) as caught:
            runner.run([np.zeros((40, 56, 3), np.uint8)])
        assert str(caught.value) == message
        network = with_score(model, 'odd')
        with pytest.raises(MultishiftError) as caught:
            network(torch.zeros(1, 3, 40, 56))
        assert str(caught.value) == message


def test_fitted_score_that_does_not_say_so(
    monkeypatch: pytest.MonkeyPatch,
    model: TinyModel,
    own_registries: Callable[[], AbstractContextManager[None]],
) -> None:
    monkeypatch.setitem(sys.modules, 'toys', sys.modules[__name__])
    with own_registries():
        register(Score('far', 'toys:FarFromMean'))
        with pytest.raises(MultishiftError) as caught:
            NetworkRunner(model, ['far'])
    assert str(caught.value) == (
        'score far: its source is a FittedScore: say is_fitted=True where it is made'
    )


def test_odin_cannot_be_exported() -> None:
    message = 'score odin cannot be exported, as it needs gradients: choose another'
    with pytest.raises(MultishiftError, match=message):
        find_score('odin').check_exportable()


@pytest.mark.parametrize('score', SCORES.values(), ids=SCORES)
def test_what_a_score_says_of_itself_is_so(score: Score) -> None:
    found = score.implementation()
    assert score.is_fitted == (isinstance(found, type) and issubclass(found, FittedScore))
    assert score.has_own_passes == (
        isinstance(found, type) and issubclass(found, SegmentationModel)
    )
    assert SCORES[score.name] is score
    if score.is_fitted:
        assert callable(found.fitting().update)


def test_names_are_listed_without_torch() -> None:
    code = (
        'import sys; from multishift_training.scores import SCORES, fitted_scores; '
        "assert 'torch' not in sys.modules; print(*SCORES, fitted_scores())"
    )
    found = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    assert found.stdout.split()[: len(SCORES)] == list(SCORES)


def test_what_is_fitted_may_meet_gradients(
    model: TinyModel, batches: list[tuple[Tensor, Tensor]]
) -> None:
    fitted = fit_scores(model, ['mahalanobis'], batches)
    assert not any(buffer.is_inference() for buffer in fitted['mahalanobis'].buffers())
