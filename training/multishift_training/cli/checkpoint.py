# SPDX-License-Identifier: Apache-2.0
"""`multishift engine checkpoint`."""

from __future__ import annotations

from pathlib import Path

import click

from multishift_perception.cli.options import force_option
from multishift_perception.cli.verbosity import notice
from multishift_perception.engine import EMBEDDED_BUNDLE
from multishift_training.cli.options import data_option
from multishift_training.export import write_checkpoint


@click.command()
@click.argument('bundle', type=click.Path(path_type=Path), default=EMBEDDED_BUNDLE)
@click.option(
    '--out',
    type=click.Path(path_type=Path),
    required=True,
    help='Checkpoint to write, .safetensors.',
)
@force_option
@data_option
def command(bundle: Path, out: Path, *, force: bool, data: Path) -> None:
    """Write the network of BUNDLE as a checkpoint.

    Training goes on from it (`weights: CHECKPOINT`), on images of your own roads, and `multishift
    engine build` makes engines of other sizes and for other targets of it. BUNDLE is the embedded
    engine when left out.
    """
    left = write_checkpoint(bundle, out, force=force, data=data)
    if left:
        notice(f'as in a new network, as the bundle makes no use of them: {", ".join(left)}')
    click.echo(f'checkpoint: {out}')
