# SPDX-License-Identifier: Apache-2.0
"""`multishift augment`."""

from __future__ import annotations

from pathlib import Path

import click

from multishift_perception.cli.options import json_option
from multishift_perception.cli.verbosity import notice
from multishift_perception.errors import MultishiftError
from multishift_training.augmentation.config import read_config
from multishift_training.augmentation.output_folder import SHEET
from multishift_training.cli.options import data_option, overrides_argument, run_option
from multishift_training.cli.presence import check_augmentation


@click.command()
@click.argument('config', type=click.Path(path_type=Path))
@overrides_argument
@run_option
@data_option
@json_option('the counts')
def command(
    config: Path, overrides: tuple[str, ...], out: Path | None, data: Path, as_json: bool
) -> None:
    """Generate partners of labelled images as the YAML file CONFIG says.

    Novel objects and new domains are painted into the images, and filters judge what came of it.
    `multishift train` reads the folder as data of kind `multishift_cityscapes`. KEY=VALUE sets
    what the file says otherwise: seed=3.
    """
    folder = out or Path('runs') / config.stem
    described = read_config(config, overrides)
    check_augmentation(described, data)
    # What is wrong is said by now: torch takes seconds.
    from multishift_training.augmentation.run import augment

    summary = augment(described, folder, root=data)
    if not summary.complete:
        notice(f'{summary.recorded} of {summary.sources} sources are done')
        return  # other processes are at work, and the last one has the totals
    click.echo(summary.model_dump_json(indent=2) if as_json else f'{summary}\n{folder / SHEET}')
    if not summary.accepted:
        raise MultishiftError(
            f'{folder}: nothing was accepted, for the reasons in {SHEET}: mend them, or lower '
            'what the filters demand, and give another folder with --out'
        )
