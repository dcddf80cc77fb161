# SPDX-License-Identifier: Apache-2.0
"""Opens one file of a bag by what is in it, whatever its name says."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
import shutil
from tempfile import TemporaryDirectory

import zstandard

from multishift_perception.bags import mcap_index, sqlite_file
from multishift_perception.bags.location import COMPRESSED, ROS1_MAGIC, no_bag
from multishift_perception.bags.mcap_file import McapFile
from multishift_perception.bags.sqlite_file import SqliteFile
from multishift_perception.bags.storage import Nothing, Storage


def open_storage(path: Path, stack: ExitStack) -> Storage:
    """Open a file of a bag.

    Args:
        path: ``.mcap`` or ``.db3``, with ``.zstd`` behind it where it is compressed as a whole.
        stack: closes the file, and removes what was decompressed.

    Raises:
        MultishiftError: it is of ROS 1, or its messages are in a file beside it.
        ValueError: it is of no known format. Damaged files may raise anything.
    """
    real = _decompressed(path, stack) if path.suffix == COMPRESSED else path
    with real.open('rb') as file:
        start = file.read(len(sqlite_file.MAGIC))
    storage: Storage
    if start.startswith(mcap_index.MAGIC):
        storage = McapFile(real)
    elif start == sqlite_file.MAGIC:
        storage = SqliteFile(real)
    elif any(magic.startswith(start) for magic in (mcap_index.MAGIC, sqlite_file.MAGIC)):
        storage = Nothing()  # cut off inside its first bytes
    elif start.startswith(ROS1_MAGIC):
        raise no_bag(path)
    else:
        raise ValueError('it begins neither as MCAP nor as SQLite')
    stack.callback(storage.close)
    return storage


def _decompressed(path: Path, stack: ExitStack) -> Path:
    folder = stack.enter_context(TemporaryDirectory(prefix='bag.'))
    real = Path(folder) / path.stem
    with path.open('rb') as source, real.open('wb') as target:
        decompressor = zstandard.ZstdDecompressor()
        with decompressor.stream_reader(source, read_across_frames=True) as stream:
            shutil.copyfileobj(stream, target)
    return real
