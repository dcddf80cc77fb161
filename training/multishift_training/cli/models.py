# SPDX-License-Identifier: Apache-2.0
"""`multishift models`."""

from __future__ import annotations

from collections.abc import Iterator
import json
import textwrap
from typing import TYPE_CHECKING, Any

import click

from multishift_perception.cli.options import json_option
from multishift_perception.progress import track
from multishift_training import models
from multishift_training.cli.options import SizeType

if TYPE_CHECKING:
    from multishift_training.models import SegmentationModel
    from multishift_training.models.size import ModelSize

_WIDTH = 99


@click.command()
@click.option(
    '--size',
    type=SizeType(),
    metavar='HxW',
    default='1024x2048',
    help='Rows and columns of the image that operations are counted for.',
)
@json_option('the table')
def command(size: tuple[int, int], as_json: bool) -> None:
    """List the networks, how large they are, and which published weights each loads.

    One multiply-add is two operations. Licences are of the weights: check them at their source.
    """
    # What is not installed is said before anything is shown.
    from multishift_training.models.size import measure

    names = track(models.NAMES, 'models', unit='model', leave=False)
    networks = [
        _described(*measure(name, size), name)
        if name not in models.FROM_FOLDER
        else _of_a_folder(name)
        for name in names
    ]
    if as_json:
        click.echo(json.dumps({'size': size, 'models': networks}, indent=2))
        return
    for line in _lines(networks, size):
        click.echo(line)


def _of_a_folder(name: str) -> dict[str, Any]:
    """Return what is known of the network whose structure is in a folder."""
    return {'name': name, 'parameters': None, 'flops': None, 'weights': []}


def _described(model: SegmentationModel, size: ModelSize, name: str) -> dict[str, Any]:
    from multishift_training.models.layout import Source

    weights = [
        {'source': layout.name, 'licence': layout.licence or None}
        for layout in model.layouts()
        if layout.source is not Source  # else they are those of `multishift train`
    ]
    return {'name': name, **size._asdict(), 'weights': weights}


def _lines(networks: list[dict[str, Any]], size: tuple[int, int]) -> Iterator[str]:
    width = max(len(network['name']) for network in networks)
    operations = f'GFLOPs at {size[0]}x{size[1]}'
    yield f'{"name".ljust(width)}  parameters  {operations}'
    for network in networks:
        if network['parameters'] is None:
            kind = models.FROM_FOLDER[network['name']]
            yield f'{network["name"].ljust(width)}  of any {kind} in a Hugging Face folder'
            continue
        parameters = f'{network["parameters"] / 1e6:.1f} M'.rjust(len('parameters'))
        flops = f'{network["flops"] / 1e9:,.0f}'.rjust(len(operations))
        yield f'{network["name"].ljust(width)}  {parameters}  {flops}'
        for known in network['weights']:
            text = f'{known["source"]}: {known["licence"] or "no licence known"}'
            yield textwrap.fill(
                text, _WIDTH, initial_indent='    loads ', subsequent_indent=' ' * 10
            )
