# SPDX-License-Identifier: Apache-2.0
"""Exact anomaly metrics: sorted files on disk against scikit-learn on pooled pixels."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_perception.metrics import AnomalyMetrics, AnomalyResult

# Nothing of test/ is in the import path.
_SPEC = spec_from_file_location('exact_metrics', Path(__file__).with_name('exact_metrics.py'))
exact_metrics = module_from_spec(_SPEC)
_SPEC.loader.exec_module(exact_metrics)
ExactAnomalyMetrics = exact_metrics.ExactAnomalyMetrics

Image = tuple[np.ndarray, np.ndarray]


def continuous(rng: np.random.Generator, novel: np.ndarray) -> np.ndarray:
    return rng.normal(novel, 1).astype(np.float32)


def tied(rng: np.random.Generator, novel: np.ndarray) -> np.ndarray:
    """A value of half of the pixels, few others, and some that occur once."""
    values = rng.normal(novel, 1).round(1)
    values[rng.random(novel.size) < 0.5] = 0.5
    values[:50] = rng.normal(0, 1e-3, 50)
    return values.astype(np.float32)


def small(rng: np.random.Generator, novel: np.ndarray) -> np.ndarray:
    return rng.integers(0, 200 + 56 * novel, novel.size).astype(np.uint8)


def images(
    scores: Callable[[np.random.Generator, np.ndarray], np.ndarray], novel: float = 0.02
) -> list[Image]:
    rng = np.random.default_rng(0)
    data = []
    for _ in range(4):
        shares = [0.5, 0.4 - novel, novel, 0.1]
        truth = rng.choice(np.array([0, 3, NOVEL, VOID], np.uint8), (300, 200), p=shares)
        data.append((scores(rng, truth.ravel() == NOVEL).reshape(truth.shape), truth))
    return data


def assert_equals_scikit_learn(result: AnomalyResult, data: list[Image]) -> None:
    score, truth = (np.concatenate([image[i].ravel() for image in data]) for i in (0, 1))
    novel, score = truth[truth != VOID] == NOVEL, score[truth != VOID]
    fpr, tpr, _ = roc_curve(novel, score, drop_intermediate=False)
    assert result.auroc == pytest.approx(roc_auc_score(novel, score), abs=1e-13)
    assert result.ap == pytest.approx(average_precision_score(novel, score), abs=1e-13)
    assert result.fpr95 == fpr[np.argmax(tpr >= 0.95)]
    assert (result.novel_pixels, result.known_pixels) == (novel.sum(), (~novel).sum())
    assert result.error == 0
    # The other implementation, exact for so few pixels.
    binned = AnomalyMetrics()
    for image in data:
        binned.update(*image)
    assert result.fpr95_nearest == binned.result().fpr95_nearest


@pytest.mark.slow
@pytest.mark.parametrize('scores', [continuous, tied, small])
@pytest.mark.parametrize('novel', [0.02, 6e-5])
def test_many_files_give_what_scikit_learn_does(
    scores: Callable[[np.random.Generator, np.ndarray], np.ndarray],
    novel: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Few rows at a time: scores of all files have to meet across many reads.
    monkeypatch.setattr(exact_metrics, '_READ', 1000)
    data = images(scores, novel)
    metrics = ExactAnomalyMetrics(max_pending=1 << 16)
    for image in data:
        metrics.update(*image)
    assert_equals_scikit_learn(metrics.result(), data)
    # A result ends nothing.
    metrics.update(*data[0])
    assert_equals_scikit_learn(metrics.result(), [*data, data[0]])


def test_parts_of_several_processes_add_up(tmp_path: Path) -> None:
    data = images(continuous)
    for name, part in (('a', data[:1]), ('b', data[1:3])):
        process = ExactAnomalyMetrics(tmp_path / name)
        for image in part:
            process.update(*image)
        process.flush()
    metrics, temporary = ExactAnomalyMetrics(), ExactAnomalyMetrics()
    temporary.update(*data[3])
    for other in (*(ExactAnomalyMetrics.open(tmp_path / name) for name in 'ab'), temporary):
        metrics.merge(other)
    del other, temporary

    assert_equals_scikit_learn(metrics.result(), data)


def test_a_temporary_folder_goes_with_the_object() -> None:
    metrics = ExactAnomalyMetrics()
    metrics.update(*images(tied)[0])
    metrics.flush()
    folder = metrics._files[0].parent
    del metrics
    assert not folder.exists()


def test_without_both_kinds_of_pixels_there_is_no_result() -> None:
    metrics = ExactAnomalyMetrics()
    assert metrics.result() == AnomalyResult(None, None, None, 0, 0, 0.0)
    metrics.update(np.array([1, 2], np.float32), np.array([0, VOID], np.uint8))
    assert metrics.result() == AnomalyResult(None, None, None, 0, 1, 0.0)


def test_wrong_scores_are_refused() -> None:
    metrics = ExactAnomalyMetrics()
    with pytest.raises(ValueError, match='NaN or infinite'):
        metrics.update(np.array([np.inf], np.float32), np.array([0], np.uint8))
    metrics.update(np.array([1], np.float32), np.array([0], np.uint8))
    other = ExactAnomalyMetrics()
    other.update(np.array([1], np.uint8), np.array([0], np.uint8))
    with pytest.raises(ValueError, match='cannot mix uint8 scores with float'):
        metrics.merge(other)


def test_folders_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(MultishiftError, match='has no scores: name the folder of an evaluation'):
        ExactAnomalyMetrics.open(tmp_path)
    metrics = ExactAnomalyMetrics(tmp_path)
    metrics.update(*images(tied)[0])
    metrics.flush()
    with pytest.raises(MultishiftError, match='has the scores of another evaluation'):
        ExactAnomalyMetrics(tmp_path)
    file = metrics._files[0]
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(MultishiftError, match=f'{file.name} is cut off'):
        ExactAnomalyMetrics.open(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    metrics = ExactAnomalyMetrics(tmp_path / 'file' / 'scores')
    metrics.update(*images(tied)[0])
    with pytest.raises(MultishiftError, match='file/scores: 0 MB of scores cannot be written'):
        metrics.flush()
