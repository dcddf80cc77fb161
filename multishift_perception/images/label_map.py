# SPDX-License-Identifier: Apache-2.0
"""From a data set's label values to ours, once, at the data set's edge.

A label map is a YAML file of lines ``raw value: class``, by the class's name or train id, with
``novel`` and ``void`` for what is no known class. ``config/labels/`` holds those of known data
sets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BeforeValidator, Field

from multishift_perception.classes import CITYSCAPES, NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_perception.images.decoding import UNREADABLE
from multishift_perception.schema.words import Words, did_you_mean
from multishift_perception.schema.yaml_files import read_typed

# Stands in a look-up table for raw values that the map does not list.
UNMAPPED = 253

_WORDS = {'novel': NOVEL, 'void': VOID}
_INDICES = {c.name: index for index, c in enumerate(CITYSCAPES)}


def class_index(given: object) -> int:
    """Return the train id of a known class, by its name or train id.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(given, str) and given in _INDICES:
        return _INDICES[given]
    if type(given) is int and 0 <= given < len(CITYSCAPES):
        return given
    raise ValueError(f'{given} is no class{did_you_mean(given, _INDICES)}, expected {CLASS}')


def _label(given: object) -> int:
    if isinstance(given, str) and given in _WORDS:
        return _WORDS[given]
    try:
        return class_index(given)
    except ValueError as error:
        raise ValueError(f'{error}, novel or void') from None


CLASS = f'a number 0 to {len(CITYSCAPES) - 1} or one of {", ".join(_INDICES)}'
RawValue = Annotated[int, Field(strict=True, ge=0, le=255)]
Label = Annotated[int, BeforeValidator(_label), Words(f'{CLASS}, novel or void')]
LabelMap = dict[RawValue, Label]


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
        MultishiftError: the file is missing, is no YAML mapping, or has an entry out of range.
    """
    table = np.full(256, UNMAPPED, np.uint8)
    what = 'a label map, of lines such as `0: sky` or `0: 10`'
    for raw, ours in read_typed(path, LabelMap, what).items():
        table[raw] = ours
    return table


def look_up(table: NDArray[np.uint8], raw: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the labels ``uint8 [h,w]`` of raw values, ``UNMAPPED`` where the table has none.

    Args:
        table: from ``load_label_map`` or ``own_labels``.
        raw: values of any integer type, ``[h,w]``.
    """
    inside = raw.astype(np.uint8)
    labels = np.asarray(cv2.LUT(inside, table), np.uint8)
    labels[inside != raw] = UNMAPPED
    return labels


def read_raw_labels(path: Path) -> NDArray[Any]:
    """Read a label image as it is stored: its values are not those of a picture.

    Values of less than 8 bits are not spread over 0..255, a palette's are its indices, and grey
    that is stored as colour is grey.

    Returns:
        Integers ``[h,w]``.

    Raises:
        MultishiftError: the file is missing, damaged, or has colours.
    """
    try:
        with Image.open(path) as image:
            raw = np.array(image)
        bits = _bits_of_grey(path)
    except UNREADABLE as error:
        raise MultishiftError(
            f'{path}: not a readable image ({error}); copy it again from its source'
        ) from None
    if raw.ndim == 3 and raw.shape[2] >= 3 and not np.ptp(raw[..., :3], axis=2).any():
        raw = raw[..., 0]
    if raw.ndim != 2 or raw.dtype.kind not in 'iub':
        raise MultishiftError(
            f'{path}: a label image must have one channel of integers, '
            f'this one is {raw.dtype} {raw.shape} (a colour rendering?)'
        )
    if raw.dtype.kind == 'b':
        return raw.astype(np.uint8)
    return raw // (255 // (2**bits - 1)) if bits < 8 else raw


def apply_label_map(
    table: NDArray[np.uint8], raw: NDArray[Any], source: Path
) -> NDArray[np.uint8]:
    """Return the labels ``uint8 [h,w]`` of raw values.

    Args:
        table: from ``load_label_map`` or ``own_labels``.
        raw: values of any integer type, ``[h,w]``.
        source: file they came from, named in the error.

    Raises:
        MultishiftError: a value is not in the map.
    """
    labels = look_up(table, raw)
    if (labels == UNMAPPED).any():
        value = int(raw[labels == UNMAPPED][0])
        raise MultishiftError(
            f'{source}: label value {value} is not in the label map; add it to the map, '
            'as a class, novel or void'
        )
    return labels


def read_labels(path: Path, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Read a label image and map it.

    Returns:
        Labels ``uint8 [h,w]``.

    Raises:
        MultishiftError: the file is missing, no label image, or has a value the map lacks.
    """
    return apply_label_map(table, read_raw_labels(path), path)


def _bits_of_grey(path: Path) -> int:
    """Return the bits of a value that Pillow has spread over 0..255; 8 where it has not."""
    with path.open('rb') as file:
        start = file.read(26)
    is_grey_png = start.startswith(b'\x89PNG') and start[25] == 0
    return start[24] if is_grey_png and start[24] in (2, 4) else 8
