# SPDX-License-Identifier: Apache-2.0
"""Footage through a real engine of predictable outputs, and what is shown of it, when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import contextmanager
import threading
from time import monotonic, sleep

import cv2
import numpy as np
import pytest
import simplejpeg

from multishift_perception.bags import BagWriter
from multishift_perception.engine import Engine
from multishift_perception.footage import Footage, distinct_names, find_cameras
from multishift_perception.overlay import draw_score
from multishift_perception.view import footage_feed
from multishift_perception.view.board import Board
from multishift_perception.view.feed import Level
from multishift_perception.view.footage_feed import FootageFeed
from multishift_perception.view.pictures import PictureKind, encode_picture
from multishift_perception.view.player import Playing

TIMEOUT_S = 20


@pytest.fixture(scope='module')
def engine(tiny_bundle):
    with Engine.load(tiny_bundle, backend='openvino') as engine:
        yield engine


def write(path, grey, shape=(64, 96)):
    """A picture of one shade; the engine's score of it is the shade."""
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.full((*shape, 3), grey, np.uint8))


@pytest.fixture
def photos(tmp_path):
    """A brighter and a darker photo, and what is none."""
    folder = tmp_path / 'photos'
    write(folder / '0.png', 255)
    write(folder / '1.png', 90, shape=(30, 50))
    (folder / '2.png').write_bytes(b'none')
    return folder


@contextmanager
def started(source, engine, board, **settings):
    feed = FootageFeed(str(source), find_cameras(str(source)), engine, board, **settings)
    feed.start()
    try:
        yield feed
    finally:
        until(feed.close)  # what is just read or computed may take longer than its patience


def until(holds: Callable[[], object]) -> None:
    end = monotonic() + TIMEOUT_S
    while not holds():
        assert monotonic() < end
        sleep(0.005)


async def shades(board, camera, kind, count):
    """The mean shades of the next pictures, each of its own size."""
    found: list[tuple[int, int, int]] = []
    async with asyncio.timeout(TIMEOUT_S):
        with board.watching(camera, kind) as viewer:
            while len(found) < count:
                image = simplejpeg.decode_jpeg(await viewer.next(), 'GRAY')
                found.append((image.shape[1], image.shape[0], int(image.mean())))
    return found


def test_pictures_come_while_somebody_looks_and_nothing_runs_otherwise(photos, engine):
    board = Board()
    with started(photos, engine, board, playing=Playing(rate=50)) as feed:
        (camera,) = feed.cameras()
        assert (camera.name, camera.processed, camera.notice.text) == (
            'photos',
            0,
            'not watched',
        )
        seen = asyncio.run(shades(board, 'photos', PictureKind.MASK, 6))
        # Looped, each frame at its own size; what cannot be read is left out.
        assert set(seen) == {(96, 64, 255), (50, 30, 0)}
        (camera,) = feed.cameras()
        assert camera.dropped['encoding'] >= 1
        assert camera.age is None

        def rests():
            before = feed.cameras()[0].processed
            sleep(0.1)
            return feed.cameras()[0].processed == before

        until(rests)


def test_a_rate_that_nobody_asks_for_takes_no_memory():
    camera = footage_feed._Camera('front', None)
    for i in range(10_000):
        camera.note_processed(i / 100)
    assert len(camera.times) == 1000
    assert camera.rate(99.99) == pytest.approx(100, rel=0.01)


def test_the_threshold_changes_the_last_frame_at_once(photos, engine):
    board = Board()

    async def scenario(feed):
        with board.watching('0', PictureKind.MASK) as viewer:
            async with asyncio.timeout(TIMEOUT_S):
                for threshold, shade in ((1.0, 255), (0.2, 255), (0.0, 255)):
                    await feed.set_threshold(threshold)
                    assert int(simplejpeg.decode_jpeg(await viewer.next(), 'GRAY').mean()) == shade
        with board.watching('1', PictureKind.MASK):
            pass

    with started(photos / '0.png', engine, board) as feed:
        asyncio.run(scenario(feed))
        assert feed.threshold == 0.0
        # An image is computed once, however long it is looked at.
        assert feed.cameras()[0].processed == 1


def test_every_kind_is_drawn(photos, engine):
    board = Board()
    with started(photos / '0.png', engine, board, threshold=0.9) as feed:
        for kind in PictureKind:
            ((width, height, shade),) = asyncio.run(shades(board, '0', kind, 1))
            assert (width, height) == (96, 64)
            assert shade > 50
        assert feed.cameras()[0].processed == 1


