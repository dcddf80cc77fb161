# SPDX-License-Identifier: Apache-2.0
"""The deploy graph: one network with everything that belongs on the accelerator around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from multishift_perception.engine.manifest import Calibration
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.models.input_scale import Normalize
from multishift_training.models.precision import in_full

# Segments of the calibration that are computed at a stretch. OpenVINO fuses what has one shape
# into one loop and keeps each segment of it in a register: those of a CPU without AVX-512 last for
# 13, and where they do not, nothing of the network compiles. Another shape ends the loop.
_TOGETHER = 8


class _Read(Exception):
    """The early feature has been read."""


class DeployGraph(nn.Module):
    """Bytes in, bytes out: normalisation, network, classes, calibration, looks."""

    def __init__(self, model: SegmentationModel, calibration: Calibration) -> None:
        """Wrap a network, which is put into evaluation mode."""
        super().__init__()
        self.normalize = Normalize(model.input_scale)
        self.model = model.eval()
        # A wrapper knows none, the network inside may.
        parts = [part for part in model.modules() if isinstance(part, SegmentationModel)]
        self._early = next((part.early for part in parts if part.early is not None), None)
        self._enlarge = parts[-1].enlarge
        scores, anomalies = zip(*calibration.knots, strict=True)
        self._segments = [
            (scores[i], scores[i + 1] - scores[i], anomalies[i + 1] - anomalies[i])
            for i in range(len(scores) - 1)
        ]
        self._floor = anomalies[0]

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Run a batch.

        Args:
            frames: RGB ``uint8 [N,H,W,3]``.

        Returns:
            Label ``uint8 [N,H,W]``, raw score ``float32 [N,H,W]``, anomaly ``uint8 [N,H,W]``,
            look ``float32 [N,K]``: mean and standard deviation of each channel of the network's
            early feature, or of the image where it has none; confidence ``uint8 [N,H,W]``: the
            probability of the label, 255 is certain.
        """
        image = self.normalize(frames)
        with self._reading_early() as read:
            prediction: Prediction = self.model(image)
        score = prediction.score
        label = prediction.logits.argmax(1).to(torch.uint8)
        look = _moments(read[0] if read else image)
        return label, score, self._calibrated(score), look, self._confidence(prediction)

    def look(self, frames: Tensor) -> Tensor:
        """Return the look alone ``float32 [N,K]`` of a batch, without what it does not need."""
        image = self.normalize(frames)
        with self._reading_early(ends=True) as read, suppress(_Read):
            if self._early is not None:
                self.model(image)
        return _moments(read[0] if read else image)

    @contextmanager
    def _reading_early(self, *, ends: bool = False) -> Iterator[list[Tensor]]:
        """Keep the early feature of each pass through the network; end the first one by it."""
        read: list[Tensor] = []
        if self._early is None:
            yield read
            return

        def keep(_: nn.Module, given: tuple[Any, ...]) -> None:
            read.append(given[0])
            if ends:
                raise _Read

        hook = self._early.register_forward_pre_hook(keep)
        try:
            yield read
        finally:
            hook.remove()

    def _confidence(self, prediction: Prediction) -> Tensor:
        """Return the largest probability, of pixel networks before it is enlarged.

        Scores are made so, too: a softmax at the full size costs a tenth of a small network.
        """
        if prediction.masks is not None:
            # Their logits are sums of probabilities.
            probability = prediction.logits.amax(1)
        elif prediction.coarse_logits is None:
            probability = in_full(prediction.logits).softmax(1).amax(1)
        else:
            coarse = in_full(prediction.coarse_logits).softmax(1).amax(1, keepdim=True)
            rows, columns = prediction.logits.shape[2:]
            probability = self._enlarge(coarse, (rows, columns)).squeeze(1)
        return (255 * probability + 0.5).floor().clamp(0, 255).to(torch.uint8)

    def _calibrated(self, score: Tensor) -> Tensor:
        """Piecewise-linear map; rounding down keeps 128 for scores that reach the point."""
        anomaly = torch.full_like(score, self._floor)
        views = score, score.flatten(1)
        for first in range(0, len(self._segments), _TOGETHER):
            view = views[first // _TOGETHER % 2]
            anomaly = anomaly.reshape(view.shape)
            for start, width, rise in self._segments[first : first + _TOGETHER]:
                anomaly = anomaly + ((view - start) / width).clamp(0, 1) * rise
        # Float sums may end a hair below the integer that the operating point stands for.
        return (anomaly.reshape(score.shape) + 1e-3).floor().clamp(0, 255).to(torch.uint8)


def _moments(feature: Tensor) -> Tensor:
    """Return mean and standard deviation of each channel over the image, ``[N,2D]``."""
    mean = feature.mean((2, 3), keepdim=True)
    variance = (feature - mean).square().mean((2, 3))
    return torch.cat([mean.flatten(1), (variance + 1e-6).sqrt()], 1)
