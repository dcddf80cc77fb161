"""The networks that judge painted images: engine bundles and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import CITYSCAPES
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.files import sha256
from multishift_perception.pipeline import Pipeline, score_unit
from multishift_training.augmentation.parts import Bytes
from multishift_training.evaluation.runners import NetworkRunner
from multishift_training.score_names import UNCERTAINTY
from multishift_training.trained import open_trained


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
    """An engine bundle; its score is the calibrated one, 0..1, 0.5 at the operating point."""

    def __init__(self, bundle: Path) -> None:
        """Load the bundle.

        Raises:
            MultishiftError: it is no whole bundle, or its classes are not Cityscapes'.
        """
        engine = Engine.load(bundle)
        if tuple(c.name for c in engine.classes) != tuple(c.name for c in CITYSCAPES):
            raise MultishiftError(
                f'{bundle}: its classes are not those of Cityscapes: judge by another engine'
            )
        self.version = f'{engine.name} {engine.digest[:12]}'
        self._pipeline = Pipeline(engine)

    def look(self, image: Bytes) -> Opinion:
        """See ``Network``."""
        [output] = self._pipeline.run([image])
        return Opinion(output.labels, score_unit(output.anomaly))


class TrainedNetwork:
    """A checkpoint of `multishift train`; its score is the raw uncertainty."""

    def __init__(self, path: Path, root: Path) -> None:
        """Load the checkpoint.

        Raises:
            MultishiftError: it is missing, broken, or not of `multishift train`.
        """
        checkpoint = open_trained(path, root=root)
        self.version = f'{path.name} {sha256(path)[:12]}'
        self._runner = NetworkRunner(checkpoint.model, size=checkpoint.config.engine_size)

    def look(self, image: Bytes) -> Opinion:
        """See ``Network``."""
        [output] = self._runner.run([image])
        return Opinion(output.labels, output.scores[UNCERTAINTY])


def open_network(path: Path, root: Path) -> Network:
    """Open an engine bundle, or a checkpoint of `multishift train`.

    Args:
        path: the bundle's folder, or the checkpoint's file.
        root: folder that relative paths in a checkpoint's configuration start from.

    Raises:
        MultishiftError: it is missing, broken, or of other classes than Cityscapes'.
    """
    return EngineNetwork(path) if path.is_dir() else TrainedNetwork(path, root)
