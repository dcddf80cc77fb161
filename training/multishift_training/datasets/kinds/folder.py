# SPDX-License-Identifier: Apache-2.0
"""Any folder of images with labels, of Cityscapes' classes or of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from multishift_perception.classes import CITYSCAPES, SemanticClass
from multishift_perception.errors import MultishiftError
from multishift_perception.images.class_table import ClassTable, read_class_table
from multishift_perception.images.label_map import CLASS, class_index, load_label_map
from multishift_perception.schema.words import Words, did_you_mean
from multishift_training.datasets.entries import Entry, find, pair
from multishift_training.datasets.groups import Group, Groups
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.tables import Table


def _read_table(given: Any, info: ValidationInfo) -> Any:
    """Read the table that a path names; one that is written out is validated as it is."""
    if not isinstance(given, str | Path):
        return given
    return read_class_table((info.context or {}).get('folder', Path()) / given)


def _class_name(given: Any, info: ValidationInfo) -> str:
    """Return the name of a class of the table, or of Cityscapes where there is none.

    Raises:
        ValueError: it is none.
    """
    table = info.data.get('classes')
    if not isinstance(table, ClassTable):
        return CITYSCAPES[class_index(given)].name
    names = [c.name for c in table.classes]
    if given not in names:
        hint = did_you_mean(given, names)
        raise ValueError(f'{given} is no class{hint}, expected one of {", ".join(names)}')
    return str(given)


_HeldOut = Annotated[
    str, BeforeValidator(_class_name), Words(f'{CLASS}; with `classes`, one of their names')
]


class FolderData(ImageSet):
    """Any folder of images with a folder of label images.

    Either `label_map` says which of Cityscapes' classes the labels are, or `classes` which of a
    list of one's own, which is then what the network learns.

    Attributes:
        images: folder of images.
        labels: folder of label images, with the same subfolders if there are any.
        image_suffix: what image file names end with after the common part.
        label_suffix: what label file names end with after the common part.
        patterns: which images to take, as globs over file names.
        classes: the class table; or the path of a YAML file that holds it, relative to the
            configuration file. It is kept with what was trained, which needs the file no more.
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
    classes: Annotated[ClassTable | None, BeforeValidator(_read_table)] = None
    label_map: Path | None = None
    held_out: list[_HeldOut] = []
    learn_novel: bool = False

    licence: ClassVar[str] = 'that of your images'
    has_classes: ClassVar[bool] = True
    may_be_partner: ClassVar[bool] = True

    @model_validator(mode='after')
    def _one_meaning(self) -> FolderData:
        if (self.classes is None) == (self.label_map is None):
            found = 'neither is given' if self.classes is None else 'both are given'
            raise ValueError(
                f"{found}: give label_map for labels of Cityscapes' classes, or classes, the "
                'table of your own'
            )
        return self

    @property
    def known_classes(self) -> Sequence[SemanticClass]:
        """Those of the table, or Cityscapes'."""
        return CITYSCAPES if self.classes is None else self.classes.semantic_classes

    @property
    def groups(self) -> Groups:
        """Those of the table."""
        found = () if self.classes is None else self.classes.groups
        return tuple(Group(group.name, tuple(group.classes)) for group in found)

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
        """Return what the class table or the label map says."""
        if self.classes is not None:
            return self.classes.look_up_table()
        assert self.label_map is not None
        path = root / self.label_map
        if not path.is_file():
            raise MultishiftError(
                f'folder: the label map {path} does not exist: mend `label_map`, which starts '
                'from the data root (--data)'
            )
        return load_label_map(path)
