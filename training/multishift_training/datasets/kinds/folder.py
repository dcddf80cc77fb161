# SPDX-License-Identifier: Apache-2.0
"""Any folder of images with labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from multishift_perception.errors import MultishiftError
from multishift_perception.images.label_map import load_label_map
from multishift_training.datasets.config import ClassName
from multishift_training.datasets.entries import Entry, find, pair
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.tables import Table


class FolderData(ImageSet):
    """Any folder of images with a folder of label images.

    Attributes:
        images: folder of images.
        labels: folder of label images, with the same subfolders if there are any.
        image_suffix: what image file names end with after the common part.
        label_suffix: what label file names end with after the common part.
        patterns: which images to take, as globs over file names.
        label_map: YAML file from raw label values to ours (a label map); relative to the data
            root, as the folders are.
        held_out: classes, by name or number, that are novel objects (254) in validation and
            evaluation. In training they are void: no network may learn from what it is to find
            unknown.
        learn_novel: in training, keep the pixels that the label map calls novel. If not, they
            are void there too.
    """

    kind: Literal['folder']
    images: Path
    labels: Path
    image_suffix: str = '.jpg'
    label_suffix: str = '.png'
    patterns: list[str] = Field(default=['*'], min_length=1)
    label_map: Path
    held_out: list[ClassName] = []
    learn_novel: bool = False

    has_classes: ClassVar[bool] = True
    may_be_partner: ClassVar[bool] = True

    @property
    def domain(self) -> str:
        """The folder of images: each may be of another place."""
        return self.images.as_posix()

    @property
    def learns_novel(self) -> bool:
        """As the description chooses."""
        return self.learn_novel

    @property
    def novel_classes(self) -> list[str]:
        """Those that the description holds out."""
        return self.held_out

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List the images of the folder, and of its subfolders, that match the patterns."""
        images = find(root / self.images, '**/*', (self.image_suffix,), names=self.patterns)
        labels = find(root / self.labels, '**/*', (self.label_suffix,))
        # Side by side in one folder, ``a_labels.png`` is no image, though ``a.png`` is.
        if len(self.label_suffix) > len(self.image_suffix):
            taken = set(labels.by_key.values())
            kept = {key: path for key, path in images.by_key.items() if path not in taken}
            images = replace(images, by_key=kept)
        pairs = pair(
            self.kind,
            images,
            labels,
            mend='add them, or mend `image_suffix` and `label_suffix`',
            every_label=False,
        )
        return [Entry(image, labels, key, key) for key, image, labels in pairs]

    def table(self, root: Path) -> Table:
        """Return what the label map says."""
        path = root / self.label_map
        if not path.is_file():
            raise MultishiftError(
                f'folder: the label map {path} does not exist: mend `label_map`, which starts '
                'from the data root (--data)'
            )
        return load_label_map(path)
