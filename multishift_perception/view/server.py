# SPDX-License-Identifier: Apache-2.0
"""The page over HTTP: its files, a stream for each tile, the state, the threshold, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
import errno
from pathlib import Path
import signal
import socket
from typing import Any

from aiohttp import web

from multishift_perception.errors import MultishiftError, one_line
from multishift_perception.view.access import Access, is_loopback, limit_browsers, new_token
from multishift_perception.view.board import Board
from multishift_perception.view.feed import CameraState, Feed
from multishift_perception.view.pictures import PictureKind
from multishift_perception.view.prometheus import CONTENT_TYPE, metrics_text

_TEMPLATES = Path(__file__).parent / 'templates'
_FILES = {'page.css': 'text/css', 'page.js': 'text/javascript'}
_NOT_KEPT = {'Cache-Control': 'no-store'}
_BOUNDARY = b'frame'
_HEAD = b'--%b\r\nContent-Type: image/jpeg\r\n\r\n' % _BOUNDARY
# Who takes no picture for this long is gone.
_PATIENCE_S = 10.0
# A single picture is waited for no longer; the page asks again.
_PICTURE_S = 10.0
# Pictures that wait in the kernel are old when they come: room for a few, not for seconds.
_SEND_BUFFER = 1 << 18
_MOST_REGIONS = 50


class PageServer:
    """Answers requests about one feed."""

    def __init__(self, feed: Feed, board: Board, *, token: str | None = None) -> None:
        """Take what is shown.

        Args:
            feed: tells how the cameras are.
            board: has the pictures.
            token: what every request must know; None: only those to names of this machine pass.
        """
        self._feed = feed
        self._board = board
        self._app = web.Application(middlewares=[Access(token).middleware])
        self._app.on_response_prepare.append(limit_browsers)
        self._app.add_routes(
            [
                web.get('/', self._page),
                *(web.get(f'/{name}', self._file) for name in _FILES),
                web.get('/state', self._state),
                web.get('/metrics', self._metrics),
                web.post('/threshold', self._set_threshold),
                web.get('/cameras/{camera}/{kind}.mjpg', self._stream, allow_head=False),
                web.get('/cameras/{camera}/{kind}.jpg', self._picture, allow_head=False),
            ]
        )

    def runner(self) -> web.AppRunner:
        """Return what serves requests: who goes away ends what was done for them."""
        return web.AppRunner(
            self._app, handler_cancellation=True, access_log=None, shutdown_timeout=0.2
        )

    async def _page(self, request: web.Request) -> web.StreamResponse:
        text = (_TEMPLATES / 'page.html').read_text()
        return web.Response(text=text, content_type='text/html', headers=_NOT_KEPT)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.path.lstrip('/')
        text = (_TEMPLATES / name).read_text()
        return web.Response(text=text, content_type=_FILES[name], headers=_NOT_KEPT)

    async def _state(self, request: web.Request) -> web.StreamResponse:
        known = {camera.name for camera in self._feed.cameras()}
        for camera in known.intersection(request.query.getall('list', [])):
            self._board.ask_list(camera)
        notice = self._feed.notice()
        state = {
            'title': self._feed.title,
            'lists_are_free': self._feed.lists_are_free,
            'classes': [asdict(known) for known in self._feed.classes],
            'threshold': self._feed.threshold,
            'level': notice.level.name,
            'message': notice.text,
            'cameras': [_camera(camera) for camera in self._feed.cameras()],
        }
        return web.json_response(state, headers=_NOT_KEPT)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        text = metrics_text(self._feed, self._board)
        return web.Response(body=text.encode(), headers={'Content-Type': CONTENT_TYPE})

    async def _set_threshold(self, request: web.Request) -> web.StreamResponse:
        # Pages of other hosts cannot send this type without being asked whether they may.
        if request.content_type != 'application/json':
            raise web.HTTPUnsupportedMediaType(text='send JSON: {"threshold": 0.5}\n')
        try:
            value = float((await request.json())['threshold'])
        except (ValueError, TypeError, LookupError):
            raise web.HTTPBadRequest(text='send JSON: {"threshold": 0.5}\n') from None
        if not 0 <= value <= 1:
            raise web.HTTPBadRequest(text=f'threshold {value:g}: it must be 0 to 1\n')
        try:
            await self._feed.set_threshold(value)
        except MultishiftError as error:
            raise web.HTTPConflict(text=f'{error}\n') from error
        return web.json_response({'threshold': value}, headers=_NOT_KEPT)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        camera, kind = self._asked(request)
        response = web.StreamResponse(
            headers={
                'Content-Type': f'multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}',
                **_NOT_KEPT,
            }
        )
        if request.transport and (peer := request.transport.get_extra_info('socket')):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        await response.prepare(request)
        # Chromium shows a picture once the head of the one after it has come, which a photo never
        # has: heads are sent ahead, and so without a length.
        await response.write(_HEAD)
        gone = suppress(TimeoutError, ConnectionError)
        with self._board.watching(camera, kind) as viewer, gone:
            while (picture := await viewer.next()) is not None:
                async with asyncio.timeout(_PATIENCE_S):
                    await response.write(picture + b'\r\n' + _HEAD)
        # Who took nothing takes no end either.
        if request.transport:
            request.transport.abort()
        return response

    async def _picture(self, request: web.Request) -> web.StreamResponse:
        camera, kind = self._asked(request)
        with self._board.watching(camera, kind) as viewer:
            try:
                async with asyncio.timeout(_PICTURE_S):
                    picture = await viewer.next()
            except TimeoutError:
                picture = None
        if picture is None:
            raise web.HTTPServiceUnavailable(text='no picture has come\n')
        return web.Response(body=picture, content_type='image/jpeg', headers=_NOT_KEPT)

    def _asked(self, request: web.Request) -> tuple[str, PictureKind]:
        camera, kind = request.match_info['camera'], request.match_info['kind']
        if camera not in {known.name for known in self._feed.cameras()}:
            raise web.HTTPNotFound(text=f'there is no camera {camera}\n')
        if kind not in {*PictureKind}:
            raise web.HTTPNotFound(text=f'{kind} is none of {", ".join(PictureKind)}\n')
        return camera, PictureKind(kind)


def _camera(camera: CameraState) -> dict[str, Any]:
    return {
        'name': camera.name,
        'level': camera.notice.level.name,
        'message': camera.notice.text,
        'rate': round(camera.rate, 2),
        'age': None if camera.age is None else round(camera.age, 3),
        'received': camera.received,
        'processed': camera.processed,
        'dropped': {cause: count for cause, count in camera.dropped.items() if count},
        'shift': {
            name: None if value is None else round(value, 3)
            for name, value in camera.shift._asdict().items()
        },
        'size': camera.size,
        'region_count': None if camera.regions is None else len(camera.regions),
        'regions': camera.regions
        and [
            {
                'box': region.box,
                'area': region.area,
                'mean_score': round(region.mean_score, 3),
                'max_score': round(region.max_score, 3),
            }
            for region in camera.regions[:_MOST_REGIONS]
        ],
    }


def check_address(host: str, port: int) -> None:
    """See that one may listen at an address, before engines are loaded for it.

    Raises:
        MultishiftError: one may not.
    """

    async def bind() -> None:
        loop = asyncio.get_running_loop()
        (await loop.create_server(asyncio.Protocol, host, port, start_serving=False)).close()

    with _naming_address(host, port):
        asyncio.run(bind())


async def serve(
    feed: Feed, board: Board, *, host: str, port: int, tell: Callable[[str], None]
) -> None:
    """Serve a page until SIGINT, SIGTERM or SIGHUP; in the main thread.

    Args:
        feed: tells how the cameras are.
        board: has the pictures.
        host: address to listen at; others than this machine's own demand a token.
        port: number; 0 takes a free one.
        tell: told the page's URL.

    Raises:
        MultishiftError: nobody may listen there.
    """
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    token = None if is_loopback(host) else new_token()
    server = PageServer(feed, board, token=token)
    runner = server.runner()
    await runner.setup()
    try:
        with _naming_address(host, port):
            await web.TCPSite(runner, host, port).start()
        taken = runner.addresses[0][1]
        name = socket.gethostname() if host in ('0.0.0.0', '::') else host
        shown = f'[{name}]' if ':' in name else name
        tell(f'http://{shown}:{taken}/' + (f'?token={token}' if token else ''))
        await ended.wait()
    finally:
        board.close()
        await runner.cleanup()


@contextmanager
def _naming_address(host: str, port: int) -> Iterator[None]:
    """Make one line, with its mend, of the fault of who listens at an address in the block."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise MultishiftError(
                f'port {port} of {host} is in use: end what listens there, or give another by '
                '--port (0 takes a free one)'
            ) from error
        reason = one_line(error.strerror or error)
        raise MultishiftError(
            f'--host {host} --port {port}: cannot listen there ({reason}): give an address of '
            'this machine, and a port above 1023'
        ) from error
