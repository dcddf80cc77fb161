# SPDX-License-Identifier: Apache-2.0
"""Unions of models, told apart by a key, whose members are not all known when they are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated, Any

from pydantic import BaseModel, Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, core_schema

Models = tuple[type[BaseModel], ...]


@dataclass(frozen=True)
class OpenUnion:
    """Makes a type accept what is a member by then: ``Annotated[Base, OpenUnion(members)]``.

    Faults are those of a union of the members with ``tag`` as its discriminator.

    Attributes:
        members: returns the members, each with a word of its own for the tag; two or more.
        tag: key that tells them apart.
    """

    members: Callable[[], Models]
    tag: str = 'kind'

    @property
    def union(self) -> Any:
        """The union of the members as they are now."""
        return _union(self.members())

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        """Return what pydantic validates by: the members of the moment, looked up each time."""

        def validate(given: Any, info: core_schema.ValidationInfo) -> Any:
            adapter = _adapter(self.members(), self.tag)
            return adapter.validate_python(given, context=info.context)

        # Written like anything: by what a value is, not by what its field is declared as.
        return core_schema.with_info_before_validator_function(validate, core_schema.any_schema())


@lru_cache(maxsize=32)
def _adapter(members: Models, tag: str) -> TypeAdapter[Any]:
    union: Any = Annotated[_union(members), Field(discriminator=tag)]
    return TypeAdapter(union)


def _union(members: Models) -> Any:
    return reduce(or_, members)
