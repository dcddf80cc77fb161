# SPDX-License-Identifier: Apache-2.0
"""`multishift datasets`."""

from __future__ import annotations

from collections.abc import Iterator
import inspect
import json
from pathlib import Path
import textwrap
from typing import Any

import click

from multishift_perception.cli.options import json_option
from multishift_perception.schema.words import tag_of
from multishift_training.cli.reference import meanings
from multishift_training.datasets.kinds import ImageSet, kinds

_WIDTH = 99


@click.command()
@json_option('the list')
def command(as_json: bool) -> None:
    """List the data sets that configurations may name: what each needs on disk, and its classes.

    Folders are below --data. Check a licence at its source before you ship what learned from it.
    """
    found = [_described(kind) for kind in kinds()]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for entry in found:
        for line in _lines(entry):
            click.echo(line)


def _described(kind: type[ImageSet]) -> dict[str, Any]:
    summary = inspect.cleandoc(kind.__doc__ or '').partition('\n\n')[0]
    said = meanings(kind)
    return {
        'kind': tag_of(kind),
        'what': ' '.join(summary.replace('``', '').split()),
        'on_disk': {
            name: {'default': _default(kind, name), 'meaning': said[name].replace('``', '')}
            for name in kind.model_fields
            if name in said and _is_path(kind.model_fields[name].annotation)
        },
        'classes': _classes(kind),
        'licence': kind.licence or None,
    }


def _is_path(annotation: Any) -> bool:
    return annotation is Path or annotation == Path | None


def _default(kind: type[ImageSet], name: str) -> str | None:
    field = kind.model_fields[name]
    return str(field.default) if isinstance(field.default, Path) else None


def _classes(kind: type[ImageSet]) -> str:
    """Say what labels are of; constants are properties where descriptions of a kind differ."""
    groups: Any = kind.groups
    known: Any = kind.known_classes
    has_classes: Any = kind.has_classes
    if has_classes is False:
        return 'anomalies alone'
    if isinstance(groups, tuple) and groups:
        names = ', '.join(group.name for group in groups)
        return f"Cityscapes' classes, coarse: {names}"
    if known is not ImageSet.known_classes:
        return "Cityscapes' classes, or those of a class table"
    return "Cityscapes' classes"


def _lines(entry: dict[str, Any]) -> Iterator[str]:
    yield from textwrap.wrap(f'{entry["kind"]}: {entry["what"]}', _WIDTH, subsequent_indent='    ')
    rows = [('classes', entry['classes'])]
    for name, said in entry['on_disk'].items():
        default = f' (default {said["default"]})' if said['default'] else ''
        rows.append((name, f'{said["meaning"].rstrip(".")}{default}'))
    rows.append(('licence', entry['licence'] or 'none known'))
    for title, text in rows:
        yield textwrap.fill(
            text, _WIDTH, initial_indent=f'    {title:<12} ', subsequent_indent=' ' * 17
        )
