# SPDX-License-Identifier: Apache-2.0
"""Holds the tensors of a file against what a network needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import re
from typing import NamedTuple

from torch import Tensor

from multishift_training.checkpoints.load_report import LoadReport, listed
from multishift_training.models import SegmentationModel
from multishift_training.models.layout import Layout, Source

OWN = Layout('multishift', signature='', source=Source)
_HEAD = 'uncertainty.'


class Piece(NamedTuple):
    """A tensor of the file, cut to one of the network's and still of the file's type."""

    file_key: str
    tensor: Tensor


class Match(NamedTuple):
    """How a file and a network fit together in one layout.

    Attributes:
        pieces: by key of the network, what the file has for it.
        lacking: by key of the network, the key that the file lacks.
        report: what was used, missing and left over.
        faults: in words, what makes the file unfit beyond what the layout allows; empty where
            it fits.
    """

    pieces: dict[str, Piece]
    lacking: dict[str, str]
    report: LoadReport
    faults: list[str]

    @property
    def lacks_head(self) -> bool:
        """Whether the file has nothing of the uncertainty head."""
        return any(map(_of_head, self.lacking)) and not any(map(_of_head, self.pieces))


def detect(model: SegmentationModel, keys: Iterable[str]) -> list[Layout]:
    """Return the layouts whose signature is among the keys, or else ours if any key is ours."""
    keys = set(keys)
    found = [layout for layout in model.layouts() if layout.signature in keys]
    return found or ([OWN] if keys & model.state_dict().keys() else [])


def match(model: SegmentationModel, layout: Layout, tensors: Mapping[str, Tensor]) -> Match:
    """Find the tensor of the file for each of the network's; changes nothing."""
    pieces: dict[str, Piece] = {}
    lacking: dict[str, str] = {}
    misfits: dict[str, str] = {}
    used: set[str] = set()
    for key, own in model.state_dict().items():
        source = layout.source(key)
        absent = [name for name in source.keys if name not in tensors]
        if absent:
            lacking[key] = absent[0]
            continue
        tensor = _taken(source, [tensors[name] for name in source.keys])
        if tensor is not None and _alike(tensor, own):
            pieces[key] = Piece(source.key, tensor)
            used.update(source.keys)
        else:
            found = tensors[source.key] if tensor is None else tensor
            misfits[source.key] = f'{source.key} is {_described(found)}, not {_described(own)}'
    report = LoadReport(
        layout.name,
        used=tuple(sorted(used)),
        missing=tuple(sorted(set(lacking.values()))),
        left_over=tuple(sorted(tensors.keys() - used - misfits.keys())),
    )
    faults = {
        'missing': _needed(layout, pieces, lacking),
        'left over': {key for key in report.left_over if not _any(layout.extra, key)},
        'of another shape': misfits.values(),
    }
    return Match(
        pieces,
        lacking,
        report,
        [f'{len(keys)} {fault}: {listed(keys)}' for fault, keys in faults.items() if keys],
    )


def untrained(model: SegmentationModel, report: LoadReport) -> list[str]:
    """Return the parts of a loaded network, heads aside, of which a file had not all the weights.

    The parts are its children by name. An uncertainty head that the file lacks does not count, as
    it started from the classifier; nor do the counters of batch norms, and constants of the
    network itself.
    """
    layout = next((part for part in model.layouts() if part.name == report.layout), OWN)
    return sorted(
        {
            key.split('.')[0]
            for key, tensor in model.state_dict().items()
            if tensor.is_floating_point() and '.' in key and not _of_head(key)
            if layout.source(key).key in report.missing
        }
    )


def _needed(layout: Layout, pieces: Iterable[str], lacking: Mapping[str, str]) -> set[str]:
    """Return the keys that the file lacks and must not.

    The uncertainty head is published whole or not at all: half of it would leave the rest random.
    """
    has_head = any(map(_of_head, pieces))
    return {
        file_key
        for key, file_key in lacking.items()
        if not _any(layout.optional, file_key) or (has_head and _of_head(key))
    }


def _of_head(key: str) -> bool:
    return key.startswith(_HEAD)


def _any(patterns: Iterable[str], key: str) -> bool:
    return any(re.fullmatch(pattern, key) for pattern in patterns)


def _taken(source: Source, tensors: Sequence[Tensor]) -> Tensor | None:
    """Return what of a file's tensors is ours; None where their shapes do not allow it."""
    if source.take is None:
        return tensors[0]
    try:
        return source.take(*tensors)
    except (RuntimeError, IndexError, ValueError):
        return None


def _alike(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and _number(first) == _number(second)


def _number(tensor: Tensor) -> str:
    """Tell real, whole and complex numbers apart: a copy would drop parts without a word."""
    if tensor.is_complex():
        return 'complex'
    return 'real' if tensor.is_floating_point() else 'whole'


def _described(tensor: Tensor) -> str:
    shape = 'x'.join(map(str, tensor.shape)) or 'scalar'
    return f'{shape} {str(tensor.dtype).removeprefix("torch.")}'
