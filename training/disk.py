"""What commands that run for hours say of a full disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import errno
from pathlib import Path

from multishift_perception.errors import MultishiftError


@contextmanager
def room(path: Path) -> Iterator[None]:
    """Say in one line that the disk is full, where the block writes into the folder ``path``.

    For what goes on after its last whole write when it is started again.

    Raises:
        MultishiftError: it is.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not _is_full(error):
            raise
        raise MultishiftError(
            f'{path} cannot be written: no room on the disk; free some and start again, it goes '
            'on where it was saved last'
        ) from error


def _is_full(error: BaseException | None) -> bool:
    """Whether an error comes of a full disk; torch's writer raises one of its own after it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__context__
    return False
