# SPDX-License-Identifier: Apache-2.0
"""`multishift engine build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from multishift_training.cli.bundle import bundle_options, show
from multishift_training.cli.options import SizeType
from multishift_training.export import build


@click.command()
@click.argument('checkpoint', type=click.Path(path_type=Path))
@click.option(
    '--size',
    type=SizeType(),
    metavar='HxW',
    show_default="the run's engine_size",
    help='Rows and columns of the engine input, in pixels.',
)
@bundle_options
def command(checkpoint: Path, **options: Any) -> None:
    """Build an engine bundle from CHECKPOINT, a `best.safetensors` of `multishift train`.

    The score is calibrated on the run's validation frames.
    """
    show(build(checkpoint, **options), options['out'], options['onnx'])
