# SPDX-License-Identifier: Apache-2.0
"""Unions of models whose members are not all known at first."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ValidationError
import pytest

from multishift_perception.schema.open_union import Models, OpenUnion
from multishift_perception.schema.words import Accepted, words


class Shape(BaseModel):
    kind: str


class Circle(Shape):
    kind: Literal['circle']
    radius: float


class Square(Shape):
    kind: Literal['square']
    side: float


MEMBERS: list[type[BaseModel]] = []


def members() -> Models:
    return tuple(MEMBERS)


class Drawing(BaseModel):
    shape: Annotated[Shape, OpenUnion(members)]
    other: Annotated[Shape, OpenUnion(members)] | None = None


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f'{__name__}.MEMBERS', [Circle, Square])


def test_members_are_those_of_the_moment() -> None:
    class Line(Shape):
        kind: Literal['line']

    given = {'shape': {'kind': 'line'}}
    with pytest.raises(ValidationError, match="'line' found .* expected tags: 'circle', 'square'"):
        Drawing.model_validate(given)
    MEMBERS.append(Line)
    assert isinstance(Drawing.model_validate(given).shape, Line)
    accepted = Accepted.of(Drawing.model_fields['other'])
    assert accepted.choices == ('circle', 'square', 'line')
    assert words(accepted) == 'keys with `kind`: circle, square or line, or null'


def test_faults_have_the_place_that_a_closed_union_gives_them() -> None:
    with pytest.raises(ValidationError) as fault:
        Drawing.model_validate({'shape': {'kind': 'circle', 'radius': 'x'}})
    [found] = fault.value.errors()
    assert found['loc'] == ('shape', 'circle', 'radius') and found['type'] == 'float_parsing'


def test_all_of_a_member_is_written() -> None:
    drawing = Drawing.model_validate({'shape': {'kind': 'square', 'side': 2}})
    written = {'shape': {'kind': 'square', 'side': 2.0}}
    assert drawing.model_dump(exclude_none=True) == written
    assert Drawing.model_validate_json(drawing.model_dump_json()) == drawing
