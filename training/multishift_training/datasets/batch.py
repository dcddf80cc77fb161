# SPDX-License-Identifier: Apache-2.0
"""What methods learn from: samples as they are read, and batches as they are computed with.

Importing it loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import CITYSCAPES
from multishift_perception.errors import MultishiftError

if TYPE_CHECKING:
    from torch import Tensor

_NONE: Mapping[str, NDArray[Any]] = MappingProxyType({})


class Sample(NamedTuple):
    """What is read at once: an image, or several that belong together.

    Attributes:
        images: RGB ``uint8 [M,H,W,3]`` of its M members.
        labels: ``uint8 [M,H,W]``.
        extras: whatever else a method wants to know of each member, by name: ``[M,...]``.
        domain: place of its domain among those of the data; the loader sets it.
        others: other originals of the domain, as read, each an RGB image ``uint8 [h,w,3]`` and
            its labels ``uint8 [h,w]``: as many as the method's ``others`` says. No batch has them.
        num_classes: known classes; labels from there to 253 stand for groups of them.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    extras: Mapping[str, NDArray[Any]] = _NONE
    domain: int = 0
    others: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = ()
    num_classes: int = len(CITYSCAPES)


def of_domain(sample: Sample, domain: int) -> Sample:
    """Return a sample, which a method may have made anew, with its domain.

    What is no sample is returned as it is, for `collate` to refuse.
    """
    return sample._replace(domain=domain) if isinstance(sample, Sample) else sample


class Batch(NamedTuple):
    """B samples of M members each: first all first members, then all second, and so on.

    Attributes:
        images: RGB ``uint8 [M*B,H,W,3]``.
        labels: ``uint8 [M*B,H,W]`` as loaded; losses get ``int64`` at every n-th row and column.
        members: M.
        extras: what the samples carry beside, by name: ``[M*B,...]``.
        domains: ``int64 [M*B]``, of each image the place of its domain among those of the data; 0
            where it has but one. Each has equally many images.
    """

    images: Tensor
    labels: Tensor
    members: int
    extras: dict[str, Tensor]
    domains: Tensor

    def moved(self, move: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with all of its tensors where ``move`` brings them."""
        extras = {name: move(values) for name, values in self.extras.items()}
        images, labels, domains = map(move, (self.images, self.labels, self.domains))
        return Batch(images, labels, self.members, extras, domains)


def collate(samples: Sequence[Sample]) -> Batch:
    """Join samples to a batch; all have as many members, and the same extras.

    Raises:
        MultishiftError: a sample is not what `Sample` says, or not of the size of others.
    """
    for sample in samples:
        if fault := _fault(sample, samples[0]):
            raise MultishiftError(f'{fault}: mend the `views` of the method')
    images, labels, extras, domains, *_ = zip(*samples, strict=True)
    members = len(images[0])
    return Batch(
        _joined(images),
        _joined(labels),
        members,
        {name: _joined([extra[name] for extra in extras]) for name in extras[0]},
        _joined([np.full(members, domain, np.int64) for domain in domains]),
    )


def _fault(sample: object, first: Sample) -> str:
    """Say what is wrong with a sample; nothing where it is as it should be."""
    if not isinstance(sample, Sample):
        return f'a sample is a {type(sample).__name__}, no Sample'
    images, labels = sample.images, sample.labels
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not len(images):
        return f'images of a sample are {_described(images)}, expected uint8 [M,H,W,3]'
    if labels.dtype != np.uint8 or labels.shape != images.shape[:-1]:
        return f'labels of images {_described(images)} are {_described(labels)}, expected uint8'
    if images.shape != first.images.shape:
        one, another = _described(first.images), list(images.shape)
        return f'images of one sample are {one}, of another {another}'
    return ''


def _described(array: NDArray[Any]) -> str:
    return f'{array.dtype} {list(array.shape)}'


def _joined(arrays: Sequence[NDArray[Any]]) -> Tensor:
    """Return ``[M*B,...]`` of B arrays ``[M,...]``."""
    import torch

    # Views may be mirrored: torch takes no negative strides.
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    return torch.stack(tensors, 1).flatten(0, 1)
