# SPDX-License-Identifier: Apache-2.0
"""Label maps in ADE20K's colours: what a segmentation ControlNet is controlled by."""

from __future__ import annotations

from functools import cache

import numpy as np

from multishift_perception.arrays import Bytes
from multishift_perception.classes import CITYSCAPES, VOID
from multishift_training.augmentation.ade20k import ade20k
from multishift_training.augmentation.parts import Composition


def ade_color_map(composition: Composition) -> Bytes:
    """Return the colours of a composition's labels, RGB ``uint8 [H,W,3]``.

    Where the scene has Cityscapes' label ids, they decide, as CG-Aug has it: a bridge is a bridge
    and a guard rail a fence, though neither has a train id. Else labels do, and void takes the
    colour of road. What no class stands for is black, which ADE20K uses for what has no label:
    parking and tunnels, for one, and of labels other novel objects of the scene. The placed
    object has the colour of its class; if it is of no class of ADE20K, that of a sculpture, which
    may have any shape, and the prompt says what it is. No object has a colour of the scene.
    """
    tables, ids = ade20k(), composition.scene.label_ids
    painted = _of_labels()[composition.labels] if ids is None else _of_label_ids()[ids]
    index = composition.object.ade_index
    painted[composition.mask] = tables.palette[tables.any_shape if index is None else index]
    return painted


@cache
def _of_labels() -> Bytes:
    """Return the colour of each label, RGB ``uint8 [256,3]``."""
    tables = ade20k()
    colors = np.zeros((256, 3), np.uint8)
    known = [*range(len(CITYSCAPES)), VOID]
    colors[known] = tables.palette[tables.scene[known]]
    return colors


@cache
def _of_label_ids() -> Bytes:
    """Return the colour of each of Cityscapes' label ids, RGB ``uint8 [256,3]``."""
    tables = ade20k()
    colors = np.zeros((256, 3), np.uint8)
    for value, index in enumerate(tables.label_ids):
        if index is not None:
            colors[value] = tables.palette[index]
    return colors
