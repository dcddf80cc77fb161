# SPDX-License-Identifier: Apache-2.0
"""From images to labels and scores at the image's size: an engine, or a network run eagerly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from multishift_perception.arrays import Bytes
from multishift_perception.classes import CITYSCAPES, SemanticClass
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.images.resizing import fit, resize_labels, resize_scores
from multishift_perception.pipeline import Pipeline, anomaly_mask
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.models.input_scale import Normalize
from multishift_training.scores import UNCERTAINTY, check_scores, find_score
from multishift_training.scores.fitted import FittedScore
from multishift_training.scores.rescored import ReadOff, check_form, score_of, with_score


class Output(NamedTuple):
    """What is said of an image ``[h,w]``.

    Attributes:
        labels: most likely class, ``uint8 [h,w]``.
        scores: by name, ``float32 [h,w]``, larger is more anomalous.
        mask: not zero where the operating point is reached, ``uint8 [h,w]``; None where there is
            no operating point.
    """

    labels: Bytes
    scores: Mapping[str, NDArray[np.float32]]
    mask: Bytes | None


class Runner(Protocol):
    """Whatever can be evaluated.

    Attributes:
        classes: known classes, in order of their label values.
        scores: names of the scores it gives.
        batch: images that are best run together.
    """

    classes: tuple[SemanticClass, ...]
    scores: tuple[str, ...]
    batch: int

    def run(self, images: Sequence[Bytes]) -> list[Output]:
        """Run RGB images ``uint8 [h,w,3]``, each of its own size."""


class EngineRunner:
    """An engine bundle, in the pipeline that node and replay use."""

    scores: tuple[str, ...] = (UNCERTAINTY,)

    def __init__(self, engine: Engine, threshold: float = 0.5) -> None:
        """Wrap a loaded engine.

        Args:
            engine: the engine.
            threshold: of the anomaly mask, 0..1 on the calibrated scale.
        """
        self._threshold = threshold
        self.classes = engine.classes
        self.batch = engine.input_shape[0]
        self._pipeline = Pipeline(engine)

    def run(self, images: Sequence[Bytes]) -> list[Output]:
        """Run RGB images ``uint8 [h,w,3]``, each of its own size."""
        return [
            Output(
                output.labels,
                {UNCERTAINTY: output.score},
                anomaly_mask(output.anomaly, self._threshold),
            )
            for output in self._pipeline.run(images)
        ]


class NetworkRunner:
    """A network, run eagerly in float32, with several scores from one forward pass.

    Only scores that have passes of their own take more.
    """

    batch = 1

    def __init__(
        self,
        model: SegmentationModel,
        scores: Sequence[str] = (UNCERTAINTY,),
        *,
        size: tuple[int, int] | None = None,
        fitted: Mapping[str, FittedScore] | None = None,
        device: int = 0,
        classes: Sequence[SemanticClass] = CITYSCAPES,
    ) -> None:
        """Put a network, in evaluation mode, onto the GPU if there is one.

        Args:
            model: the network.
            scores: names.
            size: rows and columns that the network sees; outputs then come back to the image's
                size as the engines' do. If none, it sees the image as it is.
            fitted: those among them that are fitted, by name.
            device: index of the GPU.
            classes: that the network knows, in order of its outputs.

        Raises:
            MultishiftError: a score is unknown, named twice or not fitted, or no such GPU is
                there.
        """
        check_scores(scores)
        self.classes = tuple(classes)
        self.scores = tuple(scores)
        self.device = _device(device)
        self._size = size
        self._model = model.eval().to(self.device)
        self._normalize = Normalize(model.input_scale).to(self.device)
        self._with_own_passes: dict[str, SegmentationModel] = {}
        self._read_off: dict[str, ReadOff] = {}
        for name in scores:
            found = (fitted or {}).get(name)
            if find_score(name).has_own_passes:
                self._with_own_passes[name] = with_score(self._model, name, fitted=found)
            else:
                score = score_of(name, fitted=found)
                self._read_off[name] = score if found is None else found.to(self.device)

    def run(self, images: Sequence[Bytes]) -> list[Output]:
        """Run RGB images ``uint8 [h,w,3]``, each of its own size."""
        return [self._run(image) for image in images]

    @torch.no_grad()  # and not inference mode, whose tensors no gradient may meet
    def _run(self, image: Bytes) -> Output:
        scores: dict[str, Tensor] = {}
        seen = self._input(image)
        prediction: Prediction
        for name, model in self._with_own_passes.items():
            prediction = model(seen)
            check_form(name, prediction.score, prediction)
            scores[name] = prediction.score
        if self._read_off:
            prediction = self._model(seen)
            for name, score in self._read_off.items():
                scores[name] = score(prediction)
                check_form(name, scores[name], prediction)
        labels = prediction.logits.argmax(1).to(torch.uint8)[0].cpu().numpy()
        size = image.shape[:2]
        return Output(
            resize_labels(labels, size),
            {name: resize_scores(scores[name][0].cpu().numpy(), size) for name in self.scores},
            None,
        )

    def _input(self, image: Bytes) -> Tensor:
        seen = image if self._size is None else fit(image, self._size)
        frames = torch.from_numpy(np.ascontiguousarray(seen))[None].to(self.device)
        normalized: Tensor = self._normalize(frames)
        return normalized


def _device(index: int) -> torch.device:
    """Return the GPU, or the CPU where PyTorch finds none."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        return torch.device('cpu')
    if index >= count:
        raise MultishiftError(f'--device {index}: PyTorch finds {count} GPUs, counted from 0')
    return torch.device('cuda', index)
