# SPDX-License-Identifier: Apache-2.0
"""`multishift demo`."""

from __future__ import annotations

from importlib.util import find_spec
import json
from pathlib import Path

import click

from multishift_perception.bags import BagReader
from multishift_perception.bags.from_sample_drive import write_sample_bag
from multishift_perception.cli.options import (
    Number,
    backend_option,
    device_option,
    engine_option,
    force_option,
    json_option,
    refuse_given,
    report_option,
    sources_options,
    threshold_option,
)
from multishift_perception.cli.verbosity import notice
from multishift_perception.destinations import DEMO, check_folder, keeping_others_out, report_of
from multishift_perception.disk import reporting_full_disk
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError, install_extra
from multishift_perception.files import remove_leftovers, scratch_folder
from multishift_perception.report.drive_report import metrics, summary, write_report

_PATH = click.Path(path_type=Path)


@click.command()
@report_option('report.html, metrics.json, frames.csv and the logs', default='demo-report')
@engine_option
@backend_option
@device_option
@click.option('--bag', type=_PATH, show_default='a new sample drive', help='Bag to drive through.')
@sources_options
@threshold_option
@click.option(
    '--seed',
    type=click.IntRange(0, 2**31 - 1),
    default=7,
    help='Of the sample drive.',
)
@click.option(
    '--seconds',
    type=Number(1, 3600),
    default=48.0,
    help='Duration of the sample drive.',
)
@click.option('--keep-bags', is_flag=True, help='Leave the drive and the results in the folder.')
@force_option
@json_option('the metrics')
@click.pass_context
def command(
    ctx: click.Context,
    out: Path,
    bundle: Path | None,
    backend: str,
    device: int,
    bag: Path | None,
    cameras: tuple[str, ...],
    topics: tuple[str, ...],
    threshold: float,
    seed: int,
    seconds: float,
    keep_bags: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Drive the whole ROS graph over a bag, in real time, and report what it saw.

    A player, the node and a recorder run as processes of their own and talk over DDS. The report
    holds metrics against the ground truth, latency, dropped frames and pictures.
    """
    if bag is not None:
        refuse_given(ctx, ('seed', 'seconds'), 'is of the sample drive: leave it out with --bag')
    if find_spec('rclpy') is None:
        raise MultishiftError(
            'the demo needs ROS 2: source its setup file, or, without an installation, run '
            f'{install_extra("ros")}'
        )
    # They import ROS, which --help must not need.
    from multishift_perception.demo.graph import NodeSettings, Source, find_sources, run_graph
    from multishift_perception.demo.judge import counts_table, judge

    reads = (bag, bundle)
    check_folder(out, report_of(DEMO), option='--out', force=force, reads=reads, scraps=('log',))
    ctx.with_resource(keeping_others_out(out, option='--out'))
    settings = NodeSettings(bundle, backend, device, threshold)
    # What is in the scratch folder is gone when an error is read: no error may name it.
    name = None if bag else 'the sample drive'

    def sources_of(drive: Path) -> tuple[Source, ...]:
        with BagReader(drive, name=name) as reader:
            return find_sources(reader, cameras=cameras, topics=topics)

    # Engines take seconds to load, and nothing is written yet.
    sources = () if bag is None else sources_of(bag)
    with reporting_full_disk(out):
        out.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out / 'bags')
        # A faulty engine is told now, not after the drive is written.
        with (
            Engine.load(bundle, backend=backend, device=device) as engine,
            scratch_folder(out / 'bags') as scratch,
        ):
            drive = bag or scratch / 'drive.mcap'
            if bag is None:
                write_sample_bag(drive, seed=seed, seconds=seconds)
                sources = sources_of(drive)
            results = scratch / 'results.mcap'
            run = run_graph(drive, sources, settings=settings, results=results, logs=out / 'log')
            report = judge(drive, run, engine, threshold=threshold, name=name)
            page = write_report(report, out)
            for made in scratch.glob('*.mcap') if keep_bags else ():
                made.replace(out / made.name)
    for warning in report.warnings:
        notice(f'warning: {warning}')
    text = f'{summary(report)}\n\n{counts_table(report)}\n{page}'
    click.echo(json.dumps(metrics(report), indent=2) if as_json else text)
