# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from scipy.special import entr, logsumexp, softmax
from sklearn.covariance import EmpiricalCovariance
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_training.inference.batches import pooled_scores, predict_batches
from multishift_training.inference.fitting import fit_scores
from multishift_training.models import MaskPrediction, Prediction, SegmentationModel
from multishift_training.models.input_scale import IMAGENET, Normalize
from multishift_training.scores import SCORES
from multishift_training.scores.fitted import FittedScore
from multishift_training.scores.mahalanobis import Mahalanobis, MahalanobisFit
from multishift_training.scores.odin import Odin
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
        low = self.classifier(feature)
        logits = F.interpolate(low, size or image.shape[2:], mode='bilinear')
        return Prediction(logits, logits.square().sum(1), feature)


@pytest.fixture
def model() -> TinyModel:
    torch.manual_seed(0)
    return TinyModel().eval()


def prediction(logits: np.ndarray, *, masks: bool = False) -> Prediction:
    """A prediction of nothing but logits ``[C,W]``."""
    tensor = torch.from_numpy(logits).float()[None, :, None]
    nothing = torch.zeros(1, 1, 1, 1)
    parts = MaskPrediction(nothing, nothing, nothing) if masks else None
    return Prediction(tensor, torch.zeros(1, 1, logits.shape[1]), nothing, parts)


REFERENCE = {
    'max_softmax': lambda logits: 1 - softmax(logits, 0).max(0),
    'max_logit': lambda logits: -logits.max(0),
    'energy': lambda logits: -logsumexp(logits, 0),
    'entropy': lambda logits: entr(softmax(logits, 0)).sum(0),
}


@pytest.mark.parametrize('name', REFERENCE)
def test_score_equals_its_formula_in_float64(name: str) -> None:
    logits = np.random.default_rng(0).normal(0, 8, (19, 500)).astype(np.float32)
    score = score_of(name)(prediction(logits))
    assert score.shape == (1, 1, 500)
    assert score.dtype == torch.float32
    assert np.allclose(score.flatten(), REFERENCE[name](logits.astype(float)), atol=3e-6)


@pytest.mark.parametrize('name', REFERENCE)
def test_larger_is_more_anomalous(name: str) -> None:
    sure_and_unsure = np.array([[9.0, 0.1], [0.0, 0.0], [0.0, 0.1]])
    known, novel = score_of(name)(prediction(sure_and_unsure)).flatten()
    assert novel > known


@pytest.mark.parametrize('name', REFERENCE)
def test_extreme_logits_stay_finite(name: str) -> None:
    logits = np.array([[1e4, -1e4, 0], [-1e4, -1e4, 0], [0, -1e4, 0]])
    assert score_of(name)(prediction(logits)).isfinite().all()


def test_class_sums_of_mask_networks_are_probabilities_already() -> None:
    sums = np.array([[0.9, 0.0, 1.5], [0.05, 0.02, 0.2]])
    found = score_of('max_softmax')(prediction(sums, masks=True)).flatten()
    assert np.allclose(found, [0.1, 0.98, -0.5], atol=1e-6)
    # The published filter of generated images: from -ln(18 + e), sure, to -ln 19, claimed by none.
    one_of_19 = np.zeros((19, 2))
    one_of_19[3, 0] = 1
    found = score_of('energy')(prediction(one_of_19, masks=True)).flatten()
    assert np.allclose(found, [-np.log(18 + np.e), -np.log(19)], atol=1e-6)


def test_network_with_another_score(model: TinyModel) -> None:
    """Everything downstream takes the network as it is; nothing else of it changes."""
    images = torch.randint(0, 256, (2, 20, 28, 3), dtype=torch.uint8)
    labels = torch.zeros(2, 20, 28, dtype=torch.uint8)
    (plain,) = predict_batches(model, [(images, labels)], others=['max_softmax'])
    (rescored,) = predict_batches(with_score(model, 'max_softmax'), [(images, labels)])
    assert np.array_equal(rescored.labels, plain.labels)
    assert np.array_equal(rescored.score, plain.others['max_softmax'])
    assert not np.array_equal(plain.score, plain.others['max_softmax'])
    (own,) = predict_batches(with_score(model, 'uncertainty'), [(images, labels)])
    assert np.array_equal(own.score, plain.score)
    known, _ = pooled_scores(with_score(model, 'max_softmax'), [(images, labels)], stride=1)
    assert np.array_equal(known, plain.others['max_softmax'].ravel())


