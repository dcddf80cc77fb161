# SPDX-License-Identifier: Apache-2.0
"""The deploy graph: one network with everything that belongs on the accelerator around it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multishift_perception.engine.manifest import Calibration
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.models.input_scale import Normalize

# Segments of the calibration that are computed at a stretch. OpenVINO fuses what has one shape
# into one loop and keeps each segment of it in a register: those of a CPU without AVX-512 last for
# 13, and where they do not, nothing of the network compiles. Another shape ends the loop.
_TOGETHER = 8


class DeployGraph(nn.Module):
    """Bytes in, bytes out: normalisation, network, argmax, calibration."""

    def __init__(self, model: SegmentationModel, calibration: Calibration) -> None:
        """Wrap a network, which is put into evaluation mode."""
        super().__init__()
        self.normalize = Normalize(model.input_scale)
        self.model = model.eval()
        scores, anomalies = zip(*calibration.knots, strict=True)
        self._segments = [
            (scores[i], scores[i + 1] - scores[i], anomalies[i + 1] - anomalies[i])
            for i in range(len(scores) - 1)
        ]
        self._floor = anomalies[0]

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run a batch.

        Args:
            frames: RGB ``uint8 [N,H,W,3]``.

        Returns:
            Label ``uint8 [N,H,W]``, raw score ``float32 [N,H,W]``, anomaly ``uint8 [N,H,W]``.
        """
        prediction: Prediction = self.model(self.normalize(frames))
        score = prediction.score
        return prediction.logits.argmax(1).to(torch.uint8), score, self._calibrated(score)

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
