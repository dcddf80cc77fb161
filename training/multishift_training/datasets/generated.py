# SPDX-License-Identifier: Apache-2.0
"""What the records of `multishift augment` say of the images beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
import json
from pathlib import Path
from typing import NamedTuple

from multishift_perception.errors import MultishiftError
from multishift_training.datasets.entries import Entry


class _Made(NamedTuple):
    source: str
    weight: float


def weighted(entries: Sequence[Entry], records: Path) -> list[Entry]:
    """Return the entries of generated images, each with its scene and weight.

    The weight is the share of the known pixels that a closed-world network gave their label,
    where one was asked. What is not recorded stays as it is, and so do all without records.

    Args:
        entries: of the images.
        records: file of JSON lines, which need not be there.

    Raises:
        MultishiftError: it is damaged.
    """
    made = _read(records) if records.exists() else {}
    return [
        replace(entry, scene=made[entry.name].source, weight=made[entry.name].weight)
        if entry.name in made
        else entry
        for entry in entries
    ]


def _read(path: Path) -> dict[str, _Made]:
    made: dict[str, _Made] = {}
    try:
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if record['file'] is not None:
                weight = float(record['figures'].get('labels_kept', 1.0))
                if not 0 <= weight <= 1:
                    raise ValueError(f'labels_kept is {weight}')
                made[record['file']] = _Made(record['source'], weight)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MultishiftError(
            f'{path} is damaged ({type(error).__name__} {error}): start the `multishift augment` '
            'that wrote it again, or delete it to draw all partners alike'
        ) from None
    return made