def test_size_is_passed_on(model: TinyModel) -> None:
    image = torch.randn(1, 3, 20, 28)
    for name in ('energy', 'odin'):
        assert with_score(model, name)(image, (5, 7)).score.shape == (1, 5, 7)


@pytest.mark.parametrize(
    ('name', 'is_fitted', 'message'),
    [
        (
            'softmax',
            False,
            "unknown score 'softmax' .did you mean max_softmax.*uncertainty, max_softmax.*odin",
        ),
        ('mahalanobis', False, 'score mahalanobis is fitted on labelled images: fit it first'),
        ('energy', True, 'score energy is not fitted'),
        ('odin', True, 'score odin is not fitted'),
    ],
)
def test_impossible_choice_of_score(
    model: TinyModel, name: str, is_fitted: bool, message: str
) -> None:
    fitted = fit_mahalanobis(model, [labelled(0)]) if is_fitted else None
    with pytest.raises(MultishiftError, match=message):
        with_score(model, name, fitted=fitted)


def fit_mahalanobis(model: TinyModel, batches: Iterable[tuple[Tensor, Tensor]]) -> FittedScore:
    return fit_scores(model, ['mahalanobis'], batches)['mahalanobis']


def labelled(seed: int, *, size: tuple[int, int] = (40, 56)) -> tuple[Tensor, Tensor]:
    """Images and labels of classes 0, 1, 3 and of novel and void: no pixel of class 2."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, *size, 3), generator=generator, dtype=torch.uint8)
    values = torch.tensor([0, 1, 3, NOVEL, VOID], dtype=torch.uint8)
    labels = values[torch.randint(5, (2, *size), generator=generator)]
    # Classes differ, so that their means do.
    images[labels == 1] //= 4
    return images, labels


def known_features(model: TinyModel, batches: list[tuple[Tensor, Tensor]]) -> Iterator:

    for images, labels in batches:
        feature = model(Normalize(IMAGENET)(images)).feature.detach().double().numpy()
        # Nearest: the middle of each feature's 4 x 4 pixels.
        nearest = labels[:, 2::4, 2::4].numpy()
        for c in (0, 1, 3):
            yield c, feature.transpose(0, 2, 3, 1)[nearest == c]


def test_mahalanobis_is_the_distance_to_the_nearest_class(model: TinyModel) -> None:
    batches = [labelled(seed) for seed in range(3)]
    fitted = fit_mahalanobis(model, batches)
    parts = list(known_features(model, batches))
    groups = {c: np.concatenate([f for k, f in parts if k == c]) for c in (0, 1, 3)}
    means = {c: group.mean(0) for c, group in groups.items()}
    centered = np.concatenate([group - means[c] for c, group in groups.items()])
    reference = EmpiricalCovariance(assume_centered=True).fit(centered)

    answer = model(torch.randn(1, 3, 40, 56))
    feature = answer.feature.detach().double().numpy()[0].reshape(6, -1).T
    distances = [reference.mahalanobis(feature - mean) for mean in means.values()]
    expected = np.min(distances, axis=0).reshape(1, 10, 14)
    at_its_stride = fitted(answer._replace(logits=torch.zeros(1, 4, 10, 14)))
    assert np.allclose(at_its_stride.detach(), expected, rtol=1e-4, atol=1e-4)
    at_full_size = F.interpolate(torch.from_numpy(expected)[None], (40, 56), mode='bilinear')[0]
    score = fitted(answer).detach()
    assert score.dtype == torch.float32
    assert np.allclose(score, at_full_size, rtol=1e-4, atol=1e-4)


def test_mahalanobis_ignores_novel_and_void_pixels(model: TinyModel) -> None:
    batches = [labelled(0)]
    before = fit_mahalanobis(model, batches)(model(torch.ones(1, 3, 8, 8)))
    images, labels = batches[0]
    other = images.clone()
    # The 3 x 3 pixels that only the features of ignored labels see.
    ignored = (labels[:, 2::4, 2::4] == NOVEL) | (labels[:, 2::4, 2::4] == VOID)
    assert ignored.any()
    rows = ignored.repeat_interleave(4, 1).repeat_interleave(4, 2)
    inner = torch.zeros(40, 56, dtype=torch.bool)
    inner[1::4, 1::4] = True
    other[rows & inner] = 255
    after = fit_mahalanobis(model, [(other, labels)])(model(torch.ones(1, 3, 8, 8)))
    assert torch.equal(before, after)
    changed = labels.clone()
    changed[changed == NOVEL] = 2
    counted = fit_mahalanobis(model, [(images, changed)])(model(torch.ones(1, 3, 8, 8)))
    assert not torch.allclose(before, counted)


def test_mahalanobis_of_constant_and_doubled_channels() -> None:
    """A singular covariance: what never varies does not count, and no distance explodes."""
    generator = torch.Generator().manual_seed(0)
    varied = torch.randn(1, 3, 40, 40, generator=generator)
    constant = torch.full((1, 1, 40, 40), 1e3)
    feature = torch.cat([varied, constant, 2 * varied[:, :1]], 1)
    labels = torch.zeros(1, 40, 40, dtype=torch.uint8)

    def score(feature: Tensor) -> Tensor:
        fit = MahalanobisFit()
        answer = Prediction(torch.zeros(1, 2, 40, 40), torch.zeros(1), feature)
        fit.update(answer, labels)
        return fit.result()(answer)

    assert torch.allclose(score(feature), score(varied), rtol=1e-3, atol=1e-3)


def test_mahalanobis_memory_does_not_grow_with_the_data(model: TinyModel) -> None:
    """In one pass, whatever the batches: the same sums."""
    batches = [labelled(seed) for seed in range(4)]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    answer = model(torch.randn(1, 3, 40, 56))
    one_by_one = fit_mahalanobis(model, iter(batches))(answer)
    at_once = fit_mahalanobis(model, [(images, labels)])(answer)
    assert torch.allclose(one_by_one, at_once, rtol=1e-5)
    fit = MahalanobisFit()
    sizes = set()
    for images, labels in batches:
        fit.update(model(images.permute(0, 3, 1, 2).float()), labels)
        sizes.add(sum(t.numel() for t in vars(fit).values() if isinstance(t, Tensor)))
    assert sizes == {6 + 4 + 4 * 6 + 6 * 6}


def test_mahalanobis_statistics_survive_a_file(model: TinyModel, tmp_path: Path) -> None:
    fitted = fit_mahalanobis(model, [labelled(0)])
    fitted.save(tmp_path / 'fitted.safetensors')
    image = torch.randn(1, 3, 20, 28)
    loaded = Mahalanobis.load(tmp_path / 'fitted.safetensors')
    again = with_score(model, 'mahalanobis', fitted=loaded)
    assert torch.equal(again(image).score, fitted(model(image)))


def test_mahalanobis_without_known_pixels(model: TinyModel) -> None:
    images, labels = labelled(0)
    with pytest.raises(MultishiftError, match='no pixel of a known class'):
        fit_mahalanobis(model, [(images, torch.full_like(labels, VOID))])


def test_mahalanobis_of_raw_labels(model: TinyModel) -> None:
    images, labels = labelled(0)
    with pytest.raises(
        MultishiftError,
        match='label 26 is no class of a network of 4 classes: fit on labels 0..3, .*groups',
    ):
        fit_mahalanobis(model, [(images, torch.full_like(labels, 26))])


def test_mahalanobis_of_broken_weights(model: TinyModel) -> None:
    nn.init.constant_(model.backbone[0].bias, torch.nan)  # type: ignore[arg-type]
    with pytest.raises(MultishiftError, match='not finite'):
        fit_mahalanobis(model, [labelled(0)])


def test_mahalanobis_of_another_network(model: TinyModel) -> None:
    fitted = fit_mahalanobis(model, [labelled(0)])
    other = Prediction(torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 8), torch.zeros(1, 9, 2, 2))
    with pytest.raises(MultishiftError, match='6 feature channels, the network has 9'):
        fitted(other)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'weight': torch.ones(2)}, 'it has weight'),
        ({'means': torch.ones(2, 3), 'covariance': torch.eye(4)}, r'means \[2, 3\].*do not fit'),
        ({'means': torch.ones(2, 3), 'covariance': torch.eye(3)}, 'not finite float64'),
        (
            {'means': torch.full((2, 3), torch.nan).double(), 'covariance': torch.eye(3).double()},
            'means is not finite',
        ),
    ],
)
def test_file_of_other_tensors(tmp_path: Path, content: dict, message: str) -> None:
    save_file(content, tmp_path / 'other.safetensors')
    with pytest.raises(MultishiftError, match=f'other.safetensors.*{message}'):
        Mahalanobis.load(tmp_path / 'other.safetensors')


def test_missing_and_truncated_statistics(tmp_path: Path) -> None:
    with pytest.raises(MultishiftError, match='does not exist'):
        Mahalanobis.load(tmp_path / 'nowhere')
    (tmp_path / 'cut').write_bytes(b'\x40')
    with pytest.raises(MultishiftError, match='cut is no whole safetensors file'):
        Mahalanobis.load(tmp_path / 'cut')


def test_odin_moves_the_image_towards_its_prediction(model: TinyModel) -> None:
    """Against the formula by hand: the gradient by differences, and the step's sign and size."""
    model = model.double()
    odin = Odin(model, temperature=3.0, epsilon=0.01)
    odin.step = odin.step.double()
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64)

    def total(image: Tensor) -> float:
        logits = model(image).logits / 3
        return logits.log_softmax(1).amax(1).sum().item()

    moved = image.clone()
    for index in np.ndindex(image.shape):
        up, down = image.clone(), image.clone()
        up[index] += 1e-6
        down[index] -= 1e-6
        slope = total(up) - total(down)
        moved[index] += np.sign(slope) * 0.01 / IMAGENET.std[index[1]]
    expected = -(model(moved).logits / 3).softmax(1).amax(1)
    found = odin(image)
    assert torch.allclose(found.score, expected, atol=1e-6)
    assert total(moved) > total(image)
    # Labels are of the image itself.
    assert torch.equal(found.logits, model(image).logits)


