# SPDX-License-Identifier: Apache-2.0
"""Whom a bundle names for what its network learned from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from multishift_training import models
from multishift_training.datasets.config import PhotoObjects
from multishift_training.datasets.kinds import KINDS


def credits_of(configuration: Mapping[str, Any]) -> list[str]:
    """Return whom to name for the weights and data of a run, each once, in the order of use.

    Args:
        configuration: of the run, as its checkpoint stores it. Only what describes data is looked
            at, so that one whose other keys have changed can still be built.
    """
    return list(dict.fromkeys(_credits(configuration)))


def _credits(configuration: Mapping[str, Any]) -> Iterator[str]:
    if configuration.get('weights') == 'imagenet':
        package = models.create(configuration['model']).imagenet_package
        yield f'ImageNet weights of the package {package}'
    yield from _of_descriptions(configuration.get('data'))


def _of_descriptions(described: object) -> Iterator[str]:
    if isinstance(described, list):
        for part in described:
            yield from _of_descriptions(part)
    elif isinstance(described, dict):
        kind = described.get('kind')
        if kind == 'cutouts':
            yield from PhotoObjects.model_validate(described).credits
        elif isinstance(kind, str) and kind in KINDS and KINDS[kind].credit:
            yield KINDS[kind].credit
        for part in described.values():
            yield from _of_descriptions(part)
