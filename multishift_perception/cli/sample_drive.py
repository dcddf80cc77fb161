# SPDX-License-Identifier: Apache-2.0
"""`multishift sample-drive`."""

from __future__ import annotations

from pathlib import Path

import click

from multishift_perception.bags.from_sample_drive import write_sample_bag
from multishift_perception.cli.options import Number, force_option
from multishift_perception.destinations import BAG, check_file


@click.command()
@click.argument('out', type=click.Path(path_type=Path))
@click.option(
    '--seed',
    type=click.IntRange(0, 2**31 - 1),
    default=7,
    help='Another seed is another drive; the same seed gives the same bytes.',
)
@click.option(
    '--seconds',
    type=Number(0, 3600, min_open=True),
    default=48.0,
    help='Duration of the drive.',
)
@click.option(
    '--rate',
    type=Number(0, 1000, min_open=True),
    default=5.0,
    help='Frames per second of each camera.',
)
@click.option('--height', type=click.IntRange(96, 4096), default=360, help='Pixels.')
@click.option('--width', type=click.IntRange(96, 4096), default=640, help='Pixels.')
@force_option
def command(
    out: Path, seed: int, seconds: float, rate: float, height: int, width: int, force: bool
) -> None:
    """Write a synthetic street drive with ground truth as the bag OUT.mcap."""
    check_file(out, BAG, force=force)
    count = write_sample_bag(out, seed=seed, seconds=seconds, rate=rate, size=(height, width))
    click.echo(f'{out}: two cameras, {count} frames each, {out.stat().st_size / 1e6:.0f} MB')
