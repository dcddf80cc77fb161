"""The one exception that users are meant to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class MultishiftError(Exception):
    """A fault the user can mend: one line that names the thing at fault and the mend.

    The command line prints it and exits with 1; the node logs it and refuses the transition.
    Anything else that escapes is a defect of ours and keeps its traceback.
    """


def schema_faults(error: ValidationError) -> str:
    """Return a validation error's faults on one line, each with the path of its field."""
    return '; '.join(
        f'{".".join(map(str, fault["loc"])) or "the file"}: {fault["msg"]}'
        for fault in error.errors()
    )


def install_extra(extra: str) -> str:
    """Return the command that installs an extra of this package, which is on no index."""
    return f"`pip install '.[{extra}]'` in the checkout"
