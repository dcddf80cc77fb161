# SPDX-License-Identifier: Apache-2.0
"""The networks that judge painted images: engine bundles and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes
from multishift_perception.classes import CITYSCAPES, SemanticClass
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.pipeline import Pipeline, score_unit
from multishift_training.checkpoints.published import open_published
from multishift_training.checkpoints.reading import hashes_of
from multishift_training.checkpoints.trained import open_trained
from multishift_training.inference.runners import NetworkRunner
from multishift_training.scores import UNCERTAINTY

CALIBRATED = 'calibrated'


class Opinion(NamedTuple):
    """What a network says of an image ``[H,W]``.

    Attributes:
        labels: most likely class, ``uint8 [H,W]``.
        score: how anomalous, ``float32 [H,W]``.
    """

    labels: Bytes
    score: NDArray[np.float32]


class Network(Protocol):
    """A network that judges.

    Attributes:
        version: its name and digest, for the record.
    """

    version: str

    def look(self, image: Bytes) -> Opinion:
        """Return what is said of an RGB image ``uint8 [H,W,3]``."""


class EngineNetwork:
    """An engine bundle; its score is calibrated (0..1, 0.5 at the operating point), or raw."""

    def __init__(self, bundle: Path, score: str) -> None:
        """Load the bundle; ``score`` is ``calibrated`` or ``uncertainty``.

        Raises:
            MultishiftError: it is no whole bundle, has no such score, or its classes are not
                Cityscapes'.
        """
        if score not in (CALIBRATED, UNCERTAINTY):
            raise MultishiftError(
                f'{bundle} is an engine, which has its score built in, and no {score}: set score '
                f'{CALIBRATED}, or {UNCERTAINTY} for the raw one'
            )
        engine = Engine.load(bundle)
        _check_classes(bundle, engine.classes)
        self.version = f'{engine.name} {engine.digest[:12]}'
        self._calibrated = score == CALIBRATED
        self._pipeline = Pipeline(engine)

    def look(self, image: Bytes) -> Opinion:
        """See ``Network``."""
        [output] = self._pipeline.run([image])
        score = score_unit(output.anomaly) if self._calibrated else output.score
        return Opinion(output.labels, score)


class CheckpointNetwork:
    """A checkpoint, run eagerly; its score is raw, of its own head or of its logits."""

    def __init__(self, path: Path, root: Path, model: str | None, score: str) -> None:
        """Load a checkpoint, of `multishift train`, or published if ``model`` names its network.

        Raises:
            MultishiftError: it is missing, broken, or of neither, or has no such score.
        """
        if score == CALIBRATED:
            raise MultishiftError(
                f'{path} is a checkpoint, whose scores are raw: set score {UNCERTAINTY} or '
                'another, and least in its scale, or judge by an engine built of it'
            )
        if model is not None:
            network, size = open_published(path, model)[0], None
        else:
            if path.is_file() and path.suffix != '.safetensors':
                raise MultishiftError(
                    f'{path} was not written by `multishift train`: name its network with model'
                )
            opened = open_trained(path, root=root)
            _check_classes(path, opened.origin.classes)
            network, size = opened.model, opened.origin.run.engine_size
        digests = ' '.join(digest[:12] for digest in hashes_of(path).values())
        self.version = f'{path.name} {digests}'
        self._score = score
        self._runner = NetworkRunner(network, (score,), size=size)

    def look(self, image: Bytes) -> Opinion:
        """See ``Network``."""
        [output] = self._runner.run([image])
        return Opinion(output.labels, output.scores[self._score])


def _check_classes(path: Path, classes: Sequence[SemanticClass]) -> None:
    if [c.name for c in classes] != [c.name for c in CITYSCAPES]:
        raise MultishiftError(
            f'{path}: its classes are not those of Cityscapes: judge by another network'
        )


def open_network(
    path: Path, root: Path, *, model: str | None = None, score: str | None = None
) -> Network:
    """Open an engine bundle, or a checkpoint.

    Args:
        path: the bundle's folder, or the checkpoint's file.
        root: folder that relative paths in a checkpoint's configuration start from.
        model: name of the network that a published checkpoint is of.
        score: see ``config.Detector``.

    Raises:
        MultishiftError: it is missing, broken, of other classes than Cityscapes', or has no such
            score.
    """
    if path.is_dir() and model is None:
        return EngineNetwork(path, score or CALIBRATED)
    return CheckpointNetwork(path, root, model, score or UNCERTAINTY)
