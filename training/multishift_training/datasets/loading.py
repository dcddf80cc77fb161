# SPDX-License-Identifier: Apache-2.0
"""Batches of bytes for training and validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
import signal
import sys
from types import TracebackType
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from multishift_perception.classes import SemanticClass
from multishift_perception.errors import MultishiftError
from multishift_perception.process.signals import deaf_to_signals, obey_parent
from multishift_training.datasets.batch import Batch, Sample, collate, of_domain
from multishift_training.datasets.images import LabelledImages, open_images
from multishift_training.datasets.outliers import OutlierChoice, paste
from multishift_training.datasets.presence import check_batch_size
from multishift_training.datasets.samples import Samples
from multishift_training.datasets.training_data import ValidationData
from multishift_training.datasets.transforms import resized

T = TypeVar('T')

# Processes that have read no batch for so long are stuck: those forked beside threads can be.
_PATIENCE_S = 600.0
_NO_ROOM = (
    'the batches that are read ahead do not fit into shared memory: give it more (/dev/shm; of a '
    'container --ipc host or --shm-size), or set workers to 0'
)
# What PyTorch says of its workers, and we do; the first that fits.
_FAULTS = {
    'DataLoader timed out': (
        f'no batch was read within {_PATIENCE_S / 60:.0f} minutes: a process that reads data is '
        'stuck, or the data are very far away; start again, with workers set to 0 if it comes back'
    ),
    'shared memory': _NO_ROOM,
    'unable to resize file </torch_': _NO_ROOM,  # where `ulimit -f` bounds files
    'DataLoader worker (pid': (
        'a process that reads data was killed, as where memory is full: start again, with fewer '
        'workers'
    ),
}

# Image ``uint8 [H,W,3]`` and labels ``uint8 [H,W]``, or batches of both.
Labelled = tuple[Tensor, Tensor]
# Makes of a sample what a method learns from.
Views = Callable[[Sample, np.random.Generator], Sample]


class TrainingSet(Dataset[Sample]):
    """The samples of one epoch."""

    def __init__(
        self, samples: Samples, epoch: int, views: Views | None = None, others: int = 0
    ) -> None:
        """Choose the epoch, and what is made of each sample.

        Args:
            samples: of the data.
            epoch: number of the epoch.
            views: makes of each sample what is learned from; if none, it stays as is.
            others: how many other images each sample brings along for them.
        """
        self._samples = samples
        self._epoch = epoch
        self._views = views
        self._others = others

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample, the original first."""
        sample = self._samples.sample(self._epoch, index, self._others)
        if self._views is None:
            return sample
        seen = self._views(sample, self._samples.stream_of_views(self._epoch, index))
        return of_domain(seen, sample.domain)


class ValidationSet(Dataset[Labelled]):
    """Whole images, as they are or at an engine's size.

    Attributes:
        images: the data set.
    """

    def __init__(
        self,
        images: LabelledImages,
        size: tuple[int, int] | None = None,
        outliers: OutlierChoice | None = None,
    ) -> None:
        """Wrap a data set.

        Args:
            images: the images; with ``outliers``, opened as for training, so that only pasted
                objects are novel.
            size: rows and columns to stretch them to, as the engine's pipeline does; if none,
                they keep their own.
            outliers: objects to paste, the same ones at the same places every time.
        """
        self.images = images
        self._size = size
        self._outliers = outliers

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def in_classes(self, classes: Sequence[SemanticClass]) -> ValidationSet:
        """Return the same images with labels of other classes; see `LabelledImages`.

        Raises:
            MultishiftError: the data set has classes that are none of these.
        """
        return ValidationSet(self.images.in_classes(classes), self._size, self._outliers)

    @property
    def may_have_novel(self) -> bool:
        """Whether pixels can be novel: pasted, or of a label value that says so."""
        return self._outliers is not None or self.images.may_have_novel

    def __getitem__(self, index: int) -> Labelled:
        """Return image ``uint8 [H,W,3]`` and labels ``uint8 [H,W]``."""
        image, labels = self.images.read(index)
        if self._outliers is not None:
            rng = np.random.default_rng(index)
            paste(self._outliers.choose(rng), image, labels, rng)
        if self._size is not None:
            image, labels = resized(image, labels, self._size)
        return torch.from_numpy(image), torch.from_numpy(labels)


class OneLineLoader(DataLoader[T]):
    """A loader whose workers' faults reach the user as the one line that they are.

    The workers end with the iteration, in whatever way that ends.
    """

    def __iter__(self) -> Iterator[T]:  # type: ignore[override]
        """Yield the batches.

        Raises:
            MultishiftError: a file is at fault, or a worker is stuck, killed or has no room.
        """
        with deaf_to_signals():  # the workers start here
            batches: Any = super().__iter__()
        if self.num_workers:
            # For one that hears nothing any more, this process would wait when it ends.
            Finalize(batches, _kill, (batches._workers,), exitpriority=0)
        try:
            yield from batches
        except MultishiftError as error:
            # From a worker it comes with the worker's traceback around it; the last line is ours.
            line = str(error).strip().splitlines()[-1]
            raise MultishiftError(line.removeprefix(_QUALIFIED_NAME)) from error
        except RuntimeError as error:
            for said, fault in _FAULTS.items():
                if said in str(error):
                    raise MultishiftError(fault) from error
            raise
        finally:
            # Not when they are collected: that may be in a process forked meanwhile.
            if self.num_workers:
                batches._shutdown_workers()
                _kill(batches._workers)


def _kill(workers: Sequence[BaseProcess]) -> None:
    """End workers that did not when they were told to."""
    for worker in workers:
        worker.kill()


