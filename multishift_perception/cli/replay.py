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
from multishift_perception.destinations import REPLAY, check_folder, report_of
from multishift_perception.disk import reporting_full_disk
from multishift_perception.engine import Engine

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument('bag', type=_PATH)
@report_option('report.html and metrics.json', required=True)
@engine_option
@backend_option
@device_option
@sources_options
@threshold_option
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
    # What is wrong with the paths is said by now: reports and engines take seconds to load.
    from multishift_perception.replay import replay
    from multishift_perception.report.drive_report import metrics, summary, write_report

    with Engine.load(bundle, backend=backend, device=device) as engine:
        report = replay(bag, engine, topics=chosen, threshold=threshold)
    with reporting_full_disk(out):
        page = write_report(report, out)
    for warning in report.warnings:
        notice(f'warning: {warning}')
    click.echo(json.dumps(metrics(report), indent=2) if as_json else f'{summary(report)}\n{page}')
