# SPDX-License-Identifier: Apache-2.0
"""A drive: determinism, conditions, labels, geometry."""

from functools import lru_cache

import numpy as np
import pytest

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.sample_drive import CAMERAS, CONDITIONS, Drive, Frame

SIZE = (120, 212)
ROAD, SKY = 0, 10


@lru_cache(maxsize=1)
def drive() -> Drive:
    return Drive(5, size=SIZE)


@lru_cache(maxsize=32)
def frame(condition: str, camera: str = 'front') -> Frame:
    return drive().render(camera, 48.0 * (CONDITIONS.index(condition) + 0.5) / len(CONDITIONS))


@pytest.mark.slow
def test_same_arguments_give_same_bytes_in_any_order_of_calls() -> None:
    first, second = Drive(3, size=SIZE), Drive(3, size=SIZE)
    moments = [('front', 2.0), ('left', 2.0), ('front', 20.1), ('front', 34.0)]
    forward = [first.render(*moment) for moment in moments]
    backward = [second.render(*moment) for moment in reversed(moments)][::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.labels, other.labels)


@pytest.mark.slow
def test_another_seed_is_another_drive() -> None:
    other = Drive(6, size=SIZE).render('front', 4.0)
    assert (other.labels != frame('day').labels).mean() > 0.02


def test_conditions_follow_each_other_in_equal_segments() -> None:
    names = [drive().condition(t) for t in np.arange(0.005, 48.0, 0.01).tolist()]
    assert sorted(set(names), key=names.index) == list(CONDITIONS)
    assert {names.count(name) for name in CONDITIONS} == {800}
    assert sum(a != b for a, b in zip(names[:-1], names[1:], strict=True)) == len(CONDITIONS) - 1


def test_condition_beyond_the_ends_is_that_of_the_end() -> None:
    assert drive().condition(-1.0) == CONDITIONS[0]
    assert drive().condition(48.0) == CONDITIONS[-1]


@pytest.mark.parametrize('camera', CAMERAS)
@pytest.mark.parametrize('condition', CONDITIONS)
def test_frames_have_the_promised_form(camera, condition):
    picture = frame(condition, camera)
    assert picture.condition == condition
    assert picture.image.shape == (*SIZE, 3)
    assert picture.image.dtype == np.uint8
    assert picture.labels.shape == SIZE
    assert picture.labels.dtype == np.uint8
    assert set(np.unique(picture.labels)) <= {*range(19), NOVEL, VOID}
    assert (picture.labels == VOID).mean() < 0.1


def test_night_is_darker_and_fog_flatter_than_day() -> None:
    day, night, fog = (frame(name).image.astype(float) for name in ('day', 'night', 'fog'))
    assert night.mean() < 0.6 * day.mean()
    assert fog.std() < 0.8 * day.std()


def test_low_sun_is_warmer_than_rain() -> None:
    def warmth(name):
        red, _, blue = frame(name).image.reshape(-1, 3).mean(0)
        return red / blue

    assert warmth('low_sun') > 1.15 * warmth('rain')


@pytest.mark.parametrize('camera', CAMERAS)
def test_sky_lies_above_the_horizon_and_road_below(camera):
    horizon = drive().intrinsics(camera).cy
    for t in (3.0, 19.0, 44.0):
        labels = drive().render(camera, t).labels
        assert np.flatnonzero((labels == SKY).any(1)).max(initial=0) <= horizon + 1
        assert np.flatnonzero((labels == ROAD).any(1)).min() >= horizon - 1


def test_what_is_near_hides_what_is_far() -> None:
    """On every column, the lowest sky lies above the highest road."""
    labels = frame('day').labels
    for column in labels.T:
        sky, road = np.flatnonzero(column == SKY), np.flatnonzero(column == ROAD)
        if len(sky) and len(road):
            assert sky.max() < road.min()


def test_time_moves_the_picture_a_little() -> None:
    near, same, far = (drive().render('front', t) for t in (4.0, 4.05, 6.0))
    assert 0 < (near.labels != same.labels).mean() < (near.labels != far.labels).mean()


@pytest.mark.slow
def test_novel_objects_are_nearly_always_ahead() -> None:
    seen = [(drive().render('front', t).labels == NOVEL).mean() for t in range(1, 48, 3)]
    assert np.mean(np.array(seen) > 0.0005) > 0.8
    assert max(seen) < 0.25


def test_intrinsics_have_the_field_of_view() -> None:
    inside = drive().intrinsics('front')
    assert (inside.height, inside.width) == SIZE
    angle = 2 * np.rad2deg(np.arctan(inside.width / 2 / inside.fx))
    assert angle == pytest.approx(85.0)
    assert inside.fx == inside.fy


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'rear'.*front.*left"):
        drive().render('rear', 0.0)
    with pytest.raises(ValueError, match=r"'rear'.*front.*left"):
        drive().intrinsics('rear')
    with pytest.raises(ValueError, match=r"'test'.*train.*val.*demo"):
        Drive(1, split='test')
    with pytest.raises(ValueError, match='seconds is 0'):
        Drive(1, seconds=0.0)
