# SPDX-License-Identifier: Apache-2.0
"""`multishift compare`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from multishift_perception.cli.options import Number, refuse_given
from multishift_perception.errors import MultishiftError
from multishift_training.checkpoints.metadata import IMAGENET
from multishift_training.checkpoints.presence import check_weights
from multishift_training.cli.options import data_option
from multishift_training.cli.presence import check_augmentation
from multishift_training.comparison.config import Experiment, read_experiment
from multishift_training.comparison.folder import REPORT, ComparisonFolder
from multishift_training.datasets.presence import check_batch_size, check_data, count_images
from multishift_training.export import Precision


class SeedsType(click.ParamType[tuple[int, ...]]):
    """Seeds, as ``0,1,2``."""

    name = 'SEED,...'

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the seeds in their order, each once."""
        words = str(value).split(',')
        if not all(word.isascii() and word.isdigit() and int(word) < 2**32 for word in words):
            self.fail(f'{value!r} are no seeds: name them as 0,1,2', param, ctx)
        return tuple(dict.fromkeys(map(int, words)))


_ALONE = 'does not go with --table, which only shows: leave out one of them'
_NO_TRAINING = 'is of training, which {} does none of: leave out one of them'


@click.command()
@click.argument('config', type=click.Path(path_type=Path))
@click.option(
    '--out',
    type=click.Path(path_type=Path),
    show_default='runs/CONFIG',
    help='Folder of the experiment. One that was killed goes on from there; several processes may '
    'be at work in it.',
)
@data_option
@click.option(
    '--seeds',
    type=SeedsType(),
    show_default="the configuration's",
    help='Seeds to do and to show, as 0,1,2.',
)
@click.option(
    '--max-minutes',
    type=Number(min=0, min_open=True),
    help='Save the run in progress and leave it after so long; it goes on from there.',
)
@click.option('--table', is_flag=True, help='Only show what is done so far.')
@click.option(
    '--time-engines',
    type=click.Choice(('fp32', 'int8')),
    help='Train nothing: build an OpenVINO engine of this precision for each way and score that '
    'is done, call them in turn, and put what they take into table and report.',
)
@click.option(
    '--seconds',
    type=Number(min=0, min_open=True),
    default=10,
    help='How long --time-engines calls each engine.',
)
@click.option(
    '--pictures',
    type=click.IntRange(min=1),
    metavar='COUNT',
    help='Train nothing: put so many images of each test into the report, side by side as each '
    'way that is done labels them.',
)
@click.pass_context
def command(
    ctx: click.Context,
    config: Path,
    out: Path | None,
    data: Path,
    seeds: tuple[int, ...] | None,
    max_minutes: float | None,
    table: bool,
    time_engines: Precision | None,
    seconds: float,
    pictures: int | None,
) -> None:
    """Compare ways of training over seeds, as the YAML file CONFIG says.

    With each seed one closed world is trained, and each way goes on from it; all are measured on
    the same tests. Differences to the baseline are paired by seed.
    """
    if table:
        refuse_given(ctx, ('time_engines', 'seconds', 'pictures', 'max_minutes'), _ALONE)
    for option, value in (('--time-engines', time_engines), ('--pictures', pictures)):
        if value is not None:
            refuse_given(ctx, ('max_minutes',), _NO_TRAINING.format(option))
    if time_engines is None:
        refuse_given(ctx, ('seconds',), 'goes with --time-engines: give both or none')
    experiment = read_experiment(config)
    folder = out or Path('runs') / config.stem
    wanted = seeds or tuple(experiment.seeds)
    wanting = {'--table': table, '--time-engines': time_engines, '--pictures': pictures}
    for option, value in wanting.items():
        if value and not REPORT.is_own(folder):
            raise MultishiftError(f'{folder} holds no experiment: leave out {option} to begin one')
    if table:
        from multishift_training.comparison.jobs import list_jobs
        from multishift_training.comparison.results import gather_results
        from multishift_training.comparison.table import markdown

        jobs = list_jobs(experiment, wanted)
        opened = ComparisonFolder(folder, experiment)
        opened.check(jobs, None)
        click.echo(markdown(gather_results(experiment, opened, jobs)))
        return
    _check(experiment, data)
    # What is wrong is said by now: torch takes seconds.
    from multishift_perception.report.page import HTML
    from multishift_training.comparison.run import add_engine_times, add_pictures, compare
    from multishift_training.comparison.table import markdown
    from multishift_training.loop.devices import is_first_process

    if time_engines is not None:
        results = add_engine_times(
            experiment, folder, root=data, seeds=wanted, precision=time_engines, seconds=seconds
        )
        click.echo(f'{markdown(results)}\n\n{folder / HTML}')
    if pictures is not None:
        add_pictures(experiment, folder, root=data, seeds=wanted, count=pictures)
        click.echo(folder / HTML)
    if time_engines is not None or pictures is not None:
        return
    is_first = is_first_process()
    limit = math.inf if max_minutes is None else 60 * max_minutes
    results = compare(experiment, folder, root=data, seeds=wanted, seconds=limit)
    if is_first:
        click.echo(f'{markdown(results)}\n\n{folder / HTML}')


def _check(experiment: Experiment, root: Path) -> None:
    """See that what an experiment reads is there.

    Args:
        experiment: the experiment.
        root: folder that its relative paths start from.

    Raises:
        MultishiftError: folders or files are missing; the message names them.
    """
    for test in experiment.tests.values():
        check_data(test, root)
    for training in experiment.trainings.values():
        check_data(training.data, root)  # of generated partners nothing is there yet
        check_batch_size(training.batch_size, count_images(training.data, root))
        check_data(training.val, root)
    if experiment.augmentation is not None:
        from multishift_training.augmentation.config import read_config

        check_augmentation(read_config(experiment.augmentation), root)
    for name, training in experiment.trainings.items():
        if training.weights is not None and training.weights != IMAGENET:
            check_weights(root / training.weights, key=f'{name}: weights')
