# SPDX-License-Identifier: Apache-2.0
"""Writes the reference of every configuration key, from the classes that validate them.

    python -m multishift_training.cli.reference docs/configuration.md

What keys mean is said in one place, the classes' docstrings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
import inspect
import json
from pathlib import Path
import re
import sys
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from multishift_perception.files import write_text
from multishift_perception.images.label_map import Label, RawValue
from multishift_perception.schema.composed import Flat
from multishift_perception.schema.words import Accepted, one_of, tag_of, words
from multishift_training.augmentation.config import AugmentConfig
from multishift_training.comparison.config import Experiment
from multishift_training.datasets import ValidationData
from multishift_training.loop.config import TrainConfig

# Every model that a YAML file is validated by, with what it is for. A model that several reach is
# described below the first.
ROOTS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    (
        'Data sets',
        'For `multishift evaluate` and `--calibrate`. A file holds one description, or several by '
        'name: `name: {kind: camvid, split: val}`, or `name: {images: {...}, outliers: {...}}`.',
        ValidationData,
    ),
    ('Training', 'For `multishift train`.', TrainConfig),
    ('Augmentation', 'For `multishift augment`.', AugmentConfig),
    ('Experiments', 'For `multishift compare`.', Experiment),
)
_HEAD = """# Configuration

Every key of every YAML file, and the node's parameters. Made from the code that validates them by
`python -m multishift_training.cli.reference docs/configuration.md`: change the docstrings there,
not this file.

Paths in a configuration are relative to the data root (`--data`; the working directory when left
out) unless they are absolute: folders of images, weights, and label maps alike; that of a class
table alone starts from the configuration's own folder. Paths on the command line are relative to
the working directory. An unknown key, a key given twice and a value out of range are errors.
"""
_COLUMNS = '| key | accepts | default | meaning |\n|---|---|---|---|'


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return what the keys of a model mean, from the docstrings of it and its bases."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__[: model.__mro__.index(BaseModel)]):
        _, _, attributes = inspect.cleandoc(base.__doc__ or '').partition('\nAttributes:\n')
        for name, text in re.findall(r'^ {4}(\w+): (.+(?:\n {8}.+)*)', attributes, re.MULTILINE):
            found[name] = ' '.join(text.split())
    return found


def reference() -> str:
    """Return the whole text, in Markdown."""
    parts = [_HEAD]
    done: list[type[BaseModel]] = []
    for title, intro, root in ROOTS:
        parts.append(f'## {title}\n\n{intro}\n\n{_summary(root)}\n\n{_table(root)}\n')
        done.append(root)
        for model in _reached(root, done):
            parts.append(f'### {_titles()[model]}\n\n{_summary(model)}\n\n{_table(model)}\n')
        if root is ValidationData:
            parts.append(_label_maps())
    return '\n'.join([*parts, _parameters()])


def _reached(model: type[BaseModel], done: list[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    """Yield the models below a model that are not done yet, in the order of its keys."""
    for field in model.model_fields.values():
        for inner in _models(field):
            if inner not in done:
                done.append(inner)
                yield inner
                yield from _reached(inner, done)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    accepted = Accepted.of(annotation)
    for member in accepted.members:
        if isinstance(member, type) and issubclass(member, BaseModel):
            yield member
        elif member is accepted.kind:
            for inner in get_args(member):
                yield from _models(inner)
        else:
            yield from _models(member)


@cache
def _titles() -> dict[type[BaseModel], str]:
    """Return the heading of each model: its root's, or the word that chooses it, or its name."""
    titles = {root: title for title, _, root in ROOTS}
    for root in tuple(titles):
        for model in _reached(root, list(titles)):
            *_, last = name = re.findall('[A-Z][a-z0-9]*', model.__name__)
            title = tag_of(model) or ' '.join(name).capitalize()
            taken = title in titles.values()
            titles[model] = f'{title} {last.lower()}' if taken else title
    return titles


def _linked(model: type[BaseModel], text: str = '') -> str:
    title = _titles()[model]
    return f'[{text or title}](#{title.lower().replace(" ", "-")})'


def _summary(model: type[BaseModel]) -> str:
    text, _, _ = inspect.cleandoc(model.__doc__ or '').partition('\nAttributes:\n')
    return _markdown(text)


def _table(model: type[BaseModel]) -> str:
    said = meanings(model)
    rows = [
        _row(_shown(name, field), words(field, _link), _default(field), said.get(name, ''))
        for name, field in model.model_fields.items()
        if name in model.__annotations__ and not tag_of(model, name)
    ]
    base = model.__base__
    above = [f'`kind: {tag_of(model)}`\n'] if tag_of(model) else []
    if base in _titles():
        above.append(f'All keys of {_linked(base)}, of which differ:\n')
    return '\n'.join([*above, *([_COLUMNS, *rows] if rows else ['It has no other key.'])])


def _shown(name: str, field: FieldInfo) -> str:
    """Return a key as files have it; of a field without one, that which tells its keys."""
    accepted = Accepted.of(field)
    return f'{accepted.tag}, ...' if Flat() in accepted.limits else name


def _row(*cells: str) -> str:
    name, *others = (_markdown(cell).replace('|', r'\|') for cell in cells)
    return f'| `{name}` | {" | ".join(others)} |'


def _link(models: Sequence[type[BaseModel]], tag: str | None) -> str:
    if not tag:
        return f'keys: {_linked(models[0])}'
    return f'keys, by `{tag}`: {one_of([_linked(m, tag_of(m, tag)) for m in models])}'


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return 'required'
    value = field.default
    if isinstance(value, BaseModel):
        tag = tag_of(type(value))
        return f'`{tag}`' if tag else 'its defaults'
    return f'`{value if isinstance(value, str | Path) else json.dumps(value)}`'


def _markdown(text: str) -> str:
    return text.replace('``', '`').strip()


def _label_maps() -> str:
    key, value = words(Accepted.of(RawValue)), words(Accepted.of(Label))
    return (
        '## Label maps\n\nFor `label_map`, and `multishift make-bag --label-map`. Lines '
        '`raw value: class`; a raw value of the label images that is not listed is an error. '
        '`config/labels/` holds those of known data sets: copy one into the data root, or give '
        'its absolute path.\n\n| | accepts |\n|---|---|\n'
        f'| raw value | {key} |\n| class | {value} |\n'
    )


def _parameters() -> str:
    # Where ROS is missing, only this part cannot be written.
    from multishift_perception.node.parameter_specs import CAMERA_NAMES, CAMERA_SPECS, NODE_SPECS

    specs = [(spec.name, spec) for spec in (*NODE_SPECS, CAMERA_NAMES)]
    specs += [(f'cameras.<name>.{spec.name}', spec) for spec in CAMERA_SPECS]
    rows = [
        _row(
            name,
            spec.accepted,
            f'`{json.dumps(spec.default)}`',
            re.sub(r'([<*])', r'\\\1', f'{spec.description} May change {spec.change.value}.'),
        )
        for name, spec in specs
    ]
    return '\n'.join(
        ['## Node parameters', '', 'For `config/perception.yaml`.', '', _COLUMNS, *rows, '']
    )


if __name__ == '__main__':
    write_text(Path(sys.argv[1]), reference())
