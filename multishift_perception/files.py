"""File writes that are whole or absent, and content hashes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import ctypes
import hashlib
import os
from pathlib import Path
import shutil
import tempfile

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
        if path.is_dir():
            _exchange(fresh, path)
        else:
            os.replace(fresh, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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
