# SPDX-License-Identifier: Apache-2.0
"""A source whose samples are being made: what came of them so far, and its files in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import cv2

from multishift_perception.arrays import Bytes
from multishift_training.augmentation.filters import IOU
from multishift_training.augmentation.output_folder import AugmentFolder
from multishift_training.augmentation.parts import Scene
from multishift_training.augmentation.records import Record
from multishift_training.datasets.entries import file_name

# What published file names say of the domain, in their order.
_DOMAIN = ('weather', 'time', 'place')


class _Accepted(NamedTuple):
    """A sample as it will be published, both images as PNG."""

    record: Record
    image: bytes
    labels: bytes


@dataclass
class Source:
    """A source in work.

    Attributes:
        scene: the source itself.
        open: samples that are undecided.
        accepted: samples.
        rejected: records of attempts.
        thumbnails: JPEGs of rejected images, by path below the folder.
    """

    scene: Scene
    open: int
    accepted: list[_Accepted] = field(default_factory=list)
    rejected: list[Record] = field(default_factory=list)
    thumbnails: dict[str, bytes] = field(default_factory=dict)

    def accept(self, record: Record, image: Bytes, labels: Bytes) -> None:
        """Keep a sample: RGB ``uint8 [H,W,3]`` and labels ``uint8 [H,W]``."""
        self.accepted.append(_Accepted(record, _png(image), _png(labels)))

    def commit(self, folder: AugmentFolder) -> None:
        """Write all files and records, as one.

        Raises:
            MultishiftError: there is no room on the disk.
        """
        files = dict(self.thumbnails)
        records = list(self.rejected)
        taken: set[str] = set()
        # The order in which samples were accepted depends on what else was painted with them.
        for accepted in sorted(self.accepted, key=lambda a: a.record.place):
            stem = _stem(accepted.record)
            if stem in taken:
                stem = f'{stem}_{accepted.record.sample}'
            taken.add(stem)
            record = accepted.record.model_copy(update={'file': stem})
            records.append(record)
            files[folder.image(record)] = accepted.image
            files[folder.labels(record)] = accepted.labels
        folder.commit(self.scene.name, records, files)


def _stem(record: Record) -> str:
    """Return source, domain, class and IoU (1.00 where nobody looked), as published sets do."""
    domain = [record.domain[kind] for kind in _DOMAIN if kind in record.domain]
    words = [*domain, record.object.strip()]
    parts = [file_name(word.replace(' ', '-').replace('_', '-')) for word in words]
    return '_'.join([record.source, *parts, f'{record.figures.get(IOU, 1.0):.2f}'])


def _png(image: Bytes) -> bytes:
    """Return an image as PNG: RGB ``uint8 [H,W,3]`` or grey ``uint8 [H,W]``."""
    stored = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    # Level 6 takes two to five times as long, for files that are a quarter smaller at most.
    _, data = cv2.imencode('.png', stored, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return data.tobytes()
