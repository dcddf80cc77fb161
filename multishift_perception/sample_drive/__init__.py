"""A synthetic street drive with exact labels: the sample data of demo, training and tests."""

from multishift_perception.sample_drive.cutouts import cutout
from multishift_perception.sample_drive.drive import CAMERAS, Drive, Frame, Intrinsics
from multishift_perception.sample_drive.novel_objects import NOVEL_OBJECTS
from multishift_perception.sample_drive.random_frames import random_frame
from multishift_perception.sample_drive.seeding import SPLITS
from multishift_perception.sample_drive.weather import CONDITIONS

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
