"""The semantic-exclusive uncertainty head."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EnergyHead(nn.Module):
    """``u = -logsumexp_c (W f)_c``, a function of the feature alone (MultiShiftSeg, Eq. 2).

    The sign is the released code's, opposite to the paper's text: larger is more anomalous.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        """Make a head over ``channels`` features."""
        super().__init__()
        self.proxy = nn.Conv2d(channels, num_classes, 1, bias=False)

    def forward(self, feature: Tensor) -> Tensor:
        """Return the score ``[B,h,w]`` of ``feature [B,channels,h,w]``."""
        return -torch.logsumexp(self.proxy(feature), dim=1)

    @torch.no_grad()
    def init_from(self, classifier: nn.Conv2d) -> None:
        """Start as the classifier's energy score."""
        self.proxy.weight.copy_(classifier.weight)
