# SPDX-License-Identifier: Apache-2.0
"""`multishift view`."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress
import os
from pathlib import Path
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from multishift_perception.cli.options import (
    Number,
    backend_option,
    device_option,
    engine_option,
    every_option,
    min_area_option,
    refuse_given,
    threshold_option,
)
from multishift_perception.errors import MultishiftError, install_extra, one_line
from multishift_perception.outputs import NODE

if TYPE_CHECKING:
    from multishift_perception.engine import Engine
    from multishift_perception.view.board import Board
    from multishift_perception.view.feed import Feed
    from multishift_perception.view.footage_feed import FootageFeed

_OF_NODE = ('node', 'use_sim_time')
_OF_SOURCE = ('backend', 'device', 'threshold', 'min_area', 'every', 'rate', 'once')
_OF_FILE = ('rate', 'once')
_PORT = 8686


@click.command()
@click.argument('source', required=False)
@click.option(
    '--ros',
    is_flag=True,
    help="Show what a running node publishes; --engine then gives the classes' colours.",
)
@click.option('--node', default=NODE, help="With --ros: the node's full name, with its namespace.")
@click.option('--use-sim-time', is_flag=True, help='With --ros: follow /clock, as the node does.')
@engine_option
@backend_option
@device_option
@threshold_option
@min_area_option
@every_option
@click.option(
    '--rate',
    type=Number(min=0, min_open=True),
    show_default="the source's own; of images 2",
    help='Frames a second.',
)
@click.option('--once', is_flag=True, help='Stop at the last frame of a file; do not start anew.')
@click.option(
    '--host',
    default='127.0.0.1',
    help="Address to listen at; others than this machine's own demand a token.",
)
@click.option(
    '--port', type=click.IntRange(0, 65535), default=_PORT, help='Port; 0 takes a free one.'
)
@click.pass_context
def command(
    ctx: click.Context,
    source: str | None,
    ros: bool,
    node: str,
    use_sim_time: bool,
    bundle: Path | None,
    backend: str,
    device: int,
    threshold: float,
    min_area: int,
    every: int,
    rate: float | None,
    once: bool,
    host: str,
    port: int,
) -> None:
    """Show in a browser what an engine, or a running node, says of cameras.

    \b
    SOURCE is any of
      photo.jpg 'photos/*.jpg' photos/    images: JPEG, PNG or WebP
      drive.mp4                           a video
      drive.mcap recording/               a bag, each of its cameras
      0                                   a camera of this machine, by its index
      rtsp://... http://...               a stream

    The page has a tile for each camera, with overlay, labels, score or mask; a slider for the
    threshold, which with --ros sets the node's parameter; and /metrics in Prometheus' format.
    While nobody looks nothing is computed, encoded or subscribed to but /diagnostics.

    From another machine, through ssh: `ssh -L 8686:localhost:8686 VEHICLE`, then open
    http://localhost:8686/. With --host 0.0.0.0 whoever has the printed URL may look.

    Ctrl-C ends it.
    """
    if ros == (source is not None):
        raise click.UsageError('give a SOURCE, or --ros for a running node', ctx)
    if ros:
        refuse_given(ctx, _OF_SOURCE, 'is for a SOURCE')
    else:
        refuse_given(ctx, _OF_NODE, 'is for --ros')
        from multishift_perception.footage import find_cameras, is_live

        if is_live(str(source)):
            refuse_given(ctx, _OF_FILE, 'is for files: a camera or a stream sets the pace')
    try:
        from multishift_perception.view.server import check_address, serve
    except ModuleNotFoundError as error:
        if (error.name or '').startswith('multishift'):
            raise
        raise MultishiftError(
            f'`view` needs {error.name}, which is not installed: run {install_extra("view")}'
        ) from error
    check_address(host, port)
    from multishift_perception.view.board import Board

    board = Board()
    with ExitStack() as stack, suppress(KeyboardInterrupt):  # before it listens
        feed: Feed
        if ros:
            feed = _open_node(node, board, bundle, stack, use_sim_time=use_sim_time)
        else:
            from multishift_perception.engine import Engine
            from multishift_perception.view.footage_feed import FootageFeed
            from multishift_perception.view.player import Playing

            cameras = find_cameras(str(source))  # first: engines take seconds to load
            engine = Engine.load(bundle, backend=backend, device=device)
            playing = Playing(every=every, rate=rate, is_looped=not once)
            footage = FootageFeed(
                str(source),
                cameras,
                engine,
                board,
                threshold=threshold,
                min_area=min_area,
                playing=playing,
            )
            stack.callback(_close, footage, engine)
            footage.start()
            feed = footage
        asyncio.run(serve(feed, board, host=host, port=port, tell=_tell))
    _leave()


def _close(footage: FootageFeed, engine: Engine) -> None:
    if footage.close():  # else it is in a call, and cannot be closed
        engine.close()


def _open_node(
    node: str, board: Board, bundle: Path | None, stack: ExitStack, *, use_sim_time: bool
) -> Feed:
    try:
        from multishift_perception.view.ros_feed import RosFeed
    except ImportError as error:  # ROS is not sourced, or is one for another Python
        if (error.name or '').startswith('multishift'):
            raise
        raise MultishiftError(
            f'--ros needs ROS 2, which does not load ({one_line(error)}): source its setup file, '
            f'or, without an installation, run {install_extra("ros")}'
        ) from error
    feed = RosFeed(node, board, bundle=bundle, use_sim_time=use_sim_time)
    stack.callback(feed.close)
    feed.start()
    return feed


def _tell(url: str) -> None:
    click.echo(f'{url}  (Ctrl-C ends it)')


def _leave() -> NoReturn:
    """End the process at once: to unload an engine's library takes seconds.

    A thread that reads a dead stream would also hold it up.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
