# SPDX-License-Identifier: Apache-2.0
"""Whom a bundle names for what its network learned from."""

from __future__ import annotations

from collections.abc import Iterator

from multishift_training import models
from multishift_training.datasets.config import OutlierData, PhotoObjects
from multishift_training.datasets.kinds import ImageSet
from multishift_training.datasets.training_data import ZoomCropTransforms
from multishift_training.loop.config import IMAGENET, TrainConfig


def credits_of(run: TrainConfig) -> list[str]:
    """Return whom to name for the data and weights of a run, each once, in the order of use."""
    return list(dict.fromkeys(_credits(run)))


def _credits(run: TrainConfig) -> Iterator[str]:
    if run.weights == IMAGENET:
        yield f'ImageNet weights of the package {models.create(run.model).imagenet_package}'
    for domain in run.data.domains:
        yield from _of_images(domain.images)
        yield from _of_images(domain.partners)
        yield from _of_outliers(domain.outliers)
        if isinstance(domain.transforms, ZoomCropTransforms) and domain.transforms.style:
            yield from _of_images(domain.transforms.style.images)


def _of_images(images: object) -> Iterator[str]:
    if isinstance(images, ImageSet) and images.credit:
        yield images.credit


def _of_outliers(outliers: OutlierData | None) -> Iterator[str]:
    for kind in outliers if isinstance(outliers, list) else [outliers]:
        if isinstance(kind, PhotoObjects):
            yield from kind.credits