def test_regions_are_found_while_somebody_reads_them(photos, engine):
    board = Board()
    with started(photos / '0.png', engine, board) as feed:
        assert feed.cameras()[0].regions is None
        board.ask_list('0')
        until(lambda: feed.cameras()[0].regions)
        (region,) = feed.cameras()[0].regions
        assert (region.box, region.area, feed.cameras()[0].size) == (
            (0, 0, 96, 64),
            6144,
            (96, 64),
        )
        assert region.max_score == 1


def test_once_ends_at_the_last_frame(photos, engine):
    board = Board()
    with started(photos, engine, board, playing=Playing(rate=50, is_looped=False)) as feed:
        board.ask_list('photos')
        until(lambda: feed.notice().text == 'played to the end')
        # Who looks later sees the last one.
        assert asyncio.run(shades(board, 'photos', PictureKind.MASK, 1)) == [(50, 30, 0)]


def test_a_slow_engine_gets_the_newest_frame(tmp_path, engine, monkeypatch):
    video = tmp_path / 'drive.avi'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*'MJPG'), 100, (96, 64))
    for _ in range(30):
        writer.write(np.full((64, 96, 3), 200, np.uint8))
    writer.release()
    infer = engine.infer
    monkeypatch.setattr(engine, 'infer', lambda frames: (sleep(0.05), infer(frames))[1])
    board = Board()
    with started(video, engine, board) as feed:
        asyncio.run(shades(board, 'drive', PictureKind.SCORE, 4))
        (camera,) = feed.cameras()
        assert camera.dropped['superseded'] > camera.processed


def test_a_failing_engine_is_said_and_goes_on(photos, engine, monkeypatch):
    board = Board()
    infer = engine.infer
    monkeypatch.setattr(engine, 'infer', lambda frames: 1 / 0)
    with started(photos, engine, board, playing=Playing(rate=50)) as feed:
        board.ask_list('photos')
        until(lambda: feed.cameras()[0].notice.level is Level.ERROR)
        assert feed.cameras()[0].dropped['engine']
        monkeypatch.setattr(engine, 'infer', infer)
        assert asyncio.run(shades(board, 'photos', PictureKind.MASK, 1))
        assert feed.cameras()[0].notice.level is Level.OK


def test_no_frame_that_can_be_used_is_said(tmp_path, engine):
    (tmp_path / 'a.png').write_bytes(b'none')
    board = Board()
    with started(tmp_path, engine, board) as feed:
        board.ask_list(tmp_path.name)
        until(lambda: feed.cameras()[0].notice.level is Level.ERROR)
        assert 'no frame that can be used' in feed.cameras()[0].notice.text


def test_two_topics_of_a_camera_are_two_cameras(tmp_path, engine):
    with BagWriter(tmp_path / 'drive.mcap') as writer:
        for topic, grey in (('/front/image_raw', 255), ('/front/image_rect', 90)):
            writer.image(topic, 0, 'front', np.full((64, 96, 3), grey, np.uint8))
    board = Board()
    with started(tmp_path / 'drive.mcap', engine, board) as feed:
        assert [camera.name for camera in feed.cameras()] == ['front', 'front_2']
        assert asyncio.run(shades(board, 'front', PictureKind.MASK, 1)) == [(96, 64, 255)]
        assert asyncio.run(shades(board, 'front_2', PictureKind.MASK, 1)) == [(96, 64, 0)]


def test_nothing_stays_after_the_end(photos, engine):
    before = threading.active_count()
    board = Board()
    with started(photos, engine, board):
        asyncio.run(shades(board, 'photos', PictureKind.OVERLAY, 1))
    assert threading.active_count() == before


def test_wide_pictures_shrink():
    image = np.zeros((1080, 1920, 3), np.uint8)
    assert simplejpeg.decode_jpeg_header(encode_picture(image))[:2] == (720, 1280)


def test_scores_run_from_black_to_light():
    drawn = draw_score(np.array([[0, 0.5, 1]], np.float32)).sum(axis=2)[0]
    assert drawn[0] < 10 < drawn[1] < drawn[2]
    assert drawn[2] > 600


def test_footage_of_one_name_gets_names_of_its_own() -> None:
    footage = [Footage(name, 0, iter(())) for name in ('x', 'x', 'x_2', '..', 'a/b')]
    assert distinct_names(footage) == ['x', 'x_2', 'x_2_2', 'footage', 'footage_2']
    assert distinct_names(footage[:1], {'x'}) == ['x_2']
