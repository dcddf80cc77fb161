# SPDX-License-Identifier: Apache-2.0
"""Which frames a report shows: evenly spread ones and one of each scene, within its bytes."""

from __future__ import annotations

from collections import Counter
from functools import partial

import cv2
import numpy as np
import pytest

from multishift_perception.classes import SemanticClass, color_table
from multishift_perception.pipeline import Pixels
from multishift_perception.report.film import Film
from multishift_perception.report.frame_table import FrameRecord, TruthCounts
from multishift_perception.report.gallery import BUDGET, Gallery
from multishift_perception.report.pictures import (
    Encoder,
    Picture,
    color_scores,
    draw_picture,
    jpeg,
    score_scale,
)
from multishift_perception.report.scenes import APART, WorstScenes

CLASSES = (SemanticClass('road', (128, 64, 128)), SemanticClass('sky', (70, 130, 180)))


def record(
    time: float,
    *,
    camera: str = 'front',
    condition: str = '',
    novel: int = 0,
    found: int = 0,
    false: int = 0,
) -> FrameRecord:
    counts = TruthCounts(novel, found, 1000 - novel, false)
    return FrameRecord(round(1e9 * time), time, camera, condition, truth=counts)


def pixels(size: tuple[int, int] = (12, 16)) -> Pixels:
    blank = np.zeros(size, np.uint8)
    return Pixels(np.full((*size, 3), 90, np.uint8), blank, blank, blank, blank)


def noise(seed: int) -> Pixels:
    rng = np.random.default_rng(seed)
    maps = [rng.integers(0, 2, (60, 80), np.uint8) for _ in range(4)]
    return Pixels(rng.integers(0, 255, (60, 80, 3), np.uint8), *maps)


def times(pictures: tuple[Picture, ...]) -> list[float]:
    return [picture.record.time for picture in pictures]


def test_largest_objects_are_of_every_group_and_of_different_scenes() -> None:
    gallery = Gallery(CLASSES, limit=4)
    for i in range(40):
        gallery.offer(record(i, condition='day', novel=20 + 9 * (i == 20)), pixels())
        gallery.offer(record(40 + i, condition='fog', novel=1), pixels())

    objects = gallery.pictures().objects

    assert Counter(p.record.condition for p in objects) == {'day': 2, 'fog': 2}
    day = [p.record.time for p in objects if p.record.condition == 'day']
    assert 20 in day
    assert abs(day[0] - day[1]) >= APART
    assert times(objects) == sorted(times(objects))


def test_more_groups_than_pictures_still_show_one_each() -> None:
    gallery = Gallery(CLASSES, limit=2)
    for name in 'abcd':
        for time in (0.0, 6.0):
            gallery.offer(record(time, condition=name, novel=1), pixels())
    assert sorted(p.record.condition for p in gallery.pictures().objects) == list('abcd')


def test_worst_come_first_and_neighbours_of_a_scene_once() -> None:
    gallery = Gallery(CLASSES, limit=3)
    # One long scene around 12 s is the worst by far, at every tenth of a second.
    for i in range(600):
        time = i / 10
        false = max(0, 300 - round(40 * abs(time - 12))) or 10 * (i in (300, 400, 500))
        gallery.offer(record(time, false=false, novel=50, found=50 - 2 * (i == 77)), pixels())
    pictures = gallery.pictures()
    found = times(pictures.false_alarms)
    assert found[0] == 12.0
    assert all(abs(a - b) >= APART for a in found for b in found if a is not b)
    assert times(pictures.misses) == [7.7]


def test_a_scene_beside_a_worse_one_hides_no_other() -> None:
    scenes = WorstScenes(4)
    for time, worth in ((0.0, 2), (3.3, 3), (6.7, 4)):
        shown = record(time)
        scenes.offer(worth, shown, partial(Picture, shown, b'', b'', b'', None))
    assert [picture.record.time for picture in scenes.chosen()] == [6.7, 0.0]


def test_cameras_show_scenes_of_their_own() -> None:
    scenes = WorstScenes(4)
    for camera in ('front', 'left'):
        shown = record(1.0, camera=camera, false=5)
        scenes.offer(5, shown, partial(Picture, shown, b'', b'', b'', None))
    assert len(scenes.chosen()) == 2


