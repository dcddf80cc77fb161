# SPDX-License-Identifier: Apache-2.0
"""What files may say of a field beside its plain form: a list of entries, or keys without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from pydantic import GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class OneOrList:
    """Makes ``Annotated[One | list[Entry], OneOrList()]`` tell the two apart by what is given.

    A list is taken for the second, all else for the first: faults are those of that form alone.
    """

    def __get_pydantic_core_schema__(self, source: Any, _: GetCoreSchemaHandler) -> CoreSchema:
        """Return what pydantic validates by."""
        one, several = map(TypeAdapter[Any], get_args(source))

        def validate(given: Any, info: core_schema.ValidationInfo) -> Any:
            form = several if isinstance(given, list) else one
            return form.validate_python(given, context=info.context)

        # Written like anything: by what a value is, not by what its field is declared as.
        return core_schema.with_info_before_validator_function(validate, core_schema.any_schema())


@dataclass(frozen=True)
class Flat:
    """Marks a field whose own keys stand beside the other keys of its model in a file."""
