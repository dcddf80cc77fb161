# SPDX-License-Identifier: Apache-2.0
"""The contact sheet: what was accepted and what was rejected, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import json
from pathlib import Path

import cv2
import jinja2
import numpy as np
from PIL import Image

from multishift_perception.arrays import Bytes, Mask
from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_perception.images.decoding import UNREADABLE
from multishift_perception.overlay import OUTLINE_COLOR
from multishift_perception.report.page import environment
from multishift_perception.report.pictures import jpeg
from multishift_training.augmentation.config import AugmentConfig
from multishift_training.augmentation.output_folder import AugmentFolder
from multishift_training.augmentation.records import Record, Summary
from multishift_training.augmentation.scenes import Scenes

_WIDTH = 400
# Samples shown of those accepted, and of those rejected for each reason.
_ACCEPTED, _REJECTED = 48, 16


@dataclass(frozen=True)
class Shown:
    """A sample of the sheet; all pictures are JPEG bytes.

    Attributes:
        record: what is written of it.
        image: with its object outlined; none where nothing was painted.
        source: what it was made from; none where that cannot be read.
    """

    record: Record
    image: bytes | None
    source: bytes | None


@dataclass(frozen=True)
class Section:
    """Samples with one verdict: some of them, and how many there are."""

    heading: str
    total: int
    shown: tuple[Shown, ...]


def thumbnail(image: Bytes, mask: Mask | None = None) -> bytes:
    """Return a small JPEG of an RGB image ``uint8 [H,W,3]``, ``mask [H,W]`` outlined in it."""
    height, width = image.shape[:2]
    columns = min(width, _WIDTH)
    size = columns, max(1, round(height * columns / width))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    if mask is not None:
        inside = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        around = cv2.dilate(inside, np.ones((3, 3), np.uint8)) > inside
        small[around] = OUTLINE_COLOR
    return jpeg(small)


def render(
    config: AugmentConfig,
    folder: AugmentFolder,
    scenes: Scenes,
    records: Sequence[Record],
    summary: Summary,
) -> str:
    """Return the contact sheet as one self-contained HTML page.

    It shows as many samples as one looks at, evenly spread over the run.

    Args:
        config: of the run.
        folder: of the run, with all images in place.
        scenes: what the run started from.
        records: of all attempts, sorted.
        summary: their counts.

    Raises:
        MultishiftError: a published image cannot be read.
    """
    sections = [_section(folder, scenes, 'Accepted', _with(records, ''), _ACCEPTED)] + [
        _section(folder, scenes, f'Rejected: {reason}', _with(records, reason), _REJECTED)
        for reason in summary.rejected
    ]
    template = environment(jinja2.PackageLoader(__package__)).get_template('augmentation.html.j2')
    return template.render(
        summary=summary, sections=sections, provenance=_provenance(config, records)
    )


def _with(records: Sequence[Record], reason: str) -> list[Record]:
    return [r for r in records if r.verdict != 'fault' and r.reason == reason]


def _section(
    folder: AugmentFolder, scenes: Scenes, heading: str, records: Sequence[Record], limit: int
) -> Section:
    chosen = np.linspace(0, len(records) - 1, min(limit, len(records))).round().astype(int)
    shown = [records[i] for i in chosen]
    return Section(
        heading,
        len(records),
        tuple(Shown(r, _picture(folder, r), _source(scenes, r.source)) for r in shown),
    )


def _picture(folder: AugmentFolder, record: Record) -> bytes | None:
    if record.file is None:
        path = folder.path / record.thumbnail
        return path.read_bytes() if path.exists() else None
    image, labels = (
        _read(folder.path / name) for name in (folder.image(record), folder.labels(record))
    )
    return thumbnail(image, labels == NOVEL)


def _source(scenes: Scenes, name: str) -> bytes | None:
    try:
        return thumbnail(scenes.read(scenes.names.index(name)).image)
    except MultishiftError:
        return None  # it could be read when its samples were made: the sheet says that it is gone


def _read(path: Path) -> Bytes:
    try:
        with Image.open(path) as image:
            return np.array(image)
    except UNREADABLE as error:
        raise MultishiftError(
            f'{path} cannot be read ({error}): delete the record of its source in records/, and '
            'start the run again'
        ) from None


def _provenance(config: AugmentConfig, records: Sequence[Record]) -> dict[str, str]:
    generators = sorted({r.generator for r in records if r.generator})
    filters = sorted({f'{k}: {v}' for r in records for k, v in r.filters.items()})
    return {
        'images': config.images.model_dump_json(),
        'objects': config.objects.model_dump_json(),
        'placement': config.placement.model_dump_json(),
        'generator': config.generator.model_dump_json(),
        'generator version': '; '.join(generators) or '–',
        'filters': json.dumps(config.filters.model_dump(mode='json')),
        'filter versions': '; '.join(filters) or '–',
        'seed': str(config.seed),
    }
