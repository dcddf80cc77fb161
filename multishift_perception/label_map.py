"""From a data set's label values to ours, once, at the data set's edge.

A label map is a YAML file of lines ``raw value: train id``, with ``novel`` and ``void`` for what
is no known class. ``config/labels/`` holds those of known data sets.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import CITYSCAPES, NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_perception.files import read_yaml

# Stands in a look-up table for raw values that the map does not list.
UNMAPPED = 253

_WORDS = {'novel': NOVEL, 'void': VOID}


def own_labels() -> NDArray[np.uint8]:
    """Return the look-up table ``uint8 [256]`` of files that use our encoding already."""
    table = np.full(256, UNMAPPED, np.uint8)
    for value in (*range(len(CITYSCAPES)), NOVEL, VOID):
        table[value] = value
    return table


def load_label_map(path: Path) -> NDArray[np.uint8]:
    """Read a label map.

    Returns:
        Look-up table ``uint8 [256]`` from raw value to ours; ``UNMAPPED`` where none is given.

    Raises:
        MultishiftError: The file is missing, is no YAML mapping, or has an entry out of range.
    """
    entries = read_yaml(path, 'a label map')
    if not isinstance(entries, dict) or not entries:
        raise MultishiftError(f'{path}: expected lines `raw value: train id`, for example `0: 10`')
    table = np.full(256, UNMAPPED, np.uint8)
    for raw, ours in entries.items():
        if type(raw) is not int or not 0 <= raw <= 255:
            raise MultishiftError(f'{path}: {raw!r} is no raw label value; expected 0..255')
        table[raw] = _our_value(path, raw, ours)
    return table


def apply_label_map(
    table: NDArray[np.uint8], raw: NDArray[np.uint8], source: Path
) -> NDArray[np.uint8]:
    """Return the labels ``uint8 [h,w]`` of a raw label image.

    Args:
        table: From ``load_label_map`` or ``own_labels``.
        raw: Label image ``uint8 [h,w]``.
        source: File it came from, named in the error.

    Raises:
        MultishiftError: A value is not in the map.
    """
    labels = np.asarray(cv2.LUT(raw, table), np.uint8)
    if (labels == UNMAPPED).any():
        value = int(raw[labels == UNMAPPED][0])
        raise MultishiftError(
            f'{source}: label value {value} is not in the label map; add it to the map, '
            "as a train id, 'novel' or 'void'"
        )
    return labels


def read_labels(path: Path, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Read a label image (8 bits, one channel) and map it.

    Returns:
        Labels ``uint8 [h,w]``.

    Raises:
        MultishiftError: The file is missing, no such image, or has a value the map lacks.
    """
    if not path.is_file():
        raise MultishiftError(f'{path}: no such label image')
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if raw is None:
        raise MultishiftError(f'{path}: not a readable image; copy it again from its source')
    if raw.dtype != np.uint8 or raw.ndim != 2:
        raise MultishiftError(
            f'{path}: a label image must have one 8-bit channel of class values, '
            f'this one is {raw.dtype} {raw.shape} (a colour rendering?)'
        )
    return apply_label_map(table, np.asarray(raw, np.uint8), path)


def _our_value(path: Path, raw: int, ours: object) -> int:
    if isinstance(ours, str) and ours in _WORDS:
        return _WORDS[ours]
    if type(ours) is int and 0 <= ours < len(CITYSCAPES):
        return ours
    raise MultishiftError(
        f'{path}: raw value {raw} maps to {ours!r}; '
        f"expected a train id 0..{len(CITYSCAPES) - 1}, 'novel' or 'void'"
    )
