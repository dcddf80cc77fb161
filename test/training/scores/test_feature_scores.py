# SPDX-License-Identifier: Apache-2.0
"""`rba`, `neco` and `knn`, beside their formulas in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
import pytest
from safetensors.torch import save_file
from scipy.special import logsumexp, softmax
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
import torch
from torch import Tensor, nn

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_training.models import MaskPrediction, Prediction
from multishift_training.scores import find_score
from multishift_training.scores.feature_sample import FeatureSample
from multishift_training.scores.fitted import FittedScore
from multishift_training.scores.rescored import score_of

Array = NDArray[np.float64]
CLASSES, CHANNELS, SIDE = 4, 7, 6


def predicted(seed: int, *, masks: bool = False) -> Prediction:
    """Features at a quarter of the logits' sides, which follow three directions and some more."""
    g = torch.Generator().manual_seed(seed)
    scale = torch.tensor([5.0, 4, 3, 0.5, 0.3, 0.2, 0.1])[:, None, None]
    feature = scale * torch.randn(2, CHANNELS, SIDE, SIDE, generator=g) + 2
    logits = 3 * torch.randn(2, CLASSES, 4 * SIDE, 4 * SIDE, generator=g)
    nothing = torch.zeros(1)
    parts = MaskPrediction(nothing, nothing, nothing) if masks else None
    return Prediction(logits.abs() if masks else logits, nothing, feature, parts)


