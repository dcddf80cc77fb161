# SPDX-License-Identifier: Apache-2.0
"""`multishift import-checkpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from multishift_perception.cli.options import NameOf
from multishift_training import models
from multishift_training.cli.bundle import bundle_options, show
from multishift_training.cli.options import SizeType
from multishift_training.export import CALIBRATE, build_published


@click.command()
@click.argument('file', type=click.Path(path_type=Path))
@click.option(
    '--model',
    type=NameOf(lambda: models.NAMES),
    required=True,
    help='Network the weights are of; that of `eomt` and `mask2former` is read from a folder.',
)
@click.option(
    '--size',
    type=SizeType(),
    metavar='HxW',
    default='1024x2048',
    help='Rows and columns of the engine input, in pixels.',
)
@click.option(
    '--calibrate',
    type=click.Path(path_type=Path),
    help='YAML file that describes labelled frames, as for `multishift evaluate`.',
)
@bundle_options
def command(file: Path, **options: Any) -> None:
    """Build an engine bundle of the published weights in FILE.

    FILE is a file of torch.save, safetensors or detectron2, or a Hugging Face folder. Without
    --calibrate, the anomaly scale is fitted on a few frames of the synthetic sample drive, which
    is enough to try the engine, and no more: its operating point belongs to that drive.
    """
    out = options['out']
    manifest = build_published(file, **options, loaded=lambda report: click.echo(str(report)))
    show(manifest, out, options['onnx'])
    if options['calibrate'] is None:
        click.echo(
            'the operating point was fitted on the synthetic sample drive, not on your roads: '
            f'{CALIBRATE}'
        )
    click.echo(f'next: multishift replay BAG --engine {out} --out report')
