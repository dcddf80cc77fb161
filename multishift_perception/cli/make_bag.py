# SPDX-License-Identifier: Apache-2.0
"""`multishift make-bag`."""

from __future__ import annotations

from pathlib import Path

import click

from multishift_perception.bags.from_images import make_bag
from multishift_perception.cli.options import Number, force_option
from multishift_perception.destinations import BAG, check_file
from multishift_perception.images.class_table import read_class_table
from multishift_perception.images.label_map import load_label_map, own_labels

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument('images', type=_PATH)
@click.argument('out', type=_PATH)
@click.option('--labels', type=_PATH, help='Folder of label images (PNG), named as the frames.')
@click.option(
    '--label-map',
    type=_PATH,
    help='YAML file, `raw value: class`, by name or train id, novel or void; without it labels '
    'are train ids 0..18, 254 novel, 255 void.',
)
@click.option(
    '--classes',
    type=_PATH,
    help="YAML file, the class table of a network's own classes, in place of a label map.",
)
@click.option(
    '--rate',
    type=Number(0, 1000, min_open=True),
    default=10.0,
    help='Frames per second.',
)
@click.option('--topic', default='/camera/image_raw', help='Image topic.')
@force_option
def command(
    images: Path,
    out: Path,
    labels: Path | None,
    label_map: Path | None,
    classes: Path | None,
    rate: float,
    topic: str,
    force: bool,
) -> None:
    """Turn the JPEGs, PNGs and WebPs in the folder IMAGES into the bag OUT.mcap."""
    for option, given in (('--label-map', label_map), ('--classes', classes)):
        if given is not None and labels is None:
            raise click.UsageError(f'{option} needs --labels')
    if label_map is not None and classes is not None:
        raise click.UsageError('--label-map and --classes do not go together: give one')
    check_file(out, BAG, force=force, reads=(images, labels, label_map, classes))
    table = own_labels() if label_map is None else load_label_map(label_map)
    if classes is not None:
        table = read_class_table(classes).without_groups()
    count = make_bag(images, out, topic=topic, rate=rate, labels=labels, label_map=table)
    click.echo(f'{out}: {count} frames on {topic}, {count / rate:.1f} s')