_QUALIFIED_NAME = f'{MultishiftError.__module__}.{MultishiftError.__qualname__}: '


def training_loader(
    samples: Samples,
    epoch: int,
    *,
    batch_size: int,
    workers: int = 0,
    start: int = 0,
    rank: int = 0,
    ranks: int = 1,
    views: Views | None = None,
    others: int = 0,
) -> DataLoader[Batch]:
    """Return the shuffled batches of an epoch; they depend on (seed, epoch) alone.

    A batch of B pairs is images ``uint8 [2B,H,W,3]`` and labels ``uint8 [2B,H,W]``, first the B
    originals, then their partners in the same order; a batch of B single images is ``[B,...]``.
    Of D domains, its first B/D samples are of the first, and so on.

    Args:
        samples: what to train on.
        epoch: number of the epoch.
        batch_size: samples in a batch, all processes together; what is left over at the end of
            an epoch, less than a batch, is dropped.
        workers: processes that read ahead; the batches do not depend on it.
        start: batches to skip, for a run that goes on within an epoch.
        rank: number of this process, which gets every ``ranks``-th sample of each batch.
        ranks: number of processes.
        views: makes of each sample what a method learns from.
        others: how many other images each sample brings along for them.

    Raises:
        MultishiftError: there are fewer samples than a batch needs, or a batch cannot be shared
            out evenly.
    """
    counts = [(domain.originals.kind, len(domain)) for domain in samples.domains]
    check_batch_size(batch_size, counts, processes=ranks)
    domains = len(counts)
    each = batch_size // domains
    # Of each domain as many whole shares of a batch as it has, then batches of a share of each.
    order = samples.order(epoch)
    order = order[:, : order.shape[1] // each * each].reshape(domains, -1, each)
    batches = order.transpose(1, 0, 2).reshape(-1, batch_size)
    return OneLineLoader(
        TrainingSet(samples, epoch, views, others),  # type: ignore[arg-type]
        batch_sampler=batches[start:, rank::ranks].tolist(),
        collate_fn=_collate,
        num_workers=workers,
        timeout=_PATIENCE_S if workers else 0,
        worker_init_fn=_begin,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # reading must not move the global random state
    )


def _collate(samples: Sequence[Sample]) -> Batch:
    """Join samples to a batch; in a worker, to one in shared memory.

    There it would be put on its way to this process: where it has no room by then, nobody is told,
    and this process waits.
    """
    batch = collate(samples)
    return batch if get_worker_info() is None else batch.moved(Tensor.share_memory_)


def open_validation(
    config: ValidationData, *, root: Path, cache: Path, size: tuple[int, int] | None = None
) -> ValidationSet:
    """Open what a network is validated on.

    Args:
        config: the images, and what to paste into them.
        root: folder that relative data paths start from.
        cache: where rendered frames are kept for the next run.
        size: rows and columns of the engine; if none, images keep their own.

    Raises:
        MultishiftError: files are missing; the message names them.
    """
    outliers = OutlierChoice(config.outliers, root) if config.outliers else None
    images = open_images(config.images, root, cache, training=outliers is not None)
    return ValidationSet(images, size, outliers)


def validation_loader(
    validation: ValidationSet, *, workers: int = 0, rank: int = 0, ranks: int = 1
) -> DataLoader[Labelled]:
    """Return whole images in order, one by one: ``uint8 [1,H,W,3]``, labels ``uint8 [1,H,W]``.

    Args:
        validation: the images.
        workers: processes that read ahead.
        rank: number of this process, which gets every ``ranks``-th image.
        ranks: number of processes.
    """
    return OneLineLoader(
        validation,
        sampler=range(rank, len(validation), ranks),
        num_workers=workers,
        timeout=_PATIENCE_S if workers else 0,
        worker_init_fn=_begin,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # reading must not move the global random state
    )


def class_weights(sets: Sequence[LabelledImages], num_classes: int) -> Tensor:
    """Return the weight ``1 / ln(1.1 + share of pixels)`` of each class (ENet), ``float32 [C]``.

    Where labels stand for groups of classes, ``num_classes`` counts these too.

    Shares are measured on at most 300 images spread over each set; the mean weight over all
    pixels is 1. Every set counts the same, however many and large its images: so it does in a
    batch of several domains.
    """
    shares = np.zeros(256)
    for images in sets:
        counts = np.zeros(256, np.int64)
        for index in np.linspace(0, len(images) - 1, min(len(images), 300)).astype(int):
            counts += np.bincount(images.read_labels(index)[::4, ::4].ravel(), minlength=256)
        shares += counts / counts.sum()
    share = shares[:num_classes] / (shares[:num_classes].sum() or 1)
    weights = 1 / np.log(1.1 + share)
    return torch.tensor(weights / (weights * share).sum(), dtype=torch.float32)


def _begin(_: int) -> None:
    """Begin a process that reads ahead.

    The parent ends it. One that ended of a SIGTERM, which systemd and others send to all, might do
    so amid what it shares with the parent, which would wait for it for ever.
    """
    obey_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.excepthook = _report_fault
    # OpenCV's threads are what a forked process may hang in.
    cv2.setNumThreads(0)


def _report_fault(
    kind: type[BaseException], fault: BaseException, trace: TracebackType | None
) -> None:
    """Report a fault of a thread that hands batches over, unless the parent hung up in the middle.

    The parent was told to stop then, and says so itself. Faults in reading take another way.
    """
    if not isinstance(fault, EOFError | ConnectionError):
        sys.__excepthook__(kind, fault, trace)
