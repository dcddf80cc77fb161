# SPDX-License-Identifier: Apache-2.0
"""Frames of the sample drive, rendered once and kept on disk."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
import hashlib
from itertools import product
import json
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from multishift_perception import classes, sample_drive
from multishift_perception.errors import MultishiftError
from multishift_perception.files import file_lock, remove_leftovers, replacing
from multishift_perception.process.workers import worker_pool
from multishift_perception.progress import track
from multishift_perception.sample_drive import random_frame
from multishift_training.datasets.entries import Entry, find, pair

if TYPE_CHECKING:
    from multishift_training.datasets.kinds.sample_drive import SampleDriveData

# Starting processes takes as long as rendering about this many frames.
_FEW = 32

Job = tuple[int, str | None]


def rendered(config: SampleDriveData, cache: Path) -> list[Entry]:
    """Return the frames of a part of the sample drive, by seed and condition.

    They are rendered unless ``cache`` holds them: as PNG files, in a folder whose name stands for
    the description and the renderer, so that another renderer's frames are never taken for them.

    Args:
        config: the frames.
        cache: folder of such folders.
    """
    folder = cache / f'sample_drive-{config.split}-{_key(config)}'
    if not folder.is_dir():
        _fill(folder, config)
    pairs = pair(
        config.kind,
        find(folder, '*', ('.image.png',)),
        find(folder, '*', ('.labels.png',)),
        mend='remove the folder',
    )
    return [
        Entry(image, labels, key, key.partition('_')[0], key.partition('_')[2])
        for key, image, labels in pairs
    ]


def _key(config: SampleDriveData) -> str:
    """Return a digest of the description, the renderer's sources, and what it draws with."""
    folder = Path(str(sample_drive.__file__)).parent
    sources = [Path(str(classes.__file__)), *sorted(folder.rglob('*.py'))]
    drawn = config.model_dump(mode='json', exclude={'learn_novel'})
    digest = hashlib.sha256(json.dumps(drawn, sort_keys=True).encode())
    digest.update(f'numpy {np.__version__} opencv {cv2.__version__}'.encode())
    for source in sources:
        digest.update(source.name.encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _fill(folder: Path, config: SampleDriveData) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Of several processes that want the same frames, one renders them.
        with file_lock(folder.with_suffix('.lock')):
            if folder.is_dir():
                return
            remove_leftovers(folder)
            with replacing(folder) as fresh:
                fresh.mkdir()
                _render(config, fresh)
    except OSError as error:
        raise MultishiftError(
            f'cannot keep rendered frames in {folder} ({error.strerror}): '
            'free space there, or give another folder'
        ) from error


def _render(config: SampleDriveData, folder: Path) -> None:
    """Write image and labels of every frame."""
    seeds = range(config.seed, config.seed + config.frames)
    jobs: list[Job] = list(product(seeds, config.conditions or (None,)))
    draw = partial(_render_one, folder, config)
    if len(jobs) <= _FEW:
        _run(map(draw, jobs), config.split, len(jobs))
        return
    # A process per core: OpenCV's own threads would only get in each other's way.
    with worker_pool(None, cv2.setNumThreads, (1,)) as pool:
        _run(pool.map(draw, jobs, chunksize=8), config.split, len(jobs))


def _run(done: Iterable[None], split: str, total: int) -> None:
    for _ in track(done, f'render {split} frames', total, unit='frame'):
        pass


def _render_one(folder: Path, config: SampleDriveData, job: Job) -> None:
    seed, condition = job
    frame = random_frame(
        seed, split=config.split, size=config.size, condition=condition, variety=config.variety
    )
    stem = folder / f'{seed:08d}_{frame.condition}'
    Image.fromarray(frame.image).save(f'{stem}.image.png', compress_level=1)
    Image.fromarray(frame.labels).save(f'{stem}.labels.png')
