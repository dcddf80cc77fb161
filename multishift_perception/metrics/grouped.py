# SPDX-License-Identifier: Apache-2.0
"""Metrics per group of images."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, Protocol, Self, TypeVar


class Mergeable(Protocol):
    """Metrics that can take in another of their kind."""

    def merge(self, *others: Self) -> None:
        """Add what other objects have counted."""


K = TypeVar('K', bound=Hashable)
M = TypeVar('M', bound=Mergeable)


class Grouped(Generic[K, M]):
    """Metrics per group, such as per camera and weather, and over any choice of groups.

    Attributes:
        groups: the metrics of every group asked for so far, in that order.
    """

    def __init__(self, new: Callable[[], M]) -> None:
        """Start empty; ``new`` makes the metrics of a group when it is first asked for."""
        self._new = new
        self.groups: dict[K, M] = {}

    def __getitem__(self, group: K) -> M:
        """Return the metrics of a group."""
        if group not in self.groups:
            self.groups[group] = self._new()
        return self.groups[group]

    def merged(self, groups: Iterable[K] | None = None) -> M:
        """Return new metrics over some groups (default: all)."""
        total = self._new()
        total.merge(*(self.groups[group] for group in (self.groups if groups is None else groups)))
        return total
