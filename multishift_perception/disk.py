# SPDX-License-Identifier: Apache-2.0
"""What is said of a full disk, by every command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import errno

from multishift_perception.errors import MultishiftError

# No room; no room within a quota; more than a file may have, where `ulimit -f` sets that.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FullDiskError(MultishiftError):
    """There is no room to write something; nothing of it is left half-written."""


@contextmanager
def reporting_full_disk(what: object, *, resumes: bool = False) -> Iterator[None]:
    """Say in one line that the disk is full, where the block finds it so.

    Blocks may be nested: the outermost has the word.

    Args:
        what: path of what the block writes.
        resumes: whether the command goes on after its last whole write when started again.

    Raises:
        FullDiskError: the disk is full.
    """
    try:
        yield
    except (OSError, RuntimeError, FullDiskError) as error:
        if not is_full_disk(error):
            raise
        raise full_disk(what, resumes=resumes) from error


def full_disk(what: object, *, resumes: bool = False) -> FullDiskError:
    """Return the error of `reporting_full_disk`."""
    goes_on = ', it goes on where it was saved last' if resumes else ''
    return FullDiskError(
        f'{what} cannot be written: no room on the disk; free some and start again{goes_on}'
    )


def is_full_disk(error: BaseException | None) -> bool:
    """Whether an error comes of a full disk; libraries raise errors of their own after it."""
    while error is not None:
        if isinstance(error, FullDiskError):
            return True
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__context__
    return False
