# SPDX-License-Identifier: Apache-2.0
"""ADE20K's classes, and what CG-Aug takes them for."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
import yaml

from multishift_perception.classes import CITYSCAPES, VOID

# What an object is shown as whose class ADE20K lacks: a thing that may have any shape.
_ANY_SHAPE = 'sculpture'


class Ade20k(NamedTuple):
    """The 150 classes of the scene parsing benchmark, counted from 0.

    Attributes:
        names: of the classes.
        palette: their colours, RGB ``uint8 [150,3]``; road and skyscraper share theirs.
        scene: index of the class that stands for each label, ``uint8 [256]``: of our classes, and
            of void, which is road, as CG-Aug has it; all others are 0.
        label_ids: index of the class that stands for each of Cityscapes' label ids, 0 to 33; None
            for those that no class stands for.
        of_full: index by class of ADE20K-full, for the classes that are among the 150.
        novel: indices of the classes that no road scene holds, by list: 82 to train with, and 32
            of these to validate with (MultiShiftSeg).
        named: index of such a class by its name, or by another word for it.
    """

    names: tuple[str, ...]
    palette: NDArray[np.uint8]
    scene: NDArray[np.uint8]
    label_ids: tuple[int | None, ...]
    of_full: dict[int, int]
    novel: dict[Literal['train', 'val'], frozenset[int]]
    named: dict[str, int]

    @property
    def any_shape(self) -> int:
        """Index of the class for objects of no class of ADE20K."""
        return self.names.index(_ANY_SHAPE)


@cache
def ade20k() -> Ade20k:
    """Return the tables."""
    path = files('multishift_training.augmentation') / 'tables' / 'ade20k.yaml'
    table = yaml.safe_load(path.read_text())
    names = tuple(entry['name'] for entry in table['classes'])
    scene = np.zeros(256, np.uint8)
    scene[: len(CITYSCAPES)] = [names.index(table['scene'][c.name]) for c in CITYSCAPES]
    scene[VOID] = scene[0]
    novel = frozenset(table['novel_train'])
    named = {names[index]: index for index in novel}
    for name, words in table['synonyms'].items():
        named.update(dict.fromkeys(words, names.index(name)))
    return Ade20k(
        names=names,
        palette=np.array([entry['color'] for entry in table['classes']], np.uint8),
        scene=scene,
        label_ids=tuple(None if n is None else names.index(n) for n in table['label_ids']),
        of_full=dict(table['full_index']),
        novel={'train': novel, 'val': frozenset(table['novel_val'])},
        named=named,
    )
