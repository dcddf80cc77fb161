# SPDX-License-Identifier: Apache-2.0
"""Parts of the evaluation: what it keeps for charts and pictures, and how it reads its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
import pytest

from multishift_training.datasets.descriptions import read_datasets
from multishift_training.datasets.kinds import CamvidData
from multishift_training.evaluation.showcase import Showcase, Shown
from multishift_training.evaluation.spread import KNOWN_ROW, NOVEL_ROW, ScoreSpread


def shown(name: str, quality: float, *, novel: bool = True, width: int = 20) -> Shown:
    """An image whose AP, or mIoU, rises with the quality 0..1."""
    truth = np.zeros((10, width), np.uint8)
    truth[:5] = 1
    score = np.linspace(0, 1, truth.size, dtype=np.float32).reshape(truth.shape)
    if novel:
        truth[3:5] = 254
        score[3:5] = quality
    labels = np.minimum(truth, 1)
    labels[:, round(quality * width) :] = 0
    image = np.zeros((*truth.shape, 3), np.uint8)
    return Shown(name, '', image, truth, labels, score, None)


def test_showcase_keeps_the_best_and_the_worst() -> None:
    showcase = Showcase(2, has_classes=True)
    order = np.random.default_rng(0).permutation(20)
    for i in order:
        showcase.offer(shown(str(i), i / 20))
    assert showcase.measure == 'AP'
    assert [entry.shown.name for entry in showcase.best] == ['19', '18', '17']
    assert [entry.shown.name for entry in showcase.worst] == ['0', '1', '2']


def test_showcase_shows_no_image_twice() -> None:
    showcase = Showcase(2, has_classes=True)
    for i in range(4):
        showcase.offer(shown(str(i), i / 4))
    assert [entry.shown.name for entry in showcase.best] == ['3', '2', '1']
    assert [entry.shown.name for entry in showcase.worst] == ['0']


def test_images_without_novel_pixels_count_only_among_their_like() -> None:
    showcase = Showcase(2, has_classes=True)
    showcase.offer(shown('plain', 1.0, novel=False))
    assert showcase.measure == 'mIoU'
    assert [entry.value for entry in showcase.best] == [1.0]
    showcase.offer(shown('novel', 0.5))
    assert showcase.measure == 'AP'
    assert [entry.shown.name for entry in showcase.best] == ['novel']
    without = Showcase(2, has_classes=False)
    without.offer(shown('plain', 1.0, novel=False))
    assert without.best == without.worst == ()


def test_showcase_keeps_small_copies() -> None:
    showcase = Showcase(2, has_classes=True)
    large = shown('large', 0.5, width=2000)
    showcase.offer(large)
    [entry] = showcase.best
    assert entry.shown.image.shape == (2, 480, 3)
    assert not np.shares_memory(entry.shown.image, large.image)
    assert set(np.unique(entry.shown.truth)) <= {0, 1, 254}
    narrow = shown('narrow', 0.9)
    showcase.offer(narrow)
    assert showcase.best[0].shown.image.shape == (10, 20, 3)
    assert not np.shares_memory(showcase.best[0].shown.truth, narrow.truth)


@pytest.fixture
def scored() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    rng = np.random.default_rng(4)
    truth = rng.choice([0, 3, 254, 255], (60, 90)).astype(np.uint8)
    score = (rng.normal(size=truth.shape) + (truth == 254)).astype(np.float32)
    return score, truth


def test_histograms_are_those_of_the_pixels(
    scored: tuple[NDArray[np.float32], NDArray[np.uint8]],
) -> None:
    score, truth = scored
    spread = ScoreSpread()
    spread.update(score[:30], truth[:30], 'day')
    spread.update(score[30:], truth[30:], 'night')
    assert spread.classes == (0, 3, 254)
    assert spread.conditions == ('day', 'night')
    edges = np.linspace(-3, 3, 13)
    for value in spread.classes:
        expected = np.histogram(score[truth == value], edges)[0] / (truth == value).sum()
        assert np.allclose(spread.of_class(value, edges), expected)  # type: ignore[arg-type]
    for row, part in ((KNOWN_ROW, truth[30:] < 254), (NOVEL_ROW, truth[30:] == 254)):
        expected = np.histogram(score[30:][part], edges)[0] / part.sum()
        assert np.allclose(spread.of_condition('night', row, edges), expected)  # type: ignore[arg-type]
    low, high = spread.range()
    inside = (score >= low) & (score <= high)
    assert 0.98 < inside[truth < 255].mean() < 1


def test_histograms_of_large_images_stay_close() -> None:
    rng = np.random.default_rng(5)
    spread, edges = ScoreSpread(), np.linspace(-2, 2, 9)
    truth = np.zeros((600, 1024), np.uint8)
    scores = [rng.normal(size=truth.shape).astype(np.float32) for _ in range(3)]
    for score in scores:
        spread.update(score, truth, '')
    expected = np.histogram(np.stack(scores), edges)[0] / np.stack(scores).size
    assert np.allclose(spread.of_class(0, edges), expected, atol=5e-3)  # type: ignore[arg-type]


def test_constant_scores_have_a_range() -> None:
    spread = ScoreSpread()
    spread.update(np.full((4, 4), 2.0, np.float32), np.zeros((4, 4), np.uint8), '')
    assert spread.range() == (1.5, 2.5)


def test_descriptions_by_name_and_alone(tmp_path: Path) -> None:
    (tmp_path / 'many.yaml').write_text(
        'day: {kind: camvid, split: val}\n'
        'pasted:\n'
        '  images: {kind: camvid, split: train}\n'
        '  outliers: {kind: sample_objects, split: val}\n'
    )
    (tmp_path / 'alone.yaml').write_text('kind: camvid\nsplit: test\n')
    (tmp_path / 'mixed.yaml').write_text('images: {kind: camvid, split: val}\n')
    (tmp_path / 'named.yaml').write_text('images: {images: {kind: camvid, split: val}}\n')
    found = read_datasets([tmp_path / f'{name}.yaml' for name in ('many', 'alone', 'mixed')])
    assert list(found) == ['day', 'pasted', 'alone', 'mixed']
    assert found['alone'].images == CamvidData(kind='camvid', split='test')
    assert found['pasted'].outliers is not None
    assert found['day'].outliers is None
    assert list(read_datasets([tmp_path / 'named.yaml'])) == ['images']
