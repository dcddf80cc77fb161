# SPDX-License-Identifier: Apache-2.0
"""What a data set is: one class with its description, its files and its labels, side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import CITYSCAPES, SemanticClass
from multishift_training.datasets.config import Strict
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.groups import Groups
from multishift_training.datasets.tables import Table


class ImageSet(Strict, ABC):
    """A data set of labelled images: the base of all kinds.

    A kind declares as fields what a configuration may say, ``kind`` as a ``Literal`` of its name
    first, and defines every abstract member below, a constant as a ``ClassVar``. ``register``
    refuses one that lacks any. Where labels are coarser than classes, ``groups`` says what they
    stand for; no class is in two of them, and none that is a label of its own. ``credit`` names
    author and licence where the licence wants them named by whoever ships what learned from it;
    ``licence`` says in words what the data may be used for, as far as that is known.
    ``labels_are_first_channel`` where label images have colours of which the first holds the
    labels, in 8 or 16 bits.
    """

    kind: str
    credit: ClassVar[str] = ''
    licence: ClassVar[str] = ''
    labels_are_first_channel: ClassVar[bool] = False

    @property
    def known_classes(self) -> Sequence[SemanticClass]:
        """The classes of its labels, in order of their values: Cityscapes' by default."""
        return CITYSCAPES

    @property
    def groups(self) -> Groups:
        """What labels above the classes' stand for, in order: none by default."""
        return ()

    @property
    @abstractmethod
    def domain(self) -> str:
        """The name of the look that its frames have, the same for data sets of one source."""

    @property
    @abstractmethod
    def has_classes(self) -> bool:
        """Whether known pixels have their class, or a group; if not, they are all labelled 0."""

    @property
    @abstractmethod
    def learns_novel(self) -> bool:
        """Whether training keeps what its labels call novel; if not, that is void there."""

    @property
    @abstractmethod
    def may_be_partner(self) -> bool:
        """Whether its images can be partners of others, named or made after the same scenes.

        The same for all descriptions of a kind: a ``ClassVar``.
        """

    @abstractmethod
    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List the images, in a fixed order.

        Args:
            root: folder that relative data paths start from.
            cache: where rendered frames are kept for the next run.

        Raises:
            MultishiftError: folders or files are missing; one message names all that are.
        """

    @abstractmethod
    def table(self, root: Path) -> Table:
        """Return the labels ``uint8 [256]`` of raw label values; a new array each time.

        A value that the data set does not use is ``UNMAPPED``, a group ``group_label`` of its
        place in ``groups``.

        Args:
            root: folder that relative data paths start from.

        Raises:
            MultishiftError: a file that says so is missing or wrong.
        """

    @property
    def novel_classes(self) -> Sequence[str]:
        """Names of known classes that are novel objects here, and void in training."""
        return ()

    def mend(self, image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the labels of an image without those that are known to be wrong; void instead.

        Args:
            image: RGB ``uint8 [H,W,3]``.
            labels: ``uint8 [H,W]``, ours; which value a group has is not said.
        """
        return labels

    def check(self, root: Path) -> None:
        """See that the files are there, without reading or rendering an image.

        Raises:
            MultishiftError: see `entries`.
        """
        self.count(root)

    def count(self, root: Path) -> int:
        """Return how many images there are, without reading or rendering one.

        Raises:
            MultishiftError: see `entries`.
        """
        return len(self.entries(root, Path()))
