# SPDX-License-Identifier: Apache-2.0
"""Loads a checkpoint into a network, wholly or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
import re

import torch
from torch import Tensor

from multishift_perception.errors import MultishiftError
from multishift_training.checkpoints.key_matching import OWN, Match, detect, match
from multishift_training.checkpoints.load_report import LoadReport, listed
from multishift_training.checkpoints.reading import read_weights
from multishift_training.checkpoints.structures import structures
from multishift_training.models import SegmentationModel
from multishift_training.models.layout import Layout, Source


def load(model: SegmentationModel, path: Path | str) -> LoadReport:
    """Load a published checkpoint, or one of our own, in the layout that it is found to have.

    Where the file has no uncertainty head and the layout lets it be missing, the head starts
    from the classifier. Values are converted to the types of the network.

    Args:
        model: the network; on an error, every tensor of it is as it was.
        path: see ``reading.read_weights``.

    Raises:
        MultishiftError: the file cannot be read or has no known layout; a key is missing, left
            over or of another shape, beyond what the layout documents; a weight is not finite; or
            the file is of the middle of a training that changes what the network computes.
    """
    path = Path(path)
    tensors = read_weights(path)
    unfit: list[Match] = []
    for layout in detect(model, tensors):
        with ExitStack() as undoing:
            if layout.adapt:
                undoing.callback(layout.adapt())
            found = match(model, layout, tensors)
            if found.faults:
                unfit.append(found)
                continue
            _check_finite(path, model, found)
            _check_ended(path, layout, tensors)
            undoing.pop_all()  # nothing fails from here on: the network keeps its structure
        _copy(found, model)
        return found.report
    raise _misfit(path, model, tensors, unfit)


def take_structure(model: SegmentationModel, keys: Iterable[str]) -> None:
    """Give a network the structure that a checkpoint of ours has, of those it may take.

    What a method then adds to the network fits what the checkpoint has of it.

    Args:
        model: the network, not adapted.
        keys: of the checkpoint.
    """
    for layout in detect(model, keys):
        if layout.adapt and layout.source is Source:
            layout.adapt()


def _check_finite(path: Path, model: SegmentationModel, found: Match) -> None:
    state = model.state_dict()
    broken = {
        piece.file_key
        for key, piece in found.pieces.items()
        # In the network's type: what is finite in the file may not be in a narrower one.
        if not piece.tensor.to(state[key].dtype).isfinite().all()
    }
    if broken:
        raise MultishiftError(
            f'{path} holds NaN or infinite weights in {len(broken)} tensors: {listed(broken)}: '
            'download it again, or take another checkpoint of that training'
        )


def _check_ended(path: Path, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
    for key, tensor in tensors.items():
        if any(re.fullmatch(pattern, key) for pattern in layout.zero) and tensor.any():
            raise MultishiftError(
                f'{path} is of the middle of its training: {key} is 0 at its end, and '
                f'{tensor.max():.3g} here, so that it gives other outputs than this network '
                'can: give the file of its end'
            )


@torch.no_grad()
def _copy(found: Match, model: SegmentationModel) -> None:
    state = model.state_dict()
    for key, piece in found.pieces.items():
        state[key].copy_(piece.tensor)
    if found.lacks_head:
        model.init_uncertainty_from_classifier()


def _misfit(
    path: Path, model: SegmentationModel, tensors: Mapping[str, Tensor], unfit: list[Match]
) -> MultishiftError:
    fitting = [name for name, other in structures() if _fits(other, tensors)]
    mend = (
        f'it fits the model {" or ".join(fitting)}'
        if fitting
        else 'give the file that was published for this network'
    )
    if not unfit:
        known = '; '.join(layout.name for layout in (*model.layouts(), OWN))
        return MultishiftError(
            f'{path} has none of the layouts of this network ({known}); it has {len(tensors)} '
            f'keys: {listed(tensors)}: {mend}'
        )
    nearest = max(unfit, key=lambda match: len(match.pieces))
    return MultishiftError(
        f'{path} does not fit this network in the layout {nearest.report.layout!r}: '
        f'{"; ".join(nearest.faults)}: {mend}'
    )


def _fits(model: SegmentationModel, tensors: Mapping[str, Tensor]) -> bool:
    """Tell whether a file fits a network, which needs no weights for it."""
    for layout in detect(model, tensors):
        with ExitStack() as undoing:
            if layout.adapt:
                undoing.callback(layout.adapt())
            if not match(model, layout, tensors).faults:
                return True
    return False
