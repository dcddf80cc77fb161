# SPDX-License-Identifier: Apache-2.0
"""Labelled images, one class for all data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np

from multishift_perception.arrays import Bytes
from multishift_perception.classes import CITYSCAPES, NOVEL, VOID, SemanticClass
from multishift_perception.errors import MultishiftError
from multishift_perception.images.label_map import UNMAPPED, look_up
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.groups import Groups, group_label
from multishift_training.datasets.kinds import ImageData
from multishift_training.datasets.reading import ForeignLabelsError, read_image, read_labels
from multishift_training.datasets.tables import Table, spans

LabelledImage = tuple[Bytes, Bytes]
_MEND_CLASSES = 'take other images, or name the classes alike in a class table'


class LabelledImages:
    """A fixed list of images with labels: 0..C-1, groups of classes, 254 novel, 255 void.

    Attributes:
        kind: name of the data set.
        entries: the images, in a fixed order.
        has_classes: whether known pixels are labelled with their class, or with a group of
            classes; if not, they are all 0.
        domain: name of the look that the frames have; empty where it does not matter.
        classes: what labels stand for, in order.
        groups: what labels above the classes' stand for, in order.
    """

    def __init__(
        self,
        kind: str,
        entries: Sequence[Entry],
        table: Table,
        *,
        has_classes: bool = True,
        domain: str = '',
        classes: Sequence[SemanticClass] = CITYSCAPES,
        groups: Groups = (),
        mend: Callable[[Bytes, Bytes], Bytes] | None = None,
        first_channel: bool = False,
    ) -> None:
        """Wrap entries and the table ``uint8 [256]`` from their label values to ours.

        ``mend`` is that of `ImageSet`, ``first_channel`` its ``labels_are_first_channel``.
        """
        self.kind = kind
        self.entries = tuple(entries)
        self.has_classes = has_classes
        self.domain = domain
        self.classes = tuple(classes)
        self.groups = groups
        self._table = table
        self._mend = mend
        self._first_channel = first_channel
        self._renumbering: _Renumbering | None = None

    def in_classes(
        self, classes: Sequence[SemanticClass], groups: Groups | None = None
    ) -> LabelledImages:
        """Return the same images with the labels of other classes, which are found by name.

        An image that has pixels of any other class cannot be read then.

        Args:
            classes: in order of the values that labels are to have.
            groups: what values above theirs stand for, those of the data set among them; if
                none, those of the data set. Of their classes, others than these are left out.

        Raises:
            MultishiftError: none of the data set's classes is among them.
        """
        found = copy(self)
        found.classes = tuple(classes)
        if not self.has_classes:
            return found
        names = [known.name for known in classes]
        found.groups = self.groups if groups is None else groups
        table = np.arange(256, dtype=np.uint8)
        for value, known in enumerate(self.classes):
            table[value] = names.index(known.name) if known.name in names else UNMAPPED
        for place, group in enumerate(self.groups):
            own = group_label(place, self.classes)
            table[own] = group_label(found.groups.index(group), classes)
        if (table[: len(self.classes)] == UNMAPPED).all():
            raise MultishiftError(
                f'data set {self.kind} has the classes {_listed(self.classes)}, none of which '
                f'the network knows: its classes are {_listed(classes)}: {_MEND_CLASSES}'
            )
        found._renumbering = _Renumbering(table, self.classes)
        return found

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.entries)

    @property
    def may_have_novel(self) -> bool:
        """Whether a label value of the data set stands for novel pixels."""
        return bool((self._table == NOVEL).any())

    def read(self, index: int) -> LabelledImage:
        """Return the RGB image ``uint8 [H,W,3]`` and the labels ``uint8 [H,W]`` of an image.

        Raises:
            MultishiftError: a file is unreadable, the two differ in size, or a label value is
                none of the data set's.
        """
        image, labels = self.read_image(index), self._own_labels(index)
        if labels.shape != image.shape[:2]:
            entry = self.entries[index]
            raise MultishiftError(
                f'{entry.labels} has {labels.shape} pixels, but {entry.image} '
                f'{image.shape[:2]}: copy both again from the same source'
            )
        labels = labels if self._mend is None else self._mend(image, labels)
        return image, self._renumbered(labels, index)

    def read_image(self, index: int) -> Bytes:
        """Return the RGB image ``uint8 [H,W,3]``, without reading its labels.

        Raises:
            MultishiftError: the file is unreadable.
        """
        return read_image(self.entries[index])

    def read_labels(self, index: int) -> Bytes:
        """Return the labels ``uint8 [H,W]`` of an image, without reading the image.

        They are as its file has them, where `read` mends some.

        Raises:
            MultishiftError: the file is unreadable, or a label value is none of the data set's.
        """
        return self._renumbered(self._own_labels(index), index)

    def _own_labels(self, index: int) -> Bytes:
        return read_labels(
            self.entries[index].labels,
            self._table,
            kind=self.kind,
            first_channel=self._first_channel,
        )

    def _renumbered(self, labels: Bytes, index: int) -> Bytes:
        if self._renumbering is None:
            return labels
        found = look_up(self._renumbering.table, labels)
        foreign = found == UNMAPPED
        if foreign.any():
            names = [self._renumbering.own[value].name for value in np.unique(labels[foreign])]
            raise ForeignLabelsError(
                f'{self.entries[index].labels} has labels of {", ".join(names)}, which the '
                f'network does not know: its classes are {_listed(self.classes)}: {_MEND_CLASSES}'
            )
        return found


class _Renumbering(NamedTuple):
    """From the labels of a data set to those of other classes.

    Attributes:
        table: ``uint8 [256]``; ``UNMAPPED`` where a class is none of theirs.
        own: the classes of the data set.
    """

    table: Table
    own: Sequence[SemanticClass]


def _listed(classes: Sequence[SemanticClass]) -> str:
    return ', '.join(known.name for known in classes)


def open_images(
    config: ImageData,
    root: Path,
    cache: Path,
    *,
    training: bool = False,
) -> LabelledImages:
    """Open a data set, and see that none of its files is missing.

    Args:
        config: the data set.
        root: folder that relative data paths start from.
        cache: where rendered frames are kept for the next run.
        training: make void what no network may learn from: classes held out, and novel objects,
            except in data sets made to learn them from.

    Raises:
        MultishiftError: folders or files are missing; one message names all that are.
    """
    return LabelledImages(
        config.kind,
        config.entries(root, cache),
        label_table(config, root, training=training),
        has_classes=config.has_classes,
        domain=config.domain,
        classes=config.known_classes,
        groups=config.groups,
        mend=config.mend,
        first_channel=config.labels_are_first_channel,
    )


def check_images(config: ImageData, root: Path) -> None:
    """See that a data set's files are there, without reading or rendering an image.

    Args:
        config: the data set.
        root: folder that relative data paths start from.

    Raises:
        MultishiftError: folders or files are missing; one message names all that are.
    """
    config.check(root)
    label_table(config, root, training=False)


def label_table(config: ImageData, root: Path, *, training: bool) -> Table:
    """Return the labels ``uint8 [256]`` of a data set's raw label values.

    Args:
        config: the data set.
        root: folder that relative data paths start from.
        training: classes held out are void, and so is what is novel, unless the data set is made
            to learn it from; otherwise both are novel (254).

    Raises:
        MultishiftError: the label map of a folder is missing or wrong, or the table of a data
            set holds what is no label.
    """
    table, classes = config.table(root), config.known_classes
    known = group_label(len(config.groups), classes)
    if strange := sorted(set(table.tolist()) - {*range(known), NOVEL, VOID, UNMAPPED}):
        groups_allowed = (
            f', {spans(range(len(classes), known))} for its {len(config.groups)} groups'
            if config.groups
            else ', none for groups, as it has none'
        )
        raise MultishiftError(
            f'data set {config.kind}: its table holds {spans(strange)}, which is no label: use '
            f'{spans(range(len(classes)))} for classes{groups_allowed}, {NOVEL} (NOVEL) or '
            f'{VOID} (VOID)'
        )
    labels = table.copy()
    held_out = [i for i, c in enumerate(classes) if c.name in config.novel_classes]
    labels[np.isin(table, held_out)] = VOID if training else NOVEL
    if training and not config.learns_novel:
        labels[labels == NOVEL] = VOID
    return labels
