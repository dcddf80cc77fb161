# SPDX-License-Identifier: Apache-2.0
"""The page's server over real sockets, with a feed that does as it is told."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
import os
import re
import socket
import threading

import aiohttp
from aiohttp import web
import numpy as np
import pytest
import simplejpeg

from multishift_perception.classes import SemanticClass
from multishift_perception.errors import MultishiftError
from multishift_perception.regions import Region
from multishift_perception.view import server
from multishift_perception.view.access import is_loopback
from multishift_perception.view.board import Board
from multishift_perception.view.feed import CameraState, Level, Notice
from multishift_perception.view.pictures import PictureKind, encode_picture
from multishift_perception.view.server import PageServer, serve

JSON = {'Content-Type': 'application/json'}
STREAM = '/cameras/front/overlay.mjpg'
SAMPLE = re.compile(r'multishift_\w+(\{(\w+="(\\.|[^"\\])*",?)+\})? [0-9.e+-]+')


def picture(grey):
    return encode_picture(np.full((48, 64), grey, np.uint8))


class FakeFeed:
    """Two cameras, one with a slash in its name; whoever looks is noted."""

    title = 'a feed'
    classes = (SemanticClass('road', (128, 64, 128)),)
    lists_are_free = True

    def __init__(self, board):
        self.board = board
        self.threshold = 0.5
        self.changes: list[dict] = []
        board.on_change(lambda: self.changes.append(board.viewers()))

    async def set_threshold(self, value):
        if value == 1:
            raise MultishiftError('the node refuses 1')
        self.threshold = value

    def notice(self):
        return Notice(Level.WARN, 'slow')

    def cameras(self):
        regions = [Region((1, 2, 3, 4), 9, (2.0, 3.0), 0.6, 0.8)]
        return [
            CameraState(
                name,
                Notice(Level.OK, ''),
                rate=9.5,
                age=0.25,
                received=12_345_678,
                processed=10,
                dropped={'stale': 2, 'broken': 0},
                size=(64, 48),
                regions=regions if self.board.wants_list(name) else None,
            )
            for name in ('front', 'a/"b"')
        ]


@asynccontextmanager
async def running(token=None):
    """A server with its feed, and a client of it."""
    board = Board()
    feed = FakeFeed(board)
    runner = PageServer(feed, board, token=token).runner()
    await runner.setup()
    await web.TCPSite(runner, '127.0.0.1', 0).start()
    base = f'http://127.0.0.1:{runner.addresses[0][1]}'
    jar = aiohttp.CookieJar(unsafe=True)  # addresses have cookies too
    async with aiohttp.ClientSession(base, cookie_jar=jar) as client:
        yield feed, client
    board.close()
    await runner.cleanup()


async def until(holds):
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


async def next_part(stream):
    """The next picture of a multipart stream, which the head of the one after it ends."""
    head = b'--frame\r\nContent-Type: image/jpeg\r\n\r\n'
    while (data := await stream.readuntil(head)) == head:
        pass  # the first of all
    return data.removesuffix(b'\r\n' + head)


def test_a_stream_gives_whole_pictures_each_once():
    async def scenario():
        async with running() as (feed, client), client.get(STREAM) as answer:
            assert answer.content_type == 'multipart/x-mixed-replace'
            shades = []
            for grey in (10, 100, 200):
                feed.board.show('front', PictureKind.OVERLAY, picture(grey))
                data = await next_part(answer.content)
                shades.append(int(simplejpeg.decode_jpeg(data, 'GRAY').mean()))
            assert shades == [10, 100, 200]

    asyncio.run(scenario())


def test_who_is_slow_gets_the_newest_picture():
    async def scenario():
        board = Board()
        with board.watching('front', PictureKind.MASK) as viewer:
            for grey in (1, 2, 3):
                board.show('front', PictureKind.MASK, bytes([grey]))
            await asyncio.sleep(0)
            assert await viewer.next() == b'\x03'
            with board.watching('front', PictureKind.MASK) as late:
                assert await late.next() == b'\x03'
        # Once nobody looks, what was last seen grows old.
        with board.watching('front', PictureKind.MASK) as viewer:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(viewer.next(), 0.05)

    asyncio.run(scenario())


def test_nothing_is_kept_or_wanted_when_nobody_looks():
    async def scenario():
        async with running() as (feed, client):
            board = feed.board
            assert not board.is_watched('front')
            board.show('front', PictureKind.OVERLAY, picture(0))
            async with client.get(STREAM):
                assert board.wanted('front') == {PictureKind.OVERLAY}
                assert not board.wanted('a/"b"')
                with board.watching('front', PictureKind.OVERLAY) as viewer:
                    with pytest.raises(TimeoutError):  # that of before anybody looked
                        await asyncio.wait_for(viewer.next(), 0.05)
            await until(lambda: not board.is_watched('front'))
            assert feed.changes == [{('front', PictureKind.OVERLAY): 1}, {}]

    asyncio.run(scenario())


def test_a_hundred_killed_connections_leave_nothing():
    async def scenario():
        async with running() as (feed, client):
            await (await client.get('/state')).read()
            threads, tasks = threading.active_count(), len(asyncio.all_tasks())
            handles = len(os.listdir('/proc/self/fd'))
            port = client._base_url.port
            for number in range(100):
                reader, writer = await asyncio.open_connection('127.0.0.1', port)
                kind = [*PictureKind][number % 4]
                head = f'GET /cameras/front/{kind}.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n'
                writer.write(head.encode())
                assert (await reader.readline()).startswith(b'HTTP/1.1 200')
                if number % 2:
                    feed.board.show('front', kind, picture(number))
                writer.transport.abort() if number % 3 else writer.close()
            await until(lambda: not feed.board.viewers())
            await until(lambda: len(os.listdir('/proc/self/fd')) <= handles)
            await until(lambda: len(asyncio.all_tasks()) <= tasks)
            assert threading.active_count() == threads

    asyncio.run(scenario())


def test_who_takes_nothing_is_gone(monkeypatch):
    monkeypatch.setattr(server, '_PATIENCE_S', 0.1)

    async def scenario():
        async with running() as (feed, client):
            _, writer = await asyncio.open_connection('127.0.0.1', client._base_url.port)
            writer.write(f'GET {STREAM} HTTP/1.1\r\nHost: localhost\r\n\r\n'.encode())
            await until(feed.board.viewers)

            def is_gone():
                feed.board.show('front', PictureKind.OVERLAY, bytes(1 << 20))
                return not feed.board.viewers()

            await until(is_gone)
            writer.transport.abort()

    asyncio.run(scenario())


def test_a_single_picture_is_the_next_one():
    async def scenario():
        async with running() as (feed, client):
            asked = asyncio.create_task(client.get('/cameras/a%2F%22b%22/score.jpg'))
            await until(lambda: feed.board.wanted('a/"b"'))
            feed.board.show('a/"b"', PictureKind.SCORE, picture(50))
            answer = await asked
            assert answer.content_type == 'image/jpeg'
            assert simplejpeg.decode_jpeg(await answer.read()).shape == (48, 64, 3)

    asyncio.run(scenario())


@pytest.mark.parametrize('path', ['/cameras/rear/mask.jpg', '/cameras/front/depth.mjpg', '/x'])
def test_what_is_not_there_is_not_found(path):
    async def scenario():
        async with running() as (feed, client), client.get(path) as answer:
            assert answer.status == 404
            assert not feed.changes

    asyncio.run(scenario())


def test_the_slider_acts():
    async def scenario():
        async with running() as (feed, client):
            async with client.post('/threshold', json={'threshold': 0.25}) as answer:
                assert answer.status == 200
            assert feed.threshold == 0.25
            async with client.post('/threshold', json={'threshold': 1}) as answer:
                assert (answer.status, await answer.text()) == (409, 'the node refuses 1\n')

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ('body', 'headers', 'status'),
    [
        ('{"threshold": 1.5}', JSON, 400),
        ('{"threshold": NaN}', JSON, 400),
        ('{"threshold": null}', JSON, 400),
        ('[0.5]', JSON, 400),
        ('0.5 ', JSON, 400),
        # As a form of another page sends it.
        ('{"threshold": 0.7}', {'Content-Type': 'text/plain'}, 415),
        ('{"threshold": 0.7}', {**JSON, 'Sec-Fetch-Site': 'cross-site'}, 403),
    ],
)
def test_a_bad_threshold_is_refused(body, headers, status):
    async def scenario():
        async with running() as (feed, client):
            async with client.post('/threshold', data=body, headers=headers) as answer:
                assert answer.status == status
            assert feed.threshold == 0.5

    asyncio.run(scenario())


def test_the_state_tells_what_the_page_shows():
    async def scenario():
        async with running() as (_, client):
            (front, other) = (await (await client.get('/state?list=front')).json())['cameras']
            assert other['regions'] is None
            assert front == {
                'name': 'front',
                'level': 'OK',
                'message': '',
                'rate': 9.5,
                'age': 0.25,
                'received': 12_345_678,
                'processed': 10,
                'dropped': {'stale': 2},
                'shift': {'covariate': None, 'semantic': None},
                'size': [64, 48],
                'region_count': 1,
                'regions': [{'box': [1, 2, 3, 4], 'area': 9, 'mean_score': 0.6, 'max_score': 0.8}],
            }

    asyncio.run(scenario())


def test_lists_are_wanted_while_somebody_asks():
    now = 0.0
    board = Board(clock=lambda: now)
    board.ask_list('front')
    assert board.is_watched('front')
    now = 10.0
    assert not board.is_watched('front')


def test_metrics_are_prometheus_text():
    async def scenario():
        async with running() as (_, client), client.get(STREAM):
            async with client.get('/metrics') as answer:
                assert answer.headers['Content-Type'].startswith('text/plain; version=0.0.4')
                text = await answer.text()
            lines = text.splitlines()
            samples = [line for line in lines if not line.startswith('#')]
            assert text.endswith('\n')
            assert all(SAMPLE.fullmatch(line) for line in samples), text
            announced = [line.split()[2] for line in lines if line.startswith('# TYPE')]
            assert sorted({re.match(r'\w+', line)[0] for line in samples}) == sorted(announced)
            assert 'multishift_frames_dropped_total{camera="front",cause="stale"} 2' in samples
            assert r'multishift_processed_rate_hertz{camera="a/\"b\""} 9.5' in samples
            assert 'multishift_viewers{camera="front",picture="overlay"} 1' in samples
            assert 'multishift_level 1' in samples
            # Rates are differences: of a rounded count, most are none.
            assert 'multishift_frames_received_total{camera="front"} 12345678' in samples

    asyncio.run(scenario())


PATHS = ('/', '/page.js', '/page.css', '/state', '/metrics', '/cameras/front/mask.jpg')


@pytest.mark.parametrize('given', [{}, {'Authorization': 'Bearer wrong'}, {'Cookie': 'x=secret'}])
def test_without_the_token_nothing_is_told(given):
    async def scenario():
        async with running(token='secret') as (feed, client):
            for path in (*PATHS, '/?token=wrong', '/?token='):
                async with client.get(path, headers=given) as answer:
                    assert answer.status == 401
            async with client.post('/threshold', json={'threshold': 0.1}) as answer:
                assert answer.status == 401
            assert feed.threshold == 0.5
            assert not feed.changes

    asyncio.run(scenario())


def test_the_token_becomes_a_cookie_and_leaves_the_address():
    async def scenario():
        async with running(token='secret') as (_, client):
            async with client.get('/?token=secret') as answer:
                assert (answer.status, answer.url.path_qs) == (200, '/')
            async with client.get('/state') as answer:
                assert answer.status == 200

    asyncio.run(scenario())


def test_programs_give_the_token_as_a_bearer():
    async def scenario():
        async with running(token='secret') as (_, client):
            bearer = {'Authorization': 'Bearer secret'}
            async with client.get('/metrics', headers=bearer) as answer:
                assert answer.status == 200

    asyncio.run(scenario())


def test_a_name_that_leads_here_is_not_this_machine():
    """As a page of another host may have it, and then read what comes."""

    async def scenario():
        async with running() as (_, client):
            for host, status in (('localhost:9', 200), ('[::1]:9', 200), ('car.example', 403)):
                async with client.get('/state', headers={'Host': host}) as answer:
                    assert answer.status == status

    asyncio.run(scenario())


def test_the_page_loads_nothing_of_others():
    async def scenario():
        async with running() as (_, client):
            for path in PATHS[:3]:
                async with client.get(path) as answer:
                    assert "default-src 'self'" in answer.headers['Content-Security-Policy']
                    assert answer.headers['Cross-Origin-Resource-Policy'] == 'same-origin'
                    assert not re.search(
                        r'(https?:)?//\w', (await answer.text()).split('\n', 1)[1]
                    )

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ('host', 'own'),
    [('127.0.0.1', True), ('127.8.8.8', True), ('::1', True), ('[::1]', True)]
    + [('localhost', True), ('0.0.0.0', False), ('::', False), ('10.1.2.3', False)]
    + [('car', False), ('localhost.example', False)],
)
def test_addresses_of_this_machine(host, own):
    assert is_loopback(host) is own


@pytest.mark.parametrize(
    ('host', 'words'),
    [('127.0.0.1', 'is in use: end what listens there'), ('203.0.113.1', 'cannot listen there')],
)
def test_where_nobody_may_listen_is_said(host, words):
    board = Board()
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MultishiftError, match=words) as caught:
            asyncio.run(serve(FakeFeed(board), board, host=host, port=port, tell=print))
    assert str(port) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
