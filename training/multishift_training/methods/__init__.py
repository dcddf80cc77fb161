# SPDX-License-Identifier: Apache-2.0
"""Training methods by name: what each learns from, with which losses, and what it adds.

A method is one object in one file, derived from `Method`, that is given to `register`. Importing
it loads no torch: what is wrong in a configuration is said before that takes its time.
"""

from __future__ import annotations

from typing import TypeVar

from multishift_perception.registry import Registry
from multishift_training.datasets.config import check_kind
from multishift_training.methods.closed_world import ClosedWorld
from multishift_training.methods.dcr import Dcr
from multishift_training.methods.densehybrid import DenseHybrid
from multishift_training.methods.ibn import Ibn
from multishift_training.methods.isw import Isw
from multishift_training.methods.max_entropy import MaxEntropy
from multishift_training.methods.method import Context, Gather, Method, Selection
from multishift_training.methods.mldg import Mldg
from multishift_training.methods.multishift import MultiShift
from multishift_training.methods.pebal import Pebal
from multishift_training.methods.pin_memory import PinMemory
from multishift_training.methods.rpl import Rpl
from multishift_training.methods.san_saw import SanSaw
from multishift_training.methods.self_training import SelfTraining
from multishift_training.methods.spc import Spc
from multishift_training.methods.uno import Uno
from multishift_training.methods.wildnet import WildNet

__all__ = [
    'METHODS',
    'Context',
    'Gather',
    'Method',
    'Selection',
    'register',
    'registered',
]

T = TypeVar('T', bound=type[Method])


def register(method: T) -> T:
    """Let configurations name a method from now on.

    Returns:
        The class itself, so that this may decorate it.

    Raises:
        TypeError: a part of it is missing or wrong, or its name is taken.
    """
    name = check_kind(method, 'method', Method)
    if method.losses is Method.losses:
        raise TypeError(
            f'method {method.__name__} ({name}) lacks losses: define them in its class'
        )
    METHODS.add(name, method)
    return method


METHODS: Registry[type[Method]] = Registry(
    'method', 'multishift.methods', lambda _, found: register(found)
)
register(ClosedWorld)
register(MultiShift)
register(MaxEntropy)
register(Pebal)
register(Uno)
register(SelfTraining)
register(Dcr)
register(DenseHybrid)
register(Rpl)
register(Spc)
register(Ibn)
register(Isw)
register(Mldg)
register(PinMemory)
register(WildNet)
register(SanSaw)


def registered() -> tuple[type[Method], ...]:
    """Return the methods that a configuration can name."""
    return tuple(METHODS.values())
