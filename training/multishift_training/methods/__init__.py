"""Training methods by name: what each learns from, with which losses, and what it adds.

A method is one object in one file, derived from `Method`, and a line in ``METHODS``. Importing it
loads no torch: what is wrong in a configuration is said before that takes its time.
"""

from __future__ import annotations

from multishift_training.methods.closed_world import ClosedWorld
from multishift_training.methods.method import Context, Gather, Method, Selection
from multishift_training.methods.multishift import MultiShift

__all__ = [
    'METHODS',
    'Context',
    'Gather',
    'Method',
    'Selection',
    'registered',
]

# Any program may append its own.
METHODS: list[type[Method]] = [
    ClosedWorld,
    MultiShift,
]


def registered() -> tuple[type[Method], ...]:
    """Return the methods that a configuration can name."""
    return tuple(METHODS)
