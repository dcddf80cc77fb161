# SPDX-License-Identifier: Apache-2.0
"""BRAVO's and SegmentMeIfYouCan's figures against what their public tools said of the same images.

Written down are figures alone. They come of valeoai/bravo_challenge at d54005d (`evaluate_method`
over its own tar files, subset synobjs, whose images it takes all pixels of) and of
SegmentMeIfYouCan/road-anomaly-benchmark at 1c7804e (`MetricSegment`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics import SegmentationMetrics
from multishift_perception.metrics.bravo import BravoMetrics
from multishift_perception.metrics.components import (
    ANOMALY_TRACK,
    OBSTACLE_TRACK,
    ComponentMetrics,
    Sizes,
)


def uniform(seed: int) -> np.random.Generator:
    """Return a source of which `random` is used alone: that has never changed."""
    return np.random.Generator(np.random.PCG64(seed))


def semantic_frames(seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield labels, confidence and truth of 19 classes, blocks with void and novel ones."""
    rng = uniform(seed)
    for _ in range(3):
        blocks = np.floor(19 * rng.random((6, 8))).astype(np.uint8)
        truth = np.kron(blocks, np.ones((12, 15), np.uint8))
        other = np.floor(19 * rng.random(truth.shape)).astype(np.uint8)
        labels = np.where(rng.random(truth.shape) < 0.8, truth, other)
        # Right ones are surer; half of all have one of few values, so that there are ties.
        sure = np.clip(rng.random(truth.shape) + 0.3 * (labels == truth), 0, 1) ** 0.5
        sure = np.where(rng.random(truth.shape) < 0.5, np.floor(20 * sure) / 20, sure)
        for value, share in ((NOVEL, 0.15), (VOID, 0.1)):
            there = rng.random(blocks.shape) < share
            truth[np.kron(there, np.ones((12, 15), bool))] = value
        sure[truth == NOVEL] *= 0.8
        yield labels, np.floor(65535 * sure).astype(np.uint16), truth


def discs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return where discs of 1 to 30 pixels across are, some over others."""
    y, x = np.mgrid[:120, :160]
    found = np.zeros(y.shape, bool)
    for _ in range(count):
        top, left, size = rng.random(3) * (120, 160, 15)
        found |= (y - top) ** 2 + (x - left) ** 2 <= size**2
    return found


def anomaly_frames(seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield masks and truth with objects found in part, missed ones, and false alarms."""
    rng = uniform(seed)
    for _ in range(8):
        novel = discs(rng, 6)
        mask = (np.roll(novel, 2, axis=1) & ~discs(rng, 5)) | discs(rng, 2)
        truth = np.where(novel, NOVEL, 0).astype(np.uint8)
        truth[discs(rng, 2)] = VOID
        yield mask, truth


BRAVO = {
    0: {
        'miou': 0.6657892206252638,
        'ece': 0.09598899338961628,
        'auroc': 0.7529657280662762,
        'aupr_success': 0.9283649893926297,
        'aupr_error': 0.5397183631706515,
        'fpr95': 0.6575267343021661,
        'auroc_ood': 0.7667179765312817,
        'aupr_ood': 0.33228360892745656,
        'fpr95_ood': 0.43698559670781895,
        'semantic': 0.6131109822842662,
        'ood': 0.4926196222838517,
        'index': 0.5463003361997476,
    },
    1: {
        'miou': 0.6588955256847332,
        'ece': 0.09685250266346145,
        'auroc': 0.758741092503566,
        'aupr_success': 0.9291408840298085,
        'aupr_error': 0.5527245351094378,
        'fpr95': 0.6404029966416946,
        'auroc_ood': 0.7609065836912833,
        'aupr_ood': 0.2765557599093442,
        'fpr95_ood': 0.4410029498525074,
        'semantic': 0.6243966687505714,
        'ood': 0.4464918701831854,
        'index': 0.520666766392275,
    },
}
COMPONENTS = {
    ANOMALY_TRACK: {
        'siou': 0.20199367478649258,
        'ppv': 0.6641717740870476,
        'f1_25': 0.375,
        'f1_50': 0.375,
        'f1_75': 0.3125,
        'f1': 0.3531891495601173,
    },
    OBSTACLE_TRACK: {
        'siou': 0.5251085915900539,
        'ppv': 0.6218995233597466,
        'f1_25': 0.72,
        'f1_50': 0.7105263157894737,
        'f1_75': 0.44776119402985076,
        'f1': 0.6459451677372379,
    },
}


@pytest.mark.parametrize('seed', BRAVO)
def test_bravo(seed: int) -> None:
    segmentation, metrics = SegmentationMetrics(19), BravoMetrics()
    for labels, confidence, truth in semantic_frames(seed):
        segmentation.update(labels, truth)
        metrics.update(labels, confidence, truth)
    miou = segmentation.result().miou
    found = {'miou': miou, **vars(metrics.result(miou))}
    assert found == pytest.approx(BRAVO[seed], abs=1e-6, rel=0)


@pytest.mark.parametrize('sizes', COMPONENTS)
def test_components(sizes: Sizes) -> None:
    metrics = ComponentMetrics(sizes)
    for mask, truth in anomaly_frames(2):
        metrics.update(mask, truth)
    found = metrics.result()
    assert found.f1_at is not None
    figures = {
        'siou': found.siou,
        'ppv': found.ppv,
        'f1_25': found.f1_at[0],
        'f1_50': found.f1_at[5],
        'f1_75': found.f1_at[10],
        'f1': found.f1,
    }
    assert figures == pytest.approx(COMPONENTS[sizes], abs=1e-6, rel=0)
