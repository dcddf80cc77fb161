# SPDX-License-Identifier: Apache-2.0
"""Metrics that are nothing but whole numbers which add up."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from multishift_perception.metrics import state as metric_state


@dataclass
class Counts:
    """Base of dataclasses whose every field is an ``int`` or an ``int64`` array of fixed shape."""

    def merge(self, *others: Self) -> None:
        """Add what other objects have counted."""
        for field in fields(self):
            for other in others:
                mine, theirs = getattr(self, field.name), getattr(other, field.name)
                setattr(self, field.name, mine + theirs)

    def to_bytes(self) -> bytes:
        """Return what has been counted."""
        arrays = {f.name: np.asarray(getattr(self, f.name), np.int64) for f in fields(self)}
        return metric_state.pack(type(self).__name__, arrays)

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """Return the counts that ``to_bytes`` described.

        Raises:
            ValueError: it describes none of this kind.
        """
        arrays = metric_state.unpack(cls.__name__, state)
        return cls(**{name: array if array.ndim else int(array) for name, array in arrays.items()})
