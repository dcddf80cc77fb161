"""Label maps in ADE20K's colours: what a segmentation ControlNet is controlled by."""

from __future__ import annotations

import numpy as np

from multishift_perception.classes import CITYSCAPES, VOID
from multishift_training.augmentation.ade20k import ade20k
from multishift_training.augmentation.parts import Bytes, Composition


def ade_color_map(composition: Composition) -> Bytes:
    """Return the colours of a composition's labels, RGB ``uint8 [H,W,3]``.

    Void takes the colour of road, as CG-Aug has it. Labels that no class stands for are black,
    which ADE20K uses for what has no label: other novel objects of the scene, for one. The placed
    object has the colour of its class; if it is of no class of ADE20K, that of a sculpture, which
    may have any shape, and the prompt says what it is. No object has a colour of the scene.
    """
    tables = ade20k()
    colors = np.zeros((256, 3), np.uint8)
    known = [*range(len(CITYSCAPES)), VOID]
    colors[known] = tables.palette[tables.scene[known]]
    painted = colors[composition.labels]
    index = composition.object.ade_index
    painted[composition.mask] = tables.palette[tables.any_shape if index is None else index]
    return painted
