# SPDX-License-Identifier: Apache-2.0
"""Whom to name for what a network learned from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from multishift_training.checkpoints.metadata import IMAGENET, Ancestry
from multishift_training.checkpoints.reading import hashes_of
from multishift_training.datasets.config import PhotoObjects
from multishift_training.datasets.kinds import KINDS


def credits_of(
    configuration: Mapping[str, Any], package: str | None, earlier: Sequence[str] = ()
) -> list[str]:
    """Return whom to name for the weights and data of a run, each once, in the order of use.

    Args:
        configuration: of the run, as its checkpoint stores it. Only what describes data is looked
            at, so that one whose other keys have changed can still be built.
        package: that holds the ImageNet weights of the network; None if none does.
        earlier: those of the weights that the run started from.
    """
    pretrained = configuration.get('weights') == IMAGENET
    own = [f'ImageNet weights of the package {package}'] if pretrained else []
    return list(dict.fromkeys([*earlier, *own, *_of_descriptions(configuration.get('data'))]))


def credits_of_weights(
    path: Path, ancestry: Ancestry, package: str | None, layout: str = ''
) -> list[str]:
    """Return whom to name for the weights that a run starts from.

    That is what they learned from, as far as a run of ours made them; of others nothing is known
    but the file, which is named instead.

    Args:
        path: of the weights.
        ancestry: what `read_ancestry` says of them.
        package: see `credits_of`.
        layout: name of the layout that they were published in, if it is known.
    """
    if ancestry.configuration:
        return credits_of(ancestry.configuration, package, ancestry.credits)
    hashes = ', '.join(hashes_of(path).values())
    published = f' ({layout})' if layout else ''
    return [f'weights of {path.resolve().name}{published}: SHA-256 {hashes}']


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
