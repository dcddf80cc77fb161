# SPDX-License-Identifier: Apache-2.0
"""`multishift replay`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from multishift_perception.bags import BagReader, choose_topics
from multishift_perception.cli.options import (
    backend_option,
    device_option,
    engine_option,
    force_option,
    json_option,
    report_option,
    sources_options,
    threshold_option,
)
from multishift_perception.cli.verbosity import notice
from multishift_perception.destinations import (
    RECORDING,
    REPLAY,
    check_file,
    check_folder,
    report_of,
)
from multishift_perception.disk import reporting_full_disk
from multishift_perception.engine import Engine
from multishift_perception.rerun_file import load_rerun

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument('bag', type=_PATH)
@report_option('report.html, metrics.json and frames.csv', required=True)
@engine_option
@backend_option
@device_option
@sources_options
@threshold_option
@click.option(
    '--rerun',
    type=_PATH,
    metavar='OUT.rrd',
    help='Recording to write for the Rerun viewer, with every frame and what is said of it.',
)
@force_option
@json_option('the metrics')
def command(
    bag: Path,
    out: Path,
    bundle: Path | None,
    backend: str,
    device: int,
    cameras: tuple[str, ...],
    topics: tuple[str, ...],
    threshold: float,
    rerun: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Run an engine over BAG: metrics against its ground truth, latency, pictures, report.

    BAG is an .mcap or .db3 file, or a rosbag2 directory.
    """
    with BagReader(bag) as reader:
        chosen = list(choose_topics(reader, cameras=cameras, topics=topics))
    reads = (bag, bundle)
    check_folder(out, report_of(REPLAY), option='--out', force=force, reads=reads)
    if rerun is not None:
        check_file(rerun, RECORDING, force=force, reads=reads)
        load_rerun()
    # What is wrong with the paths is said by now: reports and engines take seconds to load.
    from multishift_perception.replay import replay
    from multishift_perception.report.drive_report import metrics, summary, write_report

    with Engine.load(bundle, backend=backend, device=device) as engine:
        report = replay(bag, engine, topics=chosen, threshold=threshold, rerun=rerun)
    with reporting_full_disk(out):
        page = write_report(report, out)
    for warning in report.warnings:
        notice(f'warning: {warning}')
    click.echo(json.dumps(metrics(report), indent=2) if as_json else f'{summary(report)}\n{page}')
