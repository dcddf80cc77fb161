# SPDX-License-Identifier: Apache-2.0
"""`multishift predict`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from multishift_perception.cli.options import (
    backend_option,
    device_option,
    engine_option,
    every_option,
    force_option,
    json_option,
    min_area_option,
    threshold_option,
)
from multishift_perception.destinations import (
    PREDICT,
    check_folder,
    keeping_others_out,
    report_of,
)
from multishift_perception.engine import Engine
from multishift_perception.folders import matching
from multishift_perception.rerun_file import check_rerun

if TYPE_CHECKING:
    from multishift_perception.footage import Footage
    from multishift_perception.prediction.run import FootageFigures

_OUTPUTS = ('overlay', 'labels', 'score', 'mask', 'video')


def _outputs(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in value.split(',') if word.strip()))
    for word in words:
        if word not in _OUTPUTS:
            raise click.BadParameter(f'{word!r} is none of {", ".join(_OUTPUTS)}')
    return words


@click.command()
@click.argument('sources', metavar='SOURCE...', nargs=-1, required=True)
@click.option(
    '--out', type=click.Path(path_type=Path), required=True, help='Folder for what is written.'
)
@engine_option
@backend_option
@device_option
@threshold_option
@min_area_option
@every_option
@click.option(
    '--outputs',
    metavar='KIND,KIND',
    default=','.join(_OUTPUTS),
    callback=_outputs,
    help='What to write; regions.jsonl is written anyway.',
)
@click.option(
    '--show-only',
    type=click.Choice(['all', 'anomalous']),
    default='all',
    help='Write images of all frames, or of those with an anomaly.',
)
@click.option(
    '--rerun',
    type=click.Path(path_type=Path),
    metavar='OUT.rrd',
    help='Recording to write for the Rerun viewer, with every frame that images are written of.',
)
@force_option
@json_option('the figures')
@click.pass_context
def command(
    ctx: click.Context,
    sources: tuple[str, ...],
    out: Path,
    bundle: Path | None,
    backend: str,
    device: int,
    threshold: float,
    min_area: int,
    every: int,
    outputs: tuple[str, ...],
    show_only: str,
    rerun: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """See what an engine says of images, folders, videos, cameras, streams or bags.

    \b
    SOURCE is any of
      photo.jpg 'photos/*.jpg' photos/    images: JPEG, PNG or WebP
      drive.mp4                           a video
      drive.mcap recording/               a bag, each of its cameras
      0                                   a camera of this machine, by its index
      rtsp://... http://...               a stream; the only thing that is ever contacted

    \b
    OUT then holds, in a folder for each source if there are several:
      overlay/*.jpg   frames with their classes coloured and their anomalies outlined
      labels/*.png    class index of every pixel
      score/*.png     how anomalous, 16 bits: 32768 is the operating point, 65535 is certain
      mask/*.png      255 where the score reaches the threshold
      overlay.mp4     of videos, cameras, streams and bags
      regions.jsonl   a line for each frame: its anomalies as boxes with scores
      metrics.json    how many frames, and which engine

    A camera or stream runs until Ctrl-C.
    """
    paths = [path for source in sources if source for path in _paths(source)]
    check_folder(out, report_of(PREDICT), option='--out', force=force, reads=[bundle, *paths])
    ctx.with_resource(keeping_others_out(out, option='--out'))
    if rerun is not None:
        check_rerun(rerun, force=force, reads=[bundle, *paths])
    with ExitStack() as stack:
        footage = _open(sources, stack, every)
        # What is wrong with the paths is said by now: engines take a second to load.
        from multishift_perception.prediction.run import Options, figures, predict_footage

        options = Options(threshold, min_area, outputs, show_only == 'anomalous')
        engine = stack.enter_context(Engine.load(bundle, backend=backend, device=device))
        found = predict_footage(footage, engine, out, options, sources=sources, rerun=rerun)
        content = figures(found, engine, options, finished=True)
    click.echo(json.dumps(content, indent=2) if as_json else '\n'.join(_summary(found, out)))


def _paths(source: str) -> list[Path]:
    """Return what a source reads here: nothing of a camera or stream."""
    path = Path(source)
    return [path] if os.path.exists(path) else [*matching(source)]


def _open(sources: Sequence[str], stack: ExitStack, every: int) -> list[Footage]:
    """Open all sources; images that are given one by one, as a shell does, are one."""
    from multishift_perception.footage import files_footage, is_picture, open_footage

    pictures = [Path(source) for source in sources if source and is_picture(Path(source))]
    footage = []
    if len(pictures) > 1:
        footage.append(files_footage(pictures, 'images', every=every))
    for source in sources:
        if len(pictures) < 2 or Path(source) not in pictures:
            footage += open_footage(source, stack, every=every)
    return footage


def _summary(found: Sequence[FootageFigures], out: Path) -> Iterator[str]:
    for one in found:
        dropped = ''.join(f', {n} left out ({cause})' for cause, n in one.dropped.items())
        rate = f' ({one.frames / one.seconds:.1f} a second)' if one.frames > 1 else ''
        frames = 'frame' if one.frames == 1 else 'frames'
        yield (f'{one.name}: {one.frames} {frames}{rate}, {one.anomalous} with anomalies{dropped}')
    yield str(out)
