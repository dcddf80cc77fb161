"""The labelled images that a run starts from."""

from __future__ import annotations

from pathlib import Path

from multishift_perception.errors import MultishiftError
from multishift_training.augmentation.config import AugmentConfig
from multishift_training.augmentation.parts import Scene
from multishift_training.datasets import open_images
from multishift_training.datasets.entries import file_name
from multishift_training.datasets.transforms import resized


class Scenes:
    """A data set's images, at the size that the run wants.

    Attributes:
        names: of the images, fit for file names.
    """

    def __init__(self, config: AugmentConfig, root: Path, cache: Path) -> None:
        """Find the images.

        Args:
            config: of the run.
            root: folder that relative data paths start from.
            cache: of rendered frames.

        Raises:
            MultishiftError: files are missing, or two names are the same as file names.
        """
        # Held-out classes are void, as in training: nothing generated may show them as novel.
        self._images = open_images(config.images, root, cache, training=True)
        self._size = config.size
        by_name: dict[str, str] = {}
        for entry in self._images.entries:
            other = by_name.setdefault(file_name(entry.name), entry.name)
            if other != entry.name:
                raise MultishiftError(
                    f'images {other} and {entry.name} would be the same file: rename one'
                )
        self.names = tuple(by_name)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def read(self, index: int) -> Scene:
        """Read an image with its labels.

        Raises:
            MultishiftError: a file is unreadable, or the two differ in size.
        """
        image, labels = self._images.read(index)
        if self._size is not None:
            image, labels = resized(image, labels, self._size)
        return Scene(self.names[index], image, labels)
