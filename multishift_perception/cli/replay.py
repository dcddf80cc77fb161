# SPDX-License-Identifier: Apache-2.0
"""`multishift replay`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multishift_perception.bags import BagReader, BagWriter, choose_topics
from multishift_perception.cli.options import (
    Number,
    backend_option,
    device_option,
    engine_option,
    force_option,
    json_option,
    min_area_option,
    report_option,
    sources_options,
    threshold_option,
)
from multishift_perception.cli.verbosity import notice
from multishift_perception.destinations import (
    BAG,
    REPLAY,
    REPLAY_MANY,
    check_file,
    check_folder,
    keeping_others_out,
    report_of,
)
from multishift_perception.disk import reporting_full_disk
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.files import write_bytes, write_json
from multishift_perception.fleet.sources import find_bags, is_one_bag
from multishift_perception.rerun_file import check_rerun

if TYPE_CHECKING:
    from multishift_perception.fleet.run import Task

_PATH = click.Path(path_type=Path)
_POSITIVE = Number(min=0, max=1e6, min_open=True)
# What a nightly job looks for; 1 is a fault.
_LOST = 3
_METRICS = (
    'mIoU',
    'AUROC',
    'AP',
    'FPR95',
    'found',
    'false alarms',
    'streaming mIoU',
    'objects found',
    'label flicker',
)


@dataclass(frozen=True)
class _Said:
    """What a replay has to say: for machines, for people, and of what is at fault."""

    content: dict[str, Any]
    text: str
    fault: str = ''


def _allowed(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, float]:
    """Return the loss that is allowed by metric, under the empty name of those without one."""
    found = {}
    for value in values:
        word, _, points = value.rpartition('=')
        name = next((m for m in _METRICS if m.lower() == word.strip().lower()), word)
        if name and name not in _METRICS:
            raise click.BadParameter(f'{word!r} is none of {", ".join(_METRICS)}')
        try:
            found[name] = float(points)
        except ValueError:
            raise click.BadParameter(f'{value!r} is neither POINTS nor METRIC=POINTS') from None
        if not found[name] >= 0:
            raise click.BadParameter(f'{value!r}: give 0 or more')
    if found and ctx.params.get('old') is None:
        raise click.UsageError('--max-loss goes with --compare: name the earlier report', ctx)
    return found


@click.command()
@click.argument('sources', metavar='BAG...', nargs=-1, required=True)
@report_option('report.html, metrics.json and frames.csv', required=True)
@engine_option
@backend_option
@device_option
@sources_options
@threshold_option
@min_area_option
@click.option(
    '--rerun',
    type=_PATH,
    metavar='OUT.rrd',
    help='Recording to write for the Rerun viewer, with every frame and what is said of it.',
)
@click.option(
    '--latency-ms',
    type=Number(min=0, max=1e6),
    show_default='measured here, frame by frame',
    help='From a frame to its outputs on the vehicle, for the streaming metrics.',
)
@click.option(
    '--camera-height',
    type=_POSITIVE,
    help='Metres of level cameras above flat ground: tells at what distance objects are found.',
)
@click.option(
    '--record',
    type=_PATH,
    help='Bag (.mcap) to write the outputs to, as the node publishes them; of several bags, a '
    'folder for one each.',
)
@click.option(
    '--jobs',
    type=click.IntRange(1, 1024),
    default=1,
    help='Processes that share out the bags on this machine.',
)
@click.option(
    '--compare',
    'old',
    type=_PATH,
    is_eager=True,
    help='Folder of an earlier report to compare with.',
)
@click.option(
    '--max-loss',
    'allowed',
    metavar='[METRIC=]POINTS',
    multiple=True,
    callback=_allowed,
    help='With --compare: end with exit code 3 if a metric over all bags is worse by more '
    'percentage points; of all metrics, or of one such as AP=0.5.',
)
@force_option
@json_option('the metrics')
@click.pass_context
def command(
    ctx: click.Context,
    sources: tuple[str, ...],
    out: Path,
    bundle: Path | None,
    backend: str,
    device: int,
    cameras: tuple[str, ...],
    topics: tuple[str, ...],
    threshold: float,
    min_area: int,
    rerun: Path | None,
    latency_ms: float | None,
    camera_height: float | None,
    record: Path | None,
    jobs: int,
    old: Path | None,
    allowed: Mapping[str, float],
    force: bool,
    as_json: bool,
) -> None:
    """Run an engine over bags: metrics against their ground truth, latency, pictures, report.

    BAG is an .mcap or .db3 file, a rosbag2 directory, a folder of bags or a pattern.

    Of one bag, the report has its pictures. Of several, it sums them up, and each has a report of
    its own below it; started again, the command does what is not done yet, or has changed. Any
    number of processes may share the work: --jobs N, or torchrun on hosts that share a folder.

    \b
    Exit codes: 1 a bag, or something else, is at fault
                3 a loss is larger than --max-loss allows
    """
    if old is not None and old.resolve() == out.resolve():
        raise MultishiftError(f'{out} is what is compared with: give another folder with --out')
    # What is wrong with the paths is said first: reports and engines take seconds to load.
    is_one = len(sources) == 1 and is_one_bag(sources[0])
    if is_one:
        bags = find_bags(sources)
        with BagReader(Path(sources[0])) as reader:
            topics = tuple(choose_topics(reader, cameras=cameras, topics=topics))
        read = [Path(sources[0]), bundle, old]
        check_folder(out, report_of(REPLAY), option='--out', force=force, reads=read)
        ctx.with_resource(keeping_others_out(out, option='--out'))
        if record is not None:
            BagWriter(record)
            check_file(record, BAG, force=force, reads=read)
        if rerun is not None:
            check_rerun(rerun, force=force, reads=read)
    else:
        if rerun is not None:
            raise MultishiftError(
                f'{rerun}: --rerun takes one bag: name it instead of a folder, or of several'
            )
        if record is not None and (record.suffix == '.mcap' or record.is_file()):
            raise MultishiftError(
                f'{record}: of a folder, or of several bags, --record takes a folder'
            )
        bags = find_bags(sources)
        read = [*(bag.path for bag in bags), bundle, old]
        check_folder(out, report_of(REPLAY_MANY), option='--out', force=True, reads=read)
        _check_apart(record, sources)
    from multishift_perception.fleet.folder import Kept
    from multishift_perception.fleet.run import Task
    from multishift_perception.replay import Settings

    earlier = None if old is None else Kept(old)
    task = Task(
        sources=tuple(bags),
        out=out,
        settings=Settings(threshold, latency_ms, camera_height, min_area),
        bundle=bundle,
        backend=backend,
        device=device,
        cameras=cameras,
        topics=topics,
        record=record,
        force=force,
    )
    if is_one and jobs > 1:
        notice('one bag takes one process: --jobs shares out several')
    said = _replay_one(task, rerun) if is_one else _replay_many(task, jobs)
    if said is None:  # another process says it
        return
    content, lines, losses = said.content, [said.text], []
    if earlier is not None:
        from multishift_perception.fleet.comparison import compare

        comparison = compare(earlier, Kept(out))
        content['comparison'] = comparison.content()
        write_json(out / 'comparison.json', comparison.content())
        lines += ['', *comparison.lines()]
        losses = comparison.losses(allowed)
    lines.append(str(out / 'report.html'))
    click.echo(json.dumps(content, indent=2) if as_json else '\n'.join(lines))
    for line in losses:
        notice(f'loss: {line}')
    if losses:
        ctx.exit(_LOST)
    if said.fault:
        raise MultishiftError(said.fault)


def _check_apart(record: Path | None, sources: tuple[str, ...]) -> None:
    """See that recordings go to no folder of bags, where they would be read next time."""
    for source in sources:
        folder = Path(source)
        if record is not None and folder.is_dir():
            if record.resolve().is_relative_to(folder.resolve()):
                raise MultishiftError(
                    f'{record} lies in {source}, whose bags are read: give another with --record'
                )


def _replay_one(task: Task, rerun: Path | None) -> _Said:
    from multishift_perception.fleet.result import STATE, BagResult
    from multishift_perception.replay import Replay
    from multishift_perception.report.drive_report import metrics, summary, write_report

    [(name, path)] = task.sources
    with (
        Engine.load(task.bundle, backend=task.backend, device=task.device) as engine,
        BagReader(path) as reader,
    ):
        replayed = Replay(reader, engine, task.settings, record=task.record, rerun=rerun).run(
            task.topics
        )
    report = replayed.report
    with reporting_full_disk(task.out):
        write_report(report, task.out)
        write_bytes(task.out / STATE, BagResult.of(name, replayed).to_bytes())
    for warning in report.warnings:
        notice(f'warning: {warning}')
    return _Said(metrics(report), summary(report))


def _replay_many(task: Task, jobs: int) -> _Said | None:
    from multishift_perception.fleet.run import replay_fleet
    from multishift_perception.report.fleet_report import fleet_metrics, fleet_summary

    report = replay_fleet(task, jobs=jobs)
    if report is None:
        return None
    for row in report.bags:
        for warning in row.warnings:
            notice(f'warning: {warning}')
    for name, reason in report.failed.items():
        notice(f'{name} is not judged: {reason}')
    said = _Said(fleet_metrics(report), fleet_summary(report))
    if not report.failed:
        return said
    names = ', '.join(list(report.failed)[:3]) + (', ...' if len(report.failed) > 3 else '')
    fault = f'{len(report.failed)} of {len(task.sources)} bags are not judged ({names}): mend them'
    return _Said(said.content, said.text, f'{fault}, or take them away, and start again')
