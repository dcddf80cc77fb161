# SPDX-License-Identifier: Apache-2.0
"""Typed YAML files: what is wrong is said in people's words, with the place in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
import pytest

from multishift_perception.errors import MultishiftError
from multishift_perception.schema.yaml_files import Document, read_document, read_typed


class Strict(BaseModel):
    model_config = ConfigDict(extra='forbid')


class Round(Strict):
    kind: Literal['round']
    radius: float = Field(gt=0)


class Square(Strict):
    kind: Literal['square']
    side: float = Field(gt=0, le=9)
    corners: tuple[int, int] = (0, 0)


class Drawing(Strict):
    name: str
    shapes: list[Annotated[Round | Square, Field(discriminator='kind')]] = []
    frame: Round | None = None
    colors: dict[str, Annotated[int, Field(ge=0, le=255)]] = {}
    filled: bool = False

    @model_validator(mode='after')
    def _framed(self) -> Drawing:
        if self.name == 'framed' and self.frame is None:
            raise ValueError('a framed drawing wants a frame')
        return self


# Ten lines that stand for a thousand million values.
LAUGHS = 'a0: &a0 [x]\n' + ''.join(
    f'a{i}: &a{i} [{", ".join(10 * [f"*a{i - 1}"])}]\n' for i in range(1, 10)
)


def read(text: str, folder: Path) -> Drawing:
    path = folder / 'drawing.yaml'
    path.write_text(text)
    return read_typed(path, Drawing, 'a drawing')


def faults(text: str, folder: Path) -> list[str]:
    with pytest.raises(MultishiftError) as caught:
        read(text, folder)
    lines = str(caught.value).splitlines()
    file = f'{folder / "drawing.yaml"}'
    assert all(line.startswith(file) for line in lines)
    return [line.removeprefix(file) for line in lines]


def test_what_is_right_is_read(tmp_path: Path) -> None:
    found = read('\ufeffname: x\nshapes: [{kind: square, side: 2, corners: [1, 2]}]', tmp_path)
    assert found.shapes == [Square(kind='square', side=2, corners=(1, 2))]


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        (
            'nam: x\nname: y',
            ': nam (line 1) is no key, expected name, shapes, frame, colors or fil',
        ),
        ('name: y\nnmae: x', '(did you mean name?)'),
        ('shapes: []', ': name is missing, expected text'),
        ('name: 2020', ": name (line 1) is 2020, expected text (put it in quotes: '2020')"),
        ('name: no', ": name (line 1) is no, expected text (put it in quotes: 'no')"),
        ('name:', ': name (line 1) is empty, expected text'),
        ('name: [a]', ": name (line 1) is ['a'], expected text"),
        ('name: x\nfilled: perhaps', ': filled (line 2) is perhaps, expected true or false'),
        ('name: x\nframe: wide', ': frame (line 2) is wide, expected the keys kind, radius'),
        (
            'name: x\nshapes:\n- {kind: round, radius: 1}\n- {kind: square, side: 10}',
            ': shapes[1].side (line 4) is 10, expected a number, above 0, at most 9',
        ),
        (
            'name: x\nshapes:\n- kind: square\n  side: 1\n  corners: [1, 2, 3]',
            ': shapes[0].corners (line 5) is [1, 2, 3], expected a list of 2 entries, each a who',
        ),
        (
            'name: x\nshapes:\n- kind: square\n  side: 1\n  corners: [1]',
            ': shapes[0].corners (line 5) is [1], expected a list of 2 entries, each a whole numb',
        ),
        (
            'name: x\nshapes:\n- kind: square\n  side: 1\n  corners: [1, one]',
            ': shapes[0].corners[1] (line 5) is one, expected a whole number',
        ),
        (
            'name: x\nshapes:\n- {kind: Squares, side: 1}',
            ': shapes[0].kind (line 3) is Squares, expected round or square (did you mean square',
        ),
        (
            'name: x\nshapes:\n- {side: 1}',
            ': shapes[0].kind is missing in the block of line 3, expected round or square',
        ),
        (
            'name: x\nshapes: [round]',
            ': shapes[0] (line 2) is round, expected keys with `kind`: ro',
        ),
        (
            'name: x\nshapes: [{kind: round, radius: 1, side: 2}]',
            ': shapes[0].side (line 2) is no key of round, expected kind or radius',
        ),
        (
            'name: x\nshapes: [{kind: round}]',
            ': shapes[0].radius is missing in the block of line 2, expected a number, above 0',
        ),
        (
            'name: x\ncolors: {red: 256}',
            ': colors.red (line 2) is 256, expected a whole number fro',
        ),
        ('name: x\ncolors: {1: 2}', ': colors.1 (line 2) is no key, expected text'),
        ('1: x\nname: x', ': 1 (line 1) is no key, expected name'),
        ('name: framed', ': a framed drawing wants a frame'),
        ('a: &a {name: 1}\nname: x\nframe: {<<: *a}', ': frame.kind is missing in the block of'),
        ('name: &a [*a]', ': name (line 1) is [[...]], expected text'),
        ('name: x\nname: y', ': line 2: the key name is given twice, first in line 1: leave one'),
        ('{name: x, name: y}', ': line 1: the key name is given twice'),
        (
            'name: x\nframe:\n\tkind: round',
            ' is not valid YAML: line 3: a tab stands where spaces',
        ),
        ('name: [', ' is not valid YAML: line 1: '),
        ('name: x: y', ' is not valid YAML: line 1: mapping values are not allowed here'),
        ('name: 2020-13-45', ' is not valid YAML (month must be in 1..12): give a drawing'),
        ('name: !!python/name:os.system', ' is not valid YAML: line 1: could not determine a con'),
        ('name: x\n---\nname: y', ' is not valid YAML: line 2: expected a single document in the'),
        ('name: "' + 2**20 * 'x' + '"', ' is larger than 1,048,576 bytes: give a drawing'),
        (LAUGHS, ': its aliases stand for more than 1,000,000 values: give a drawing'),
        ('[' * 5000, ' is not valid YAML'),
        ('', ' is empty: give a drawing'),
        ('# nothing\n', ' is empty: give a drawing'),
        ('- a', ' holds a list at top level, expected lines `key: value`: give a drawing'),
        ('words', ' holds a single value at top level'),
    ],
)
def test_one_fault_is_one_line(text: str, expected: str, tmp_path: Path) -> None:
    found = [line for line in faults(text, tmp_path) if expected in line]
    assert len(found) == 1, faults(text, tmp_path)


def test_every_fault_is_said_once(tmp_path: Path) -> None:
    text = 'shapes:\n- {kind: square, side: 0, corners: []}\ncolour: red'
    assert [line.partition(',')[0] for line in faults(text, tmp_path)] == [
        ': name is missing',
        ': shapes[0].side (line 2) is 0',
        ': shapes[0].corners (line 2) is []',
        ': colour (line 3) is no key',
    ]


def test_what_a_merge_brings_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / 'drawing.yaml'
    path.write_text('a: &a {name: x}\nb: &b {<<: *a, name: y}\nc: {<<: *b, name: 1}\nd: *b')
    document = read_document(path, 'a drawing')
    assert document.at('d').typed(Drawing).name == 'y'
    with pytest.raises(MultishiftError, match=r'drawing\.yaml: c\.name \(line 3\) is 1'):
        document.at('c').typed(Drawing)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (None, 'No such file'),
        ('folder', 'Is a directory'),
        ('name: é'.encode('latin1'), 'from byte 6 on: save it as UTF-8'),
    ],
)
def test_what_cannot_be_read(content: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / 'drawing.yaml'
    if content == 'folder':
        path.mkdir()
    elif content:
        path.write_bytes(content)
    with pytest.raises(MultishiftError, match=f'(?i){path}.*{reason}.*: give a drawing') as caught:
        read_typed(path, Drawing, 'a drawing')
    assert '\n' not in str(caught.value)


def test_json() -> None:
    text = '{"name": "x", "filled": [1]}'
    document = Document.of_json('w.safetensors, its config', text, mend='train again')
    message = r'^w.safetensors, its config: filled is \[1\], expected true or false: train again$'
    with pytest.raises(MultishiftError, match=message):
        document.typed(Drawing)
    with pytest.raises(MultishiftError, match='its config is damaged .*: train again'):
        Document.of_json('its config', '{"name', mend='train again')
