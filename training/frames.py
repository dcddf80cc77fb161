"""Labelled frames to train and validate on, by source."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatch
from multiprocessing import get_context
import os
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_perception.files import replacing
from multishift_perception.label_map import load_label_map, read_labels
from multishift_perception.sample_drive import cutout, random_frame
from multishift_training.config import FolderData, SampleDriveData

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class Frames(Protocol):
    """A fixed list of frames with their labels."""

    def __len__(self) -> int:
        """Return the number of frames."""

    def read(self, index: int, rng: np.random.Generator) -> Pair:
        """Return the RGB image ``uint8 [H,W,3]`` and the labels ``uint8 [H,W]`` of a frame.

        ``rng`` decides what is random in it (pasted objects), if anything is.
        """


def open_frames(config: SampleDriveData | FolderData, root: Path, cache: Path) -> Frames:
    """Return the frames a configuration describes.

    Args:
        config: the ``train`` or ``val`` entry.
        root: folder that relative data paths start from.
        cache: where rendered frames are kept for the next run.
    """
    if isinstance(config, SampleDriveData):
        return RenderedFrames(config, cache)
    return FolderFrames(config, root)


class RenderedFrames:
    """Independent frames of the sample drive, rendered once and kept on disk."""

    def __init__(self, config: SampleDriveData, cache: Path) -> None:
        """Render the frames unless ``cache`` holds them."""
        height, width = config.size
        name = f'{config.split}-{config.seed}-{config.frames}-{height}x{width}.npy'
        path = cache / name
        if not path.exists():
            _render(config, path)
        self._frames = np.load(path, mmap_mode='r')

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def read(self, index: int, rng: np.random.Generator) -> Pair:
        """Return a frame; nothing in it is random."""
        frame = self._frames[index]
        return np.ascontiguousarray(frame[..., :3]), np.ascontiguousarray(frame[..., 3])


def _render(config: SampleDriveData, path: Path) -> None:
    """Write image and labels as the four channels of one ``uint8 [frames,H,W,4]`` array."""
    # Spawned, not forked: a fork of a process whose libraries run threads can hang for ever.
    pool = ProcessPoolExecutor(os.cpu_count(), mp_context=get_context('spawn'))
    with replacing(path) as fresh, pool:
        shape = (config.frames, *config.size, 4)
        frames = np.lib.format.open_memmap(fresh, 'w+', np.uint8, shape)  # type: ignore[no-untyped-call]
        jobs = [(config.seed + i, config.split, config.size) for i in range(config.frames)]
        rendered = pool.map(_render_one, jobs, chunksize=8)
        progress = tqdm(rendered, f'render {config.split} frames', len(jobs), unit='frame')
        for i, frame in enumerate(progress):
            frames[i] = frame
        frames.flush()


def _render_one(job: tuple[int, str, tuple[int, int]]) -> NDArray[np.uint8]:
    seed, split, size = job
    cv2.setNumThreads(1)  # the pool already has a process per core
    frame = random_frame(seed, split=split, size=size)
    return np.dstack([frame.image, frame.labels])


class FolderFrames:
    """A folder of images with label maps, and novel objects pasted into them."""

    def __init__(self, config: FolderData, root: Path) -> None:
        """List the frames.

        Raises:
            MultishiftError: a folder is missing or empty, or an image has no label map; the
                message names it.
        """
        self._config = config
        self._label_map = load_label_map(config.label_map)
        images, labels = root / config.images, root / config.labels
        if not images.is_dir():
            raise MultishiftError(
                f'image folder {images} does not exist: give the data root with --data'
            )
        self._pairs = [
            (path, labels / f'{path.stem}.png')
            for path in sorted(images.iterdir())
            if any(fnmatch(path.name, pattern) for pattern in config.patterns)
        ]
        if not self._pairs:
            raise MultishiftError(
                f'no file in {images} matches {config.patterns}: mend `patterns`'
            )
        for image, label in self._pairs:
            if not label.is_file():
                raise MultishiftError(f'{image} has no label map: {label} is missing')

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._pairs)

    def read(self, index: int, rng: np.random.Generator) -> Pair:
        """Return a frame with one to three novel objects pasted into four frames of five."""
        image_path, label_path = self._pairs[index]
        loaded = cv2.imread(str(image_path), cv2.IMREAD_COLOR_RGB)
        if loaded is None:
            raise MultishiftError(f'{image_path} is no readable image: copy it again')
        image, labels = np.asarray(loaded, np.uint8), read_labels(label_path, self._label_map)
        if labels.shape != image.shape[:2]:
            raise MultishiftError(
                f'{label_path} has {labels.shape} pixels, its image {image.shape[:2]}'
            )
        labels[labels == NOVEL] = VOID
        if rng.random() < 0.8:
            for _ in range(rng.integers(1, 4)):
                _paste(image, labels, rng, self._config.paste_split)
        return image, labels


def _paste(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], rng: np.random.Generator, split: str
) -> None:
    """Paste a novel object at a random place of the lower two thirds, in the scene's light."""
    rows, columns = labels.shape
    size = int(rng.uniform(0.06, 0.35) * rows)
    novel = cutout(rng, split=split, height=size)
    height, width = novel.shape[:2]
    if width >= columns:
        return
    bottom = int(rng.uniform(max(height, rows // 3), rows))
    left = int(rng.integers(0, columns - width))
    region = np.s_[bottom - height : bottom, left : left + width]
    alpha = novel[..., 3:] / np.float32(255)
    # A cut-out is lit as by day; the scene's own brightness keeps that from giving it away.
    gain = rng.uniform(0.6, 1.1) * np.clip(image.mean() / 110, 0.3, 1.2)
    lit = np.clip(novel[..., :3] * gain, 0, 255)
    image[region] = (alpha * lit + (1 - alpha) * image[region]).astype(np.uint8)
    labels[region][novel[..., 3] >= 128] = NOVEL
