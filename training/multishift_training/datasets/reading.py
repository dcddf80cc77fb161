# SPDX-License-Identifier: Apache-2.0
"""Reading the files of a data set: images, differences of images, and label images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes, read_archive
from multishift_perception.errors import MultishiftError
from multishift_perception.images.decoding import decode_file
from multishift_perception.images.frame_errors import FrameError
from multishift_perception.images.label_map import UNMAPPED, look_up, read_raw_labels
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.tables import Table, spans


class ForeignLabelsError(MultishiftError):
    """Labels that can be read, but are not of the data set's kind: its description is at fault."""


def read_image(entry: Entry) -> Bytes:
    """Return the RGB image ``uint8 [H,W,3]``, as stored: orientation tags are not obeyed.

    Raises:
        MultishiftError: a file is unreadable or damaged, or a difference does not fit its base.
    """
    if entry.base is None:
        return _picture(entry.image)
    base, change = _picture(entry.base), _array(entry.image)
    if change.shape != base.shape or change.dtype.kind not in 'iu':
        raise MultishiftError(
            f'{entry.image} holds {change.dtype} {change.shape}, which cannot be added to '
            f'{entry.base} (uint8 {base.shape}): give the data set of the originals'
        )
    if change.dtype == np.uint8:  # taken modulo 256
        return base + change.astype(np.uint8)
    return np.clip(base + change.astype(np.int64), 0, 255).astype(np.uint8)


def read_labels(path: Path, table: Table, *, kind: str, first_channel: bool = False) -> Bytes:
    """Return the labels ``uint8 [H,W]`` of a label image: PNG (grey or palette index) or npz.

    Args:
        path: the label image.
        table: from raw values to ours.
        kind: name of the data set, for messages.
        first_channel: labels are the first colour of PNG files, of 8 or 16 bits.

    Raises:
        ForeignLabelsError: the file is no label image, or has a value the table lacks.
        MultishiftError: it cannot be read.
    """
    if first_channel:
        raw: NDArray[Any] = _first_channel(path)
    else:
        raw = _array(path) if path.suffix == '.npz' else read_raw_labels(path)
    if raw.ndim != 2 or raw.dtype.kind not in 'iub' or raw.size == 0:
        raise ForeignLabelsError(
            f'{path}: a label image must have one channel of integers, this one is '
            f'{raw.dtype} {raw.shape} (a colour rendering?)'
        )
    labels = look_up(table, raw)
    unmapped = labels == UNMAPPED
    if unmapped.any():
        strange = np.unique(raw[unmapped]).tolist()
        values = f'values {spans(strange)} are' if len(strange) > 1 else f'value {strange[0]} is'
        raise ForeignLabelsError(
            f'{path}: label {values} none of those {kind} uses '
            f'({spans(np.flatnonzero(table != UNMAPPED).tolist())}): mend the file, or the '
            'label map or class table if the configuration names one'
        )
    return labels


def _first_channel(path: Path) -> NDArray[Any]:
    """Return the first colour of a PNG file, which Pillow would cut to 8 bits."""
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise MultishiftError(f'{path} cannot be read ({error.strerror}): copy it again') from None
    found = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if found is None or found.ndim != 3:
        raise MultishiftError(f'{path} is no PNG image with colours: copy it again')
    return found[..., 2]  # OpenCV has blue first


def _picture(path: Path) -> Bytes:
    try:
        return decode_file(path.read_bytes(), max_pixels=None)
    except (FrameError, OSError) as error:
        raise MultishiftError(f'{path} is no readable image ({error}): copy it again') from None


def _array(path: Path) -> NDArray[Any]:
    """Return the one array of an npz file; nothing in it is unpickled."""
    try:
        arrays = list(read_archive(path).values())
    except (OSError, ValueError) as error:
        raise MultishiftError(f'{path} is no readable npz file ({error}): copy it again') from None
    if len(arrays) != 1:
        raise MultishiftError(f'{path} holds {len(arrays)} arrays, not one: copy it again')
    return arrays[0]
