# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multishift_perception.engine.look import LEAST_FRAMES, Look
from multishift_perception.errors import MultishiftError

SIZE = 12


def frames(seed: int, count: int, offset: float = 0.0) -> np.ndarray:
    """Statistics that depend on each other, and have scales of their own."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, SIZE)) @ np.random.default_rng(99).normal(size=(SIZE, SIZE))
    return ((mixed + offset) * np.geomspace(0.01, 100, SIZE)).astype(np.float32)


@pytest.mark.parametrize(('count', 'most'), [(40, 0.1), (400, 0.03)])
def test_few_new_frames_lie_above_one(count: int, most: float) -> None:
    """The frames' own distances, by a covariance that fits them best, would leave 3 times more."""
    distances = Look.fit({'day': frames(0, count)}).distances(frames(1, 2000))
    assert 0.002 < (distances > 1).mean() < most


def test_what_lies_beside_the_spread_is_far() -> None:
    look = Look.fit({'day': frames(0, 400)})
    assert look.distances(frames(1, 50, offset=30.0)).min() > 2


def test_the_nearest_domain_counts() -> None:
    day, far = frames(0, 200), frames(1, 200, offset=30.0)
    alone, both = Look.fit({'day': day}), Look.fit({'day': day, 'far': far})
    test = frames(2, 50, offset=30.0)
    assert alone.distances(test).min() > 1.5
    assert np.median(both.distances(test)) < 1
    np.testing.assert_allclose(both.distances(day), alone.distances(day), rtol=1e-4)


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    look = Look.fit({'day': frames(0, 50), 'rain': frames(1, 50)})
    look.save(tmp_path / 'look.npz')
    test = frames(2, 9)
    np.testing.assert_array_equal(
        Look.load(tmp_path / 'look.npz').distances(test), look.distances(test)
    )


@pytest.mark.parametrize('content', [b'', b'no archive'])
def test_another_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'look.npz').write_bytes(content)
    with pytest.raises(MultishiftError, match=r'look\.npz holds no statistics of looks'):
        Look.load(tmp_path / 'look.npz')


def test_too_few_frames_are_refused_by_name() -> None:
    with pytest.raises(MultishiftError, match=f'^night: {LEAST_FRAMES - 1} frames tell too'):
        Look.fit({'day': frames(0, 50), 'night': frames(0, LEAST_FRAMES - 1)})


def test_frames_all_alike_are_no_fault() -> None:
    still = np.repeat(frames(0, 1), 30, axis=0)
    distances = Look.fit({'still': still}).distances(np.concatenate([still[:1], frames(1, 1)]))
    assert distances[0] < 1 < distances[1]