def test_film_is_spread_over_the_drive_and_bounded() -> None:
    drawn = 0

    def draw(shown: FrameRecord) -> Picture:
        nonlocal drawn
        drawn += 1
        return Picture(shown, b'', b'', b'', None)

    for frames in (None, 5000):
        film, drawn = Film(40, frames=frames), 0
        for i in range(2500):
            for camera in ('front', 'left'):
                shown = record(i / 10, camera=camera)
                film.offer(shown, partial(draw, shown))
        pictures = film.pictures()
        assert 20 <= len(pictures) <= 40
        assert drawn < 300
        front = [p.record.time for p in pictures if p.record.camera == 'front']
        assert len(front) == len(pictures) / 2
        assert front[0] == 0 and front[-1] >= 225
        assert np.ptp(np.diff(front)) < 1e-9


@pytest.mark.slow
def test_a_long_drive_of_the_worst_pictures_keeps_to_the_budget() -> None:
    """Noise is what JPEG is worst at; a tenth of the pixels and of the bytes stands for all."""
    budget = 1_000_000
    gallery = Gallery(CLASSES, budget=budget)
    worst = [noise(seed) for seed in range(4)]
    for i in range(2000):
        shown = record(i, condition=f'{i // 25}', novel=9 + i % 7, false=5 + i % 11)
        gallery.offer(shown, worst[i % 4])
    pictures = gallery.pictures()
    kinds = (pictures.film, pictures.objects, pictures.false_alarms, pictures.misses)
    size = sum(len(part) for kind in kinds for p in kind for part in p.parts.values())
    assert 0.4 * budget < size <= budget
    assert all(len(kind) >= 12 for kind in kinds)
    assert len(pictures.film) >= 50


def test_a_page_of_the_whole_budget_stays_below_30_megabytes() -> None:
    assert BUDGET * 4 / 3 < 28_000_000


def test_pictures_are_jpegs_of_bounded_size() -> None:
    image = np.full((720, 1280, 3), (200, 30, 10), np.uint8)
    decoded = cv2.imdecode(np.frombuffer(jpeg(image), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (360, 640, 3)
    assert np.abs(decoded[0, 0].astype(int) - (10, 30, 200)).max() < 8
    most = 3000
    assert len(jpeg(noise(0).image)) > most >= len(jpeg(noise(0).image, most=most))


def test_pictures_that_are_alike_take_the_quality_of_the_one_before() -> None:
    image = noise(0).image
    bgr = image[..., ::-1].copy()
    best, next_best = (
        len(cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
        for quality in (88, 78)
    )
    encoder = Encoder(2 * best - 1)
    sizes = [sum(map(len, encoder.encode([image, image]))) for _ in range(3)]
    assert sizes == [2 * next_best] * 3
    # Room is found by the next one; what fits at no quality is made smaller.
    flat = np.zeros_like(image)
    assert len(encoder.encode([flat])[0]) < next_best / 4
    assert len(encoder.encode([image])[0]) == best
    assert sum(map(len, Encoder(3000).encode([image, image]))) <= 3000


def test_a_wide_frame_is_drawn_small_with_its_smallest_anomaly() -> None:
    wide = pixels((270, 960))
    wide.mask[100, 300] = 255
    drawn = draw_picture(record(0.0), wide, color_table(CLASSES), Encoder(400_000))
    frame, overlay, truth = (
        cv2.imdecode(np.frombuffer(part, np.uint8), cv2.IMREAD_COLOR).astype(int)
        for part in (drawn.frame, drawn.overlay, drawn.truth)
    )
    assert frame.shape == overlay.shape == truth.shape == (180, 640, 3)
    tinted = np.argwhere(np.abs(overlay - overlay[0, 0]).max(2) > 40)
    assert np.abs(tinted.mean(0) - (66.7, 200)).max() < 2


def test_score_colours_grow_lighter_and_the_operating_point_is_in_the_middle() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, -1)
    lightness = cv2.cvtColor(color_scores(levels), cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert np.all(np.diff(lightness) >= -1)
    assert lightness[-1] - lightness[0] > 200
    assert score_scale(3)[1] == tuple(color_scores(np.full((1, 1), 128, np.uint8))[0, 0])
