"""File writes that are whole or absent, and content hashes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import ctypes
import glob
import hashlib
import os
from pathlib import Path
import shutil
import tempfile
from typing import Any

import yaml

from multishift_perception.errors import MultishiftError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block succeeds.

    The caller creates a file or a directory at the yielded path. After an exception, or a kill at
    any moment, ``path`` is what it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f'.{path.name}.', dir=path.parent))
    try:
        fresh = scratch / path.name
        yield fresh
        try:
            os.replace(fresh, path)
        except OSError:
            # Asked for only now: another process may have put a directory there a moment ago.
            if not path.is_dir():
                raise
            _exchange(fresh, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Remove what processes that were killed while `replacing` ``path`` left beside it.

    No process may be replacing it now.
    """
    for scratch in path.parent.glob(f'.{glob.escape(path.name)}.*'):
        shutil.rmtree(scratch)


def _exchange(first: Path, second: Path) -> None:
    """Swap two directories in one step: ``os.replace`` refuses to replace one that has content."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(
        _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE
    )
    if done != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(second))


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with replacing(path) as fresh:
        fresh.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8."""
    write_bytes(path, text.encode())


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def read_yaml(path: Path, what: str) -> Any:
    """Return the content of a YAML file.

    Args:
        path: of the file.
        what: what it should be, in words, for the error.

    Raises:
        MultishiftError: it is missing, unreadable or no YAML.
    """
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise MultishiftError(f'{path} cannot be read ({error.strerror}): give {what}') from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = ' '.join(str(error).split())
        raise MultishiftError(f'{path} is not valid YAML ({reason}): give {what}') from None