def labelled(seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    values = torch.tensor([0, 3, 20, NOVEL, VOID], dtype=torch.uint8)  # 20 is of a group
    return values[torch.randint(5, (2, 4 * SIDE, 4 * SIDE), generator=g)]


def known_pixels(seeds: range) -> tuple[Array, Array]:
    """Features of known pixels, and their logits: those in the middle of each 4 x 4 pixels."""
    features, logits = [], []
    for seed in seeds:
        prediction, labels = predicted(seed), labelled(seed)[:, 2::4, 2::4]
        known = labels < NOVEL
        features.append(prediction.feature.movedim(1, -1)[known])
        logits.append(prediction.logits[:, :, 2::4, 2::4].movedim(1, -1)[known])
    return torch.cat(features).double().numpy(), torch.cat(logits).double().numpy()


def fitted(name: str, seeds: range = range(3)) -> FittedScore:
    fitting = find_score(name).implementation().fitting()
    for seed in seeds:
        fitting.update(predicted(seed), labelled(seed))
    score: FittedScore = fitting.result()
    return score


def at_the_feature_s_size(prediction: Prediction) -> Prediction:
    return prediction._replace(logits=prediction.logits[:, :, 2::4, 2::4])


def test_rba_of_mask_networks_is_the_published_sum() -> None:
    prediction = predicted(0, masks=True)
    wanted = -np.tanh(prediction.logits.double().numpy()).sum(1)
    assert np.allclose(score_of('rba')(prediction), wanted, atol=1e-6)


def test_rba_of_pixel_networks_sets_each_class_against_the_rest() -> None:
    prediction = predicted(0)
    share = softmax(prediction.logits.double().numpy(), 1)
    wanted = -((1 + np.tanh(np.log(share / (1 - share)))) / 2).sum(1)
    found = score_of('rba')(prediction)
    assert found.dtype == torch.float32
    assert np.allclose(found, wanted, atol=1e-6)
    sure_and_unsure = torch.tensor([[30.0, 0], [0, 0], [0, 0]])[None, :, None]
    known, novel = score_of('rba')(prediction._replace(logits=sure_and_unsure)).flatten()
    assert known == -1
    assert novel == pytest.approx(-0.6)


def test_neco_is_the_share_in_principal_directions_and_the_energy() -> None:
    features, logits = known_pixels(range(3))
    pca = PCA(CLASSES - 1).fit(features)

    def parts(features: Array, logits: Array) -> tuple[Array, Array]:
        inside = np.linalg.norm(pca.transform(features), axis=-1)
        whole = np.linalg.norm(features - pca.mean_, axis=-1)
        return inside / whole, -logsumexp(logits, -1)

    known = parts(features, logits)
    prediction = at_the_feature_s_size(predicted(9))
    rows = prediction.feature.movedim(1, -1).double().numpy()
    share, energy = parts(
        rows.reshape(-1, CHANNELS), prediction.logits.movedim(1, -1).double().numpy()
    )
    share = (share.reshape(energy.shape) - known[0].mean()) / known[0].std()
    energy = (energy - known[1].mean()) / known[1].std()
    found = fitted('neco')(prediction)
    assert found.dtype == torch.float32
    assert np.allclose(found, 0.5 * energy - 0.5 * share, atol=1e-4)
    # What is off the directions stands out.
    off = prediction.feature.clone()
    off[..., 0] = torch.tensor([2.0, 2, 2, 9, 9, 9, 9])[:, None]
    assert (fitted('neco')(prediction._replace(feature=off))[..., 0] > found[..., 0]).all()


def test_knn_is_the_distance_to_the_tenth_nearest_direction() -> None:
    features, _ = known_pixels(range(3))

    def scaled(rows: Array) -> Array:
        scaled: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return scaled

    prediction = at_the_feature_s_size(predicted(9))
    rows = prediction.feature.movedim(1, -1).reshape(-1, CHANNELS).double().numpy()
    near = NearestNeighbors(n_neighbors=10).fit(scaled(features))
    wanted = near.kneighbors(scaled(rows))[0][:, -1].reshape(2, SIDE, SIDE)
    found = fitted('knn')(prediction)
    assert np.allclose(found, wanted, atol=1e-4)
    assert fitted('knn')(predicted(9)).shape == (2, 4 * SIDE, 4 * SIDE)


def test_the_sample_is_small_and_takes_all_alike() -> None:
    sample = FeatureSample(200)
    labels = torch.zeros(1, 10, 10, dtype=torch.uint8)
    for value in range(50):
        feature = torch.full((1, 1, 10, 10), float(value))
        sample.update(Prediction(feature, feature, feature), labels)
    rows = sample.rows('knn')
    assert rows.shape == (200, 1)
    assert len(rows.unique()) > 40
    assert rows.mean().item() == pytest.approx(24.5, abs=4)


@pytest.mark.parametrize('name', ['neco', 'knn'])
def test_statistics_survive_a_file_and_fit_their_network(name: str, tmp_path: Path) -> None:
    score = fitted(name)
    score.save(tmp_path / 'fitted.safetensors')
    loaded = type(score).load(tmp_path / 'fitted.safetensors')
    prediction = predicted(9)
    assert torch.equal(loaded(prediction), score(prediction))
    with pytest.raises(MultishiftError, match=f'{CHANNELS} .*channels, the network.* 3'):
        score(prediction._replace(feature=prediction.feature[:, :3]))
    save_file({'weight': torch.ones(2)}, tmp_path / 'other.safetensors')
    with pytest.raises(MultishiftError, match=r'other\.safetensors.*it has weight'):
        type(score).load(tmp_path / 'other.safetensors')
    broken = {key: value * torch.nan for key, value in score.statistics.items()}
    save_file(broken, tmp_path / 'other.safetensors')
    with pytest.raises(MultishiftError, match='not finite'):
        type(score).load(tmp_path / 'other.safetensors')


@pytest.mark.parametrize('name', ['neco', 'knn'])
def test_frames_that_do_not_suffice(name: str) -> None:
    fitting = find_score(name).implementation().fitting()
    fitting.update(predicted(0), torch.full_like(labelled(0), VOID))
    with pytest.raises(MultishiftError, match=f'score {name} saw no pixel of a known class'):
        fitting.result()
    broken = predicted(0)
    fitting.update(broken._replace(feature=broken.feature * torch.nan), labelled(0))
    with pytest.raises(MultishiftError, match='features are not finite'):
        fitting.result()


def test_features_that_do_not_vary_give_no_neco() -> None:
    fitting = find_score('neco').implementation().fitting()
    still = predicted(0)
    fitting.update(still._replace(feature=torch.ones_like(still.feature)), labelled(0))
    with pytest.raises(MultishiftError, match='needs features that vary'):
        fitting.result()


def test_knn_stays_out_of_engines() -> None:
    with pytest.raises(MultishiftError, match='score knn cannot be exported, as it compares'):
        find_score('knn').check_exportable()
    find_score('neco').check_exportable()


class Scoring(nn.Module):
    """A graph that does nothing but score."""

    def __init__(self, score: Callable[[Prediction], Tensor]) -> None:
        super().__init__()
        self.score = score

    def forward(self, logits: Tensor, feature: Tensor) -> Tensor:
        return self.score(Prediction(logits, logits, feature))


@pytest.mark.parametrize('name', ['rba', 'neco'])
def test_scores_of_engines_are_exported(name: str) -> None:
    scoring = Scoring(fitted(name) if name == 'neco' else score_of(name))
    prediction = predicted(9)
    inputs = (prediction.logits, prediction.feature)
    program = torch.export.export(scoring, inputs, strict=False)
    torch.testing.assert_close(program.module()(*inputs), scoring(*inputs))
