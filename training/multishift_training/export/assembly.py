# SPDX-License-Identifier: Apache-2.0
"""A network and the frames it is calibrated on, made into a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from multishift_perception.classes import CITYSCAPES, SemanticClass
from multishift_perception.engine import ClassEntry, Manifest
from multishift_perception.engine.look import LEAST_FRAMES
from multishift_perception.images.blank import check_content, is_blank
from multishift_training.datasets import ValidationSet, validation_loader
from multishift_training.export.bundle import export_bundle
from multishift_training.export.calibration import fit_calibration
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.look import fit_look
from multishift_training.export.plan import EIGHT_BITS, Plan
from multishift_training.inference.batches import pooled_scores
from multishift_training.inference.fitting import fit_scores
from multishift_training.models import SegmentationModel
from multishift_training.scores.rescored import with_score

_PROBES = 2
_SAMPLES = 64


class ModelCard(NamedTuple):
    """What a network is and where it comes from, for the manifest: see ``export_bundle``."""

    model: str
    method: str
    provenance: dict[str, Any]
    classes: tuple[SemanticClass, ...] = CITYSCAPES


class Frames(NamedTuple):
    """What a network is calibrated on.

    Attributes:
        images: labelled frames of the engine's size.
        words: how many of what they are, for the manifest.
        caveat: what else to say of an operating point that is fitted on them.
        domains: frames whose look the network knows, by name; if none, ``images``, where they
            are enough.
        look_words: what those are, for the manifest.
    """

    images: ValidationSet
    words: str
    caveat: str = ''
    domains: Mapping[str, ValidationSet] = MappingProxyType({})
    look_words: str = ''


def rescored(
    model: SegmentationModel, score: str, fit_on: Sequence[ValidationSet]
) -> SegmentationModel:
    """Return a network that gives a score, which is fitted first where it is one that is.

    Args:
        model: the network.
        score: name of the score.
        fit_on: labelled frames of the engine's size.
    """
    batches = chain.from_iterable(map(validation_loader, fit_on))
    fitted = fit_scores(model, [score], batches)
    return with_score(model, score, fitted=fitted.get(score))


def assemble(
    out: Path,
    model: SegmentationModel,
    frames: Frames,
    *,
    plan: Plan,
    card: ModelCard,
) -> Manifest:
    """Calibrate a network and write its bundle, with probes and samples of the same frames.

    Args:
        out: the bundle.
        model: the network; it is put into evaluation mode.
        frames: what to calibrate on, with a progress bar.
        plan: what to build; it has been checked.
        card: what the network is, and where it comes from.

    Raises:
        MultishiftError: the frames show nothing, or an artifact differs from the eager graph by
            too much; nothing is written.
    """
    images, batch = frames.images, plan.least
    # Without processes that read ahead: the network, on the CPU, takes far longer than a frame.
    watched = _Watched(validation_loader(images))
    known, novel = pooled_scores(model, watched)
    check_content(
        [str(images.images.entries[place].image) for place in watched.blank],
        len(images),
        every=f'{frames.words}: each',
        some=f'{len(watched.blank)} of {len(images)} frames to calibrate on',
    )
    calibration = fit_calibration(known, novel, dataset=frames.words)
    if frames.caveat:
        rule = f'{calibration.rule}; {frames.caveat}'
        calibration = calibration.model_copy(update={'rule': rule})
    samples = min(_SAMPLES, len(images)) if plan.precision in EIGHT_BITS else 0
    graph = DeployGraph(model, calibration)
    look = None
    if frames.domains:
        look = fit_look(graph, frames.domains), frames.look_words
    elif len(images) >= LEAST_FRAMES:
        look = fit_look(graph, {'validation': images}), frames.words
    return export_bundle(
        out,
        graph,
        calibration=calibration,
        look=look,
        probes=np.stack(_spread(images, batch, _PROBES * batch)),
        targets=plan,
        samples=_spread(images, batch, samples),
        model=card.model,
        method=card.method,
        classes=[ClassEntry(name=c.name, color=c.color) for c in card.classes],
        provenance=card.provenance,
    )


class _Watched:
    """Batches of labelled frames that are looked at as they pass.

    Attributes:
        blank: places of those so far that show nothing.
    """

    def __init__(self, batches: DataLoader[tuple[Tensor, Tensor]]) -> None:
        self.blank: list[int] = []
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        place = 0
        for images, truth in self._batches:
            self.blank += [place + i for i, image in enumerate(images) if is_blank(image.numpy())]
            place += len(images)
            yield images, truth


def _spread(frames: ValidationSet, batch: int, count: int) -> list[NDArray[np.uint8]]:
    """Return ``count`` frames, or the few more that fill the last batch, spread over all.

    They are in batches, ``uint8 [N,H,W,3]`` each.
    """
    chosen = np.linspace(0, len(frames) - 1, -(-count // batch) * batch).astype(int)
    return [
        np.stack([frames[int(i)][0].numpy() for i in indices])
        for indices in chosen.reshape(-1, batch)
    ]
