"""The contract between networks and everything that trains or exports them."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class Prediction(NamedTuple):
    """What a network says of a batch, at its own output resolution h x w.

    Attributes:
        logits: ``float32 [B,C,h,w]`` over the known classes.
        score: ``float32 [B,h,w]``, uncertainty, larger is more anomalous.
    """

    logits: Tensor
    score: Tensor


class SegmentationModel(nn.Module):
    """A network with an uncertainty head.

    Input is ImageNet-normalised RGB ``float32 [B,3,H,W]``.
    """

    @abstractmethod
    def forward(self, image: Tensor) -> Prediction:
        """Run the network."""

    @abstractmethod
    def init_uncertainty_from_classifier(self) -> None:
        """Make the score the classifier's energy, the starting point of its training."""
