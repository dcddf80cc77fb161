# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: a headless Chromium, driven by Playwright, where both are there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
import re
import shutil
import threading
from time import monotonic, sleep

from aiohttp import web
import cv2
import numpy as np
import pytest

from multishift_perception.bags import BagWriter
from multishift_perception.engine import Engine
from multishift_perception.footage import find_cameras
from multishift_perception.view.board import Board
from multishift_perception.view.footage_feed import FootageFeed
from multishift_perception.view.pictures import PictureKind
from multishift_perception.view.player import Playing
from multishift_perception.view.server import PageServer

playwright = pytest.importorskip('playwright.sync_api', reason='needs Playwright')
CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium'),
]

# The mean shade of what a tile shows; 0 while it shows nothing.
SHADE = """image => {
  const canvas = new OffscreenCanvas(8, 8);
  const context = canvas.getContext('2d');
  if (!image.naturalWidth) return 0;
  context.drawImage(image, 0, 0, 8, 8);
  const data = context.getImageData(0, 0, 8, 8).data;
  return data.reduce((sum, value, i) => i % 4 === 3 ? sum : sum + value, 0) / (3 * 64);
}"""


@contextmanager
def serving(feed: FootageFeed, board: Board) -> Iterator[str]:
    """The page's URL, served by a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)

    async def start():
        runner = PageServer(feed, board).runner()
        await runner.setup()
        await web.TCPSite(runner, '127.0.0.1', 0).start()
        return runner

    runner = run(start())
    feed.start()
    try:
        yield f'http://localhost:{runner.addresses[0][1]}/'
    finally:
        board.close()
        run(runner.cleanup())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()
        until(feed.close)


@pytest.fixture(scope='module')
def browser():
    with playwright.sync_playwright() as started:
        # Without its sandbox, which containers do not let it build; it opens this page alone.
        browser = started.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A tab; whatever its console complains about fails the test."""
    page = browser.new_page()
    said: list[str] = []
    page.on('console', lambda message: said.append(message.text))
    page.on('pageerror', lambda error: said.append(str(error)))
    yield page
    page.close()
    assert said == []


@pytest.fixture(scope='module')
def engine(tiny_bundle):
    with Engine.load(tiny_bundle, backend='openvino') as engine:
        yield engine


def widths(page) -> list[int]:
    """The widths of the pictures that are shown, 0 for those that are not there yet."""
    return page.locator('img').evaluate_all('images => images.map(image => image.naturalWidth)')


def is_shown(page) -> bool:
    return widths(page) == [96]


def until(holds) -> None:
    end = monotonic() + 20
    while not holds():
        assert monotonic() < end
        sleep(0.02)


def open_feed(source, engine, board, **settings):
    return FootageFeed(str(source), find_cameras(str(source)), engine, board, **settings)


def test_tiles_show_frames_and_the_slider_changes_the_mask(browser, page, engine, tmp_path):
    for number, grey in enumerate((200, 202)):
        cv2.imwrite(str(tmp_path / f'{number}.png'), np.full((64, 96, 3), grey, np.uint8))
    board = Board()
    feed = open_feed(tmp_path, engine, board, playing=Playing(rate=20))
    with serving(feed, board) as url:
        page.goto(url)
        until(partial(is_shown, page))
        assert board.wanted(tmp_path.name) == {PictureKind.OVERLAY}

        # By keyboard: the picture is a radio group, the threshold a slider.
        page.get_by_role('radio', name='Overlay').focus()
        page.keyboard.press('ArrowLeft')
        until(lambda: board.wanted(tmp_path.name) == {PictureKind.MASK})
        image = page.locator('img')
        until(lambda: image.evaluate(SHADE) > 250)
        page.get_by_role('slider').focus()
        page.keyboard.press('End')
        until(lambda: feed.threshold == 1)
        until(lambda: image.evaluate(SHADE) < 5)
        assert page.locator('#value').inner_text() == '1.00'
        page.keyboard.press('Home')
        until(lambda: image.evaluate(SHADE) > 250)

        # The list, the figures, and the box of what is pointed at.
        page.locator('tbody tr').first.focus()
        assert page.locator('rect').evaluate('box => box.style.visibility') == 'visible'
        assert page.locator('tbody tr td').nth(2).inner_text() == '96 × 64'
        assert re.fullmatch(r'\d+\.\d Hz', page.locator('.rate').inner_text())

        for number in range(4):
            tab = browser.new_page()
            tab.goto(url)
            if number % 2:
                until(partial(is_shown, tab))
            tab.close()
        until(lambda: sum(board.viewers().values()) == 1)

        # What is not on the screen is not looked at.
        page.evaluate("document.getElementById('tiles').style.marginTop = '3000px'")
        until(lambda: not board.viewers())
        page.evaluate("document.getElementById('tiles').style.marginTop = ''")
        until(board.viewers)
        page.goto('about:blank')
        until(lambda: not board.viewers())


def test_a_photo_is_shown_though_nothing_follows(page, engine, tmp_path):
    cv2.imwrite(str(tmp_path / 'photo.png'), np.full((64, 96, 3), 200, np.uint8))
    board = Board()
    with serving(open_feed(tmp_path / 'photo.png', engine, board), board) as url:
        page.set_viewport_size({'width': 320, 'height': 700})
        page.goto(url)
        until(partial(is_shown, page))
        assert (
            page.evaluate('document.documentElement.scrollWidth') == 320
        )  # to the slider's value
        names = page.locator('#classes li').all_inner_texts()
        assert names == [*(known.name for known in engine.classes), 'anomalous']
        page.goto('about:blank')


def test_more_cameras_than_a_browser_has_connections(page, engine, tmp_path):
    names = [f'camera{number}' for number in range(8)]
    with BagWriter(tmp_path / 'drive.mcap') as writer:
        for stamp in range(20):
            for name in names:
                image = np.full((64, 96, 3), 250, np.uint8)
                writer.image(f'/{name}/image_raw', stamp * 50_000_000, name, image)
    board = Board()
    feed = open_feed(tmp_path / 'drive.mcap', engine, board)
    with serving(feed, board) as url:
        page.set_viewport_size({'width': 1400, 'height': 3000})
        page.goto(url)
        until(lambda: widths(page) == [96] * 8)
        page.get_by_role('slider').focus()
        page.keyboard.press('End')
        until(lambda: feed.threshold == 1)
        page.goto('about:blank')
