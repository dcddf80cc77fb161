"""`multishift train`."""

from __future__ import annotations

from pathlib import Path

import click

from multishift_training.cli.options import data_option, run_option
from multishift_training.config import read_config
from multishift_training.presence import check_training


@click.command()
@click.argument('config', type=click.Path(path_type=Path))
@run_option
@data_option
def command(config: Path, out: Path | None, data: Path) -> None:
    """Train a network as the YAML file CONFIG says."""
    described, folder = read_config(config), out or Path('runs') / config.stem
    check_training(described, data, new=not (folder / 'last.pt').exists())
    # What is wrong is said by now: torch takes seconds.
    from multishift_training.devices import is_first_process
    from multishift_training.train import train

    best = train(described, folder, root=data)
    if is_first_process():
        frames = '' if data == Path() else f' --data {data}'
        click.echo(
            f'best weights: {best}\n'
            f'next: multishift engine build {best}{frames} --out {config.stem}_engine'
        )