def test_odin_without_a_step_is_the_softmax(model: TinyModel) -> None:
    image = torch.randn(1, 3, 8, 12)
    score = Odin(model, temperature=1.0, epsilon=0.0)(image).score
    assert torch.allclose(1 + score, score_of('max_softmax')(model(image)), atol=1e-6)


def test_odin_within_an_evaluation(model: TinyModel) -> None:
    """Gradients inside inference mode, and none left behind."""
    batch = labelled(0)
    (plain,) = predict_batches(model, [batch])
    (odin,) = predict_batches(with_score(model, 'odin'), [batch])
    assert np.array_equal(odin.labels, plain.labels)
    assert odin.score.dtype == np.float32
    assert np.unique(odin.score).size > 1000
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize('options', [{'temperature': 0.0}, {'epsilon': -0.1}])
def test_odin_of_bad_options(model: TinyModel, options: dict[str, float]) -> None:
    with pytest.raises(MultishiftError, match='temperature > 0 and epsilon >= 0'):
        Odin(model, **options)


def test_every_name_gives_a_score(model: TinyModel) -> None:
    fitted = fit_scores(model, list(SCORES), [labelled(0)])
    scores = {}
    image = torch.randn(1, 3, 9, 13)
    for name in SCORES:
        scores[name] = with_score(model, name, fitted=fitted.get(name))(image)
        assert scores[name].score.shape == (1, 9, 13)
        assert scores[name].score.dtype == torch.float32
    assert len({s.score.sum().item() for s in scores.values()}) == len(SCORES)
