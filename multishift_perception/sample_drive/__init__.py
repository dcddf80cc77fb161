# SPDX-License-Identifier: Apache-2.0
"""A synthetic street drive with exact labels: the sample data of demo, training and tests.

Everything is painted with ``paint``; ``street`` and ``novel`` are built on it, ``traffic`` and
``light`` on those, and the modules beside this one put pictures together. None imports upwards.

There are two painters, as they start from different ends. This one draws scenes from geometry,
and so makes image and labels at once, of a world that moves. ``multishift_training``'s
``augmentation.procedural`` repaints label maps as they come, those of real footage too, whose
geometry nobody knows: it gives a labelled image other looks, and shows what its map holds.
"""

from multishift_perception.sample_drive.cutouts import cutout
from multishift_perception.sample_drive.drive import CAMERAS, Drive, Frame, Intrinsics
from multishift_perception.sample_drive.light.weather import CONDITIONS
from multishift_perception.sample_drive.novel.novel_objects import NOVEL_OBJECTS
from multishift_perception.sample_drive.paint.seeding import SPLITS
from multishift_perception.sample_drive.random_frames import random_frame

__all__ = [
    'CAMERAS',
    'CONDITIONS',
    'NOVEL_OBJECTS',
    'SPLITS',
    'Drive',
    'Frame',
    'Intrinsics',
    'cutout',
    'random_frame',
]
