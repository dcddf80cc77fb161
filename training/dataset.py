"""From frames to batches: augmentation for training, the engine's own resize for validation."""

from __future__ import annotations

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from multishift_perception.classes import VOID
from multishift_perception.pipeline import fit
from multishift_training.config import TrainConfig
from multishift_training.frames import Frames


class TrainingSet(Dataset[tuple[Tensor, Tensor]]):
    """Random crops at the engine's scale; the same (seed, epoch, index) gives the same crop."""

    def __init__(self, frames: Frames, config: TrainConfig, epoch: int) -> None:
        """Make the data set of one epoch."""
        self._frames = frames
        self._config = config
        self._epoch = epoch
        height, width = config.crop
        low, high = config.scale
        self._transform = A.Compose(
            [
                A.RandomScale((low - 1, high - 1), p=1.0),
                A.PadIfNeeded(height, width, fill=0, fill_mask=VOID),
                A.RandomCrop(height, width),
                A.HorizontalFlip(p=0.5),
                A.ColorJitter(0.25, 0.25, 0.25, 0.04, p=0.6),
                A.GaussianBlur((3, 5), p=0.1),
            ]
        )

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return image ``uint8 [H,W,3]`` and labels ``uint8 [H,W]``."""
        seed = (self._config.seed, self._epoch, index)
        rng = np.random.default_rng(seed)
        image, labels = resized(*self._frames.read(index, rng), self._config.engine_size)
        self._transform.set_random_seed(int(rng.integers(2**31)))
        crop = self._transform(image=image, mask=labels)
        return torch.from_numpy(crop['image']), torch.from_numpy(crop['mask'])


class ValidationSet(Dataset[tuple[Tensor, Tensor]]):
    """Whole frames at the engine's size."""

    def __init__(self, frames: Frames, config: TrainConfig) -> None:
        """Wrap the frames."""
        self._frames = frames
        self._size = config.engine_size

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return image ``uint8 [H,W,3]`` and labels ``uint8 [H,W]``."""
        image, labels = self._frames.read(index, np.random.default_rng(index))
        image, labels = resized(image, labels, self._size)
        return torch.from_numpy(image), torch.from_numpy(labels)


def resized(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return image and labels stretched to ``size`` (height, width), as the pipeline does."""
    height, width = size
    nearest = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    return fit(image, size), np.asarray(nearest, np.uint8)


def training_loader(
    frames: Frames, config: TrainConfig, epoch: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return the shuffled batches of an epoch; its order depends on (seed, epoch) alone."""
    return DataLoader(
        TrainingSet(frames, config, epoch),
        config.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=config.workers,
        generator=torch.Generator().manual_seed(config.seed * 100_003 + epoch),
    )


def validation_loader(frames: Frames, config: TrainConfig) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return whole frames in order."""
    return DataLoader(ValidationSet(frames, config), config.batch_size, num_workers=config.workers)


def class_weights(frames: Frames, num_classes: int) -> Tensor:
    """Return the weight ``1 / ln(1.1 + share of pixels)`` of each class (ENet), ``float32 [C]``.

    Shares are measured on at most 300 frames spread over the set; the mean weight over all
    pixels is 1.
    """
    counts = np.zeros(256, np.int64)
    for index in np.linspace(0, len(frames) - 1, min(len(frames), 300)).astype(int):
        _, labels = frames.read(int(index), np.random.default_rng(int(index)))
        counts += np.bincount(labels[::4, ::4].ravel(), minlength=256)
    share = counts[:num_classes] / max(counts[:num_classes].sum(), 1)
    weights = 1 / np.log(1.1 + share)
    return torch.tensor(weights / (weights * share).sum(), dtype=torch.float32)
