# SPDX-License-Identifier: Apache-2.0
"""`multishift train`."""

from __future__ import annotations

import math
from pathlib import Path

import click

from multishift_perception.cli.options import Number
from multishift_training.checkpoints.metadata import IMAGENET
from multishift_training.checkpoints.presence import check_weights
from multishift_training.cli.options import data_option, overrides_argument, run_option
from multishift_training.datasets.presence import check_batch_size, check_data, count_images
from multishift_training.loop.config import LAST, TrainConfig, read_config


@click.command()
@click.argument('config', type=click.Path(path_type=Path))
@overrides_argument
@run_option
@data_option
@click.option(
    '--precision',
    type=click.Choice(('fp32', 'bf16')),
    help="In place of the configuration's; bf16 is mixed: weights and losses stay in 32 bits.",
)
@click.option(
    '--channels-last/--no-channels-last',
    default=None,
    help="In place of the configuration's: memory format of images and weights.",
)
@click.option(
    '--workers',
    type=click.IntRange(min=0),
    help="Processes that load data, in place of the configuration's.",
)
@click.option(
    '--max-minutes',
    type=Number(min=0, min_open=True),
    help='Save the run and leave it after so long, at the end of a step; it goes on from there.',
)
def command(
    config: Path,
    overrides: tuple[str, ...],
    out: Path | None,
    data: Path,
    max_minutes: float | None,
    **replaced: str | bool | int | None,
) -> None:
    """Train a network as the YAML file CONFIG says.

    KEY=VALUE sets what the file says otherwise: seed=3, stages.0.epochs=2,
    data.outliers.split=val.
    """
    wanted = read_config(config, overrides)
    wanted = wanted.model_copy(update={k: v for k, v in replaced.items() if v is not None})
    folder = out or Path('runs') / config.stem
    _check(wanted, data, new=not (folder / LAST).exists())
    # What is wrong is said by now: torch takes seconds.
    from multishift_training.loop.devices import is_first_process
    from multishift_training.loop.train import train

    seconds = math.inf if max_minutes is None else 60 * max_minutes
    best = train(wanted, folder, root=data, seconds=seconds)
    if not is_first_process():
        return
    if best is None:
        click.echo(
            f'stopped after {max_minutes:g} minutes and saved in {folder}: give the same command '
            'again to go on'
        )
        return
    frames = '' if data == Path() else f' --data {data}'
    click.echo(
        f'best weights: {best}\n'
        f'next: multishift engine build {best}{frames} --out {config.stem}_engine'
    )


def _check(config: TrainConfig, root: Path, *, new: bool) -> None:
    """See that what a training run reads is there, with enough images for a batch.

    Args:
        config: of the run.
        root: folder that its relative paths start from.
        new: whether it starts from `weights`; one that goes on has its own.

    Raises:
        MultishiftError: folders or files are missing; the message names them.
    """
    check_data(config.data, root)
    check_batch_size(config.batch_size, count_images(config.data, root))
    check_data(config.val, root)
    if config.folder is not None:
        check_weights(root / config.folder, key='folder')
    if new and config.weights not in (None, IMAGENET):
        check_weights(root / config.weights, key='weights')
