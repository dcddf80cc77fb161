# SPDX-License-Identifier: Apache-2.0
"""Independent frames: determinism, variety, labels."""

import numpy as np
import pytest

from multishift_perception.classes import NOVEL, VOID, TrainId
from multishift_perception.sample_drive import CONDITIONS, SPLITS, random_frame

SIZE = (90, 160)


@pytest.fixture(scope='module')
def frames():
    return [random_frame(seed, size=SIZE) for seed in range(40)]


@pytest.mark.slow
def test_same_seed_gives_same_bytes_whatever_came_before(frames):
    for seed in (7, 0):
        again = random_frame(seed, size=SIZE)
        np.testing.assert_array_equal(again.image, frames[seed].image)
        np.testing.assert_array_equal(again.labels, frames[seed].labels)
        assert again.condition == frames[seed].condition


@pytest.mark.slow
def test_splits_and_seeds_differ(frames):
    one = frames[1]
    for other in (frames[2], random_frame(1, split='val', size=SIZE)):
        assert (one.labels != other.labels).mean() > 0.02


def test_all_conditions_occur(frames):
    assert {frame.condition for frame in frames} == set(CONDITIONS)


def test_labels_are_allowed_values_and_common_classes_occur(frames):
    values = set(np.unique([frame.labels for frame in frames]))
    assert values <= {*range(19), NOVEL, VOID}
    assert values >= {0, 1, 2, 5, 8, 9, 10, 11, 13, NOVEL}


def test_most_frames_but_not_all_have_a_novel_object(frames):
    shares = np.array([(frame.labels == NOVEL).mean() for frame in frames])
    assert 0.65 < (shares > 0).mean() < 1.0
    assert 0.002 < shares[shares > 0].mean() < 0.05


@pytest.mark.parametrize('condition', CONDITIONS)
def test_condition_is_taken_when_given(condition):
    assert random_frame(3, size=SIZE, condition=condition).condition == condition


@pytest.mark.parametrize('split', SPLITS)
def test_every_split_renders(split):
    assert random_frame(11, split=split, size=SIZE).image.shape == (*SIZE, 3)


def test_wide_frames_range_further_under_the_same_seeds(frames):
    wide = [random_frame(seed, size=SIZE, variety='wide') for seed in range(12)]

    again = random_frame(5, size=SIZE, variety='wide')
    np.testing.assert_array_equal(again.image, wide[5].image)
    np.testing.assert_array_equal(again.labels, wide[5].labels)
    assert set(np.unique([frame.labels for frame in wide])) <= {*range(19), NOVEL, VOID}
    for usual, other in zip(frames, wide, strict=False):
        assert other.condition == usual.condition
        assert (other.labels != usual.labels).mean() > 0.02

    def spread(some):  # of how much of each picture is road
        return np.std([(frame.labels == TrainId.ROAD).mean() for frame in some])

    assert spread(wide) > 1.2 * spread(frames[:12])


def test_a_wide_scene_in_another_light_shows_the_same_things():
    day, rain = (
        random_frame(2, size=SIZE, variety='wide', condition=name) for name in ('day', 'rain')
    )
    assert (day.labels == rain.labels).mean() > 0.98


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'test'.*train.*val.*demo"):
        random_frame(1, split='test')
    with pytest.raises(ValueError, match=r"'snow'.*day.*night"):
        random_frame(1, condition='snow')
    with pytest.raises(ValueError, match=r"'narrow'.*usual.*wide"):
        random_frame(1, variety='narrow')
