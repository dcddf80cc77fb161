# SPDX-License-Identifier: Apache-2.0
"""What metrics have counted, as bytes to send between processes or to keep in a file."""

from __future__ import annotations

from collections.abc import Mapping
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import read_archive

_KIND = 'kind'


def pack(kind: str, arrays: Mapping[str, NDArray[Any]], *, compressed: bool = True) -> bytes:
    """Return a NumPy archive of the arrays, marked with the kind of metrics."""
    file = io.BytesIO()
    named: dict[str, Any] = {_KIND: np.array(kind), **arrays}
    (np.savez_compressed if compressed else np.savez)(file, **named)
    return file.getvalue()


def to_array(state: bytes) -> NDArray[np.uint8]:
    """Return a state as an array, to pack it into another one."""
    return np.frombuffer(state, np.uint8)


def unpack(kind: str, state: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of a state; nothing in it is executed.

    Raises:
        ValueError: it is no state of metrics of this kind.
    """
    try:
        arrays = read_archive(io.BytesIO(state))
    except (ValueError, OSError) as error:
        raise ValueError(f'no state of {kind}: {error}') from error
    found = arrays.pop(_KIND, None)
    if found is None or str(found) != kind:
        raise ValueError(f'no state of {kind} but of {found}')
    return arrays
