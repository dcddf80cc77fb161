# SPDX-License-Identifier: Apache-2.0
"""Networks without weights, of which only the structure is asked."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch

from multishift_perception.errors import MultishiftError
from multishift_training import models
from multishift_training.models import SegmentationModel


def structures() -> Iterator[tuple[str, SegmentationModel]]:
    """Yield the networks that their names describe, on the device ``meta``, each made once.

    One that cannot be made is left out: its fault is none of what is asked of the others.
    """
    for name in models.names_alone():
        try:
            yield name, _made(name, models.NETWORKS[name])
        except MultishiftError:
            continue


@cache
def _made(name: str, factory: models.Factory) -> SegmentationModel:
    """Return a network; of a name that is given to another factory, another one."""
    with torch.device('meta'):
        return models.create(name)
