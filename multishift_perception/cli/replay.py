"""`multishift replay`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from multishift_perception.bags import BagReader
from multishift_perception.cli.options import force_option
from multishift_perception.destinations import REPLAY, check_folder, report_of
from multishift_perception.disk import reporting_full_disk
from multishift_perception.engine import BACKENDS, Engine

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument('bag', type=_PATH)
@click.option('--engine', 'bundle', type=_PATH, help='Engine bundle [default: the embedded one].')
@click.option('--report', 'folder', type=_PATH, required=True, help='Folder for the report.')
@click.option(
    '--backend', type=click.Choice(('auto', *BACKENDS)), default='auto', show_default=True
)
@click.option('--topic', 'topics', multiple=True, help='Image topic; may repeat [default: all].')
@click.option(
    '--threshold',
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help='Anomaly threshold on the calibrated scale.',
)
@force_option
@click.option('--json', 'as_json', is_flag=True, help='Print the metrics as JSON.')
def command(
    bag: Path,
    bundle: Path | None,
    folder: Path,
    backend: str,
    topics: tuple[str, ...],
    threshold: float,
    force: bool,
    as_json: bool,
) -> None:
    """Run an engine over BAG: metrics against its ground truth, latency, pictures, report.

    BAG is an .mcap or .db3 file, or a rosbag2 directory.
    """
    with BagReader(bag):
        pass
    reads = (bag, bundle)
    check_folder(folder, report_of(REPLAY), option='--report', force=force, reads=reads)
    # What is wrong with the paths is said by now: reports and engines take seconds to load.
    from multishift_perception.replay import replay
    from multishift_perception.report import metrics, summary, write_report

    with Engine.load(bundle, backend=backend) as engine:
        report = replay(bag, engine, topics=topics, threshold=threshold)
    with reporting_full_disk(folder):
        page = write_report(report, folder)
    for warning in report.warnings:
        click.echo(f'warning: {warning}', err=True)
    click.echo(json.dumps(metrics(report), indent=2) if as_json else f'{summary(report)}\n{page}')
