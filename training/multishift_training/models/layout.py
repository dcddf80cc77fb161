# SPDX-License-Identifier: Apache-2.0
"""How a published checkpoint names and stores the tensors of one of our networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Source(NamedTuple):
    """Where a file keeps one of our tensors.

    Attributes:
        key: its key in the file, without wrappers such as ``module.``.
        take: makes our tensor of the file's, where they differ: a slice, another shape.
        also: keys of further tensors that ``take`` is given after the first, where the file keeps
            ours in parts.
    """

    key: str
    take: Callable[..., Tensor] | None = None
    also: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys."""
        return self.key, *self.also


@dataclass(frozen=True)
class Layout:
    """One published layout of one network.

    Attributes:
        name: in words, for reports: whose files these are.
        signature: a key that every file of this layout holds, and of no other layout of the
            same network.
        source: from the key of a tensor in our state dict to its place in the file.
        optional: regular expressions of file keys that may be missing; our tensor stays as it
            is, or starts from the classifier where it belongs to the uncertainty head.
        extra: regular expressions of file keys that belong to the layout and serve no purpose
            here, such as a loss's constants.
        zero: regular expressions of those that are 0 at the end of their training, when what they
            steer has no part in the outputs; files where they are not are refused.
        adapt: changes the network to the structure these files have and returns what undoes
            that; for families that published two structures under one name.
        licence: of the weights, in words; empty where nothing is known of it.
    """

    name: str
    signature: str
    source: Callable[[str], Source]
    optional: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    zero: tuple[str, ...] = ()
    adapt: Callable[[], Callable[[], None]] | None = None
    licence: str = ''
