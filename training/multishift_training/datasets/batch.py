"""What methods learn from: samples as they are read, and batches as they are computed with.

Importing it loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

_NONE: Mapping[str, NDArray[Any]] = MappingProxyType({})


class Sample(NamedTuple):
    """What is read at once: an image, or several that belong together.

    Attributes:
        images: RGB ``uint8 [M,H,W,3]`` of its M members.
        labels: ``uint8 [M,H,W]``.
        extras: whatever else a method wants to know of each member, by name: ``[M,...]``.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    extras: Mapping[str, NDArray[Any]] = _NONE


class Batch(NamedTuple):
    """B samples of M members each: first all first members, then all second, and so on.

    Attributes:
        images: RGB ``uint8 [M*B,H,W,3]``.
        labels: ``uint8 [M*B,H,W]`` as loaded; losses get ``int64`` at every n-th row and column.
        members: M.
        extras: what the samples carry beside, by name: ``[M*B,...]``.
    """

    images: Tensor
    labels: Tensor
    members: int
    extras: dict[str, Tensor]

    def moved(self, move: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with all of its tensors where ``move`` brings them."""
        extras = {name: move(values) for name, values in self.extras.items()}
        return Batch(move(self.images), move(self.labels), self.members, extras)


def collate(samples: Sequence[Sample]) -> Batch:
    """Join samples to a batch; all have as many members, and the same extras."""
    images, labels, extras = zip(*samples, strict=True)
    return Batch(
        _joined(images),
        _joined(labels),
        len(images[0]),
        {name: _joined([extra[name] for extra in extras]) for name in extras[0]},
    )


def _joined(arrays: Sequence[NDArray[Any]]) -> Tensor:
    """Return ``[M*B,...]`` of B arrays ``[M,...]``."""
    import torch

    return torch.stack([torch.from_numpy(array) for array in arrays], 1).flatten(0, 1)
