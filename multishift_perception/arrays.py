# SPDX-License-Identifier: Apache-2.0
"""Types of arrays, what OpenCV returns as one of them, and files of arrays."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def as_bytes(array: Any) -> Bytes:
    """Return what OpenCV made of bytes, whose type its stubs leave open; nothing is copied."""
    return np.asarray(array, np.uint8)


def read_archive(file: Path | BinaryIO) -> dict[str, NDArray[Any]]:
    """Return the arrays of a NumPy archive (``.npz``) by name; nothing in it is unpickled.

    Raises:
        ValueError: it is none, or damaged.
        OSError: it cannot be read.
    """
    try:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, NpzFile):
            raise ValueError('it is one array')
        with archive:
            # What is no array in it is bytes.
            return {name: np.asarray(content) for name, content in archive.items()}
    except OSError:
        raise
    except ValueError as error:  # in its words, NumPy advises to unpickle
        raise ValueError('no archive of arrays') from error
    except Exception as error:  # zipfile, zlib and NumPy raise what they meet
        raise ValueError(f'{type(error).__name__}: {error}') from error
