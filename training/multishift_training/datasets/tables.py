"""From the label values of each data set to ours: look-up tables ``uint8 [256]``.

A value that a data set does not use maps to ``UNMAPPED``, which reading refuses.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import CITYSCAPES, NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_perception.images.label_map import UNMAPPED, load_label_map
from multishift_training.datasets.config import (
    AcdcPocData,
    CamvidData,
    CityscapesData,
    FolderData,
    ImageData,
    MuadData,
    MultishiftCityscapesData,
    SampleDriveData,
)

Table = NDArray[np.uint8]

_IDENTITY = {c: c for c in range(len(CITYSCAPES))}
_CITYSCAPES = {**_IDENTITY, VOID: VOID}
_OWN = {**_CITYSCAPES, NOVEL: NOVEL}
# 16 of the released label images hold 24 or 26 where the novel object is.
_MULTISHIFT = {**_OWN, 24: NOVEL, 26: NOVEL}
# Known pixels are of no stated class: they read 0. The raw release of RoadAnomaly says 2 for what
# later copies of it call 1.
_ANOMALY = {0: 0, 1: NOVEL, VOID: VOID}
_ROAD_ANOMALY = {**_ANOMALY, 2: NOVEL}

# Cityscapes' label ids of the 19 classes, in the order of their train ids.
_LABEL_IDS = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)
# Inpainted objects are numbered from 100; the published rule takes all above 33 for them.
_ACDC_OBJECTS = dict.fromkeys(range(34, 255), NOVEL)
_ACDC_CLASSES = {
    **dict.fromkeys(range(34), VOID),
    **{label: train for train, label in enumerate(_LABEL_IDS)},
    **_ACDC_OBJECTS,
    VOID: VOID,
}
_ACDC_ANOMALY = {0: VOID, **dict.fromkeys(range(1, 34), 0), **_ACDC_OBJECTS, VOID: VOID}

_MUAD_NOVEL = {19: NOVEL, 20: NOVEL}
_MUAD_CLASSES = {**dict.fromkeys(range(21, 256), VOID), **_IDENTITY, **_MUAD_NOVEL}
_MUAD_ANOMALY = {**dict.fromkeys(range(255), 0), **_MUAD_NOVEL, VOID: VOID}

# Sky, building, pole, road, pavement, tree, sign symbol, fence, car, pedestrian, bicyclist.
_CAMVID = dict(enumerate((10, 2, 5, 0, 1, 8, 7, 4, 13, 11, 12, VOID)))


# All of Cityscapes' label ids as they are; licence plates have none, and are part of their cars.
LABEL_IDS = np.where(np.arange(256) < 34, np.arange(256), UNMAPPED).astype(np.uint8)


def label_table(config: ImageData, root: Path, *, training: bool) -> Table:
    """Return the table of a data set.

    Args:
        config: the data set.
        root: folder that relative data paths start from.
        training: classes held out are void, and so is what is novel, unless the data set is made
            to learn it from; otherwise both are novel (254).

    Raises:
        MultishiftError: the label map of a folder is missing or wrong.
    """
    if isinstance(config, FolderData):
        table = _label_map(root / config.label_map)
    else:
        table = _table(_values(config))
    if isinstance(config, FolderData | CamvidData):
        held_out = [i for i, c in enumerate(CITYSCAPES) if c.name in config.held_out]
        table[np.isin(table, held_out)] = VOID if training else NOVEL
    if training and not _learns_novel(config):
        table[table == NOVEL] = VOID
    return table


def has_classes(config: ImageData) -> bool:
    """Return whether known pixels have their class; if not, they are all labelled 0."""
    if isinstance(config, MuadData | AcdcPocData):
        return config.truth == 'classes'
    return isinstance(
        config,
        CityscapesData | MultishiftCityscapesData | CamvidData | SampleDriveData | FolderData,
    )


def spans(values: Iterable[int]) -> str:
    """Return numbers as text with ranges, such as ``0..18, 255``."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ', '.join(str(low) if low == high else f'{low}..{high}' for low, high in runs)


def _label_map(path: Path) -> Table:
    if not path.is_file():
        raise MultishiftError(
            f'folder: the label map {path} does not exist: mend `label_map`, which starts from '
            'the data root (--data)'
        )
    return load_label_map(path)


def _learns_novel(config: ImageData) -> bool:
    if isinstance(config, FolderData | SampleDriveData):
        return config.learn_novel
    return isinstance(config, MultishiftCityscapesData)


def _values(config: ImageData) -> dict[int, int]:
    match config.kind:
        case 'cityscapes':
            return _CITYSCAPES
        case 'multishift_cityscapes':
            return _MULTISHIFT
        case 'sample_drive':
            return _OWN
        case 'road_anomaly':
            return _ROAD_ANOMALY
        case 'acdc_poc':
            return _ACDC_CLASSES if config.truth == 'classes' else _ACDC_ANOMALY
        case 'muad':
            return _MUAD_CLASSES if config.truth == 'classes' else _MUAD_ANOMALY
        case 'camvid':
            return _CAMVID
        case _:
            return _ANOMALY


def _table(values: dict[int, int]) -> Table:
    table = np.full(256, UNMAPPED, np.uint8)
    for raw, ours in values.items():
        table[raw] = ours
    return table
