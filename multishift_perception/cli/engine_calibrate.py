# SPDX-License-Identifier: Apache-2.0
"""`multishift engine calibrate`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from multishift_perception.bags import BagReader, choose_topics
from multishift_perception.cli.options import (
    backend_option,
    device_option,
    force_option,
    json_option,
    sources_options,
)
from multishift_perception.cli.verbosity import notice
from multishift_perception.destinations import CALIBRATE, check_bundle, check_folder, report_of
from multishift_perception.disk import reporting_full_disk
from multishift_perception.engine import EMBEDDED_BUNDLE, Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.report.text import percent

if TYPE_CHECKING:
    from multishift_perception.report.calibration_report import CalibrationReport

_PATH = click.Path(path_type=Path)
_SHOWN = 5


@click.command()
@click.argument('bundle', type=_PATH, default=EMBEDDED_BUNDLE)
@click.option('--images', type=_PATH, help='Folder of frames: JPEG, PNG or WebP.')
@click.option('--bag', type=_PATH, help='Bag of frames: .mcap, .db3 or a rosbag2 directory.')
@sources_options
@click.option(
    '--every',
    type=click.IntRange(min=1),
    default=1,
    help='Take every n-th frame of a camera: neighbours are alike.',
)
@click.option(
    '--false-alarms',
    type=float,
    default=0.01,
    help='Share of ordinary pixels that shall score 0.5 or more.',
)
@click.option('--out', type=_PATH, required=True, help='Bundle to write; BUNDLE stays as it is.')
@click.option('--report', type=_PATH, help='Folder for report.html and metrics.json.')
@backend_option
@device_option
@force_option
@json_option('the figures')
def command(
    bundle: Path,
    images: Path | None,
    bag: Path | None,
    cameras: tuple[str, ...],
    topics: tuple[str, ...],
    every: int,
    false_alarms: float,
    out: Path,
    report: Path | None,
    backend: str,
    device: int,
    force: bool,
    as_json: bool,
) -> None:
    """Set the operating point of BUNDLE by ordinary footage of your own camera.

    No labels are needed: the score that the given share of the footage's pixels reach becomes 0.5,
    in a copy of the bundle. BUNDLE is the embedded engine when left out.

    A few true anomalies in the footage do little: no frame counts for more than twice the upper
    quartile of all frames, however much of it is anomalous; with one frame in ten so, the share
    came out at 0.8 to 1.2 times what was asked for. Take some hundred frames, of drives like those
    to come.
    """
    if (images is None) == (bag is None):
        raise click.UsageError('give either --images or --bag')
    if images is not None and (cameras or topics):
        raise click.UsageError('--cameras and --topic go with --bag')
    reads = (bundle, images, bag)
    if out.resolve() != bundle.resolve() and out.resolve().is_relative_to(bundle.resolve()):
        raise MultishiftError(f'{out} lies in the bundle {bundle}: give another with --out')
    check_bundle(out, option='--out', reads=reads, force=force)
    if report is not None:
        _check_report(report, out, reads, force=force)
    with ExitStack() as stack:
        if bag is not None:
            reader = stack.enter_context(BagReader(bag))
            chosen = list(choose_topics(reader, cameras=cameras, topics=topics))
        # What is wrong with the paths is said by now: reports and engines take seconds to load.
        from multishift_perception.calibration.bundle import write_calibrated
        from multishift_perception.calibration.calibrate import calibrate, check_share, origin
        from multishift_perception.footage import bag_footage, images_footage
        from multishift_perception.report.calibration_report import figures, write_report

        check_share(false_alarms)
        if bag is not None:
            footage = bag_footage(reader, chosen, every=every)
        elif images is not None:
            footage = images_footage(images, every=every)
        engine = stack.enter_context(Engine.load(bundle, backend=backend, device=device))
        calibration, found, look = calibrate(engine, footage, false_alarms=false_alarms)
        write_calibrated(bundle, out, calibration, origin(found, engine), look)
        for warning in reader.warnings if bag is not None else ():
            notice(f'warning: {warning}')
    if found.unreadable:
        notice(f'warning: {_left_out(found)}')
    if report is not None:
        with reporting_full_disk(report):
            page = write_report(found, report)
    if as_json:
        click.echo(json.dumps(figures(found), indent=2))
        return
    click.echo('\n'.join(_summary(found)))
    click.echo(out if report is None else f'{out}, {page}')


def _check_report(report: Path, out: Path, reads: tuple[Path | None, ...], *, force: bool) -> None:
    if report.resolve().is_relative_to(out.resolve()):
        raise MultishiftError(f'{report} lies in the bundle {out}: give another with --report')
    check_folder(report, report_of(CALIBRATE), option='--report', force=force, reads=reads)


def _left_out(found: CalibrationReport) -> str:
    shown = '; '.join(found.unreadable[:_SHOWN])
    more = len(found.unreadable) - _SHOWN
    return (
        f'{len(found.unreadable)} of {found.frames} frames cannot be read and are left out: '
        f'{shown}{f"; and {more} more" if more > 0 else ""}'
    )


def _summary(found: CalibrationReport) -> Iterator[str]:
    """Say what has changed, in lines for a terminal."""
    before, after = found.before, found.after
    yield f'{len(found.names)} frames of {found.footage}'
    yield (
        f'ordinary pixels that score 0.5 or more: {percent(before.ordinary, 2)} before, '
        f'{percent(after.ordinary, 2)} now'
    )
    yield f'operating point: {before.operating_point:.4g} before, {after.operating_point:.4g} now'
    if limited := found.limited:
        names = ', '.join(name for name, _ in limited[:_SHOWN])
        more = ' ...' if len(limited) > _SHOWN else ''
        yield (
            f'{len(limited)} frames have more than {percent(found.limit, 2)} and count as that '
            f'({percent(after.pooled, 2)} with all they have); see whether they show anomalies: '
            f'{names}{more}'
        )
