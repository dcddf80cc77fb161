# SPDX-License-Identifier: Apache-2.0
"""Uncertainty heads: one for networks that classify pixels, one for those that classify masks.

Both start as a copy of the classifier and are trained apart from it, so that what the score learns
never moves a class boundary (MultiShiftSeg, Gao et al., NeurIPS 2024, section 3.3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EnergyHead(nn.Module):
    """``u = -logsumexp_c (W f)_c``, a function of a pixel's feature alone (MultiShiftSeg, Eq. 2).

    The sign is the released code's, opposite to the paper's text: larger is more anomalous.
    """

    def __init__(self, channels: int, num_classes: int, *, bias: bool = False) -> None:
        """Make a head over ``channels`` features.

        Args:
            channels: of the feature.
            num_classes: known classes.
            bias: as the network's own classifier has it.
        """
        super().__init__()
        self.proxy = nn.Conv2d(channels, num_classes, 1, bias=bias)

    def forward(self, feature: Tensor) -> Tensor:
        """Return the score ``[B,h,w]`` of ``feature [B,channels,h,w]``."""
        return -torch.logsumexp(self.proxy(feature), dim=1)

    @torch.no_grad()
    def init_from(self, classifier: nn.Conv2d) -> None:
        """Start as the energy score of ``classifier``, a 1x1 convolution of the same shape."""
        _copy(classifier, self.proxy)


class MaskHead(nn.Module):
    """A second classifier of a mask network's queries, whose product with the masks is the score.

    See `mask_score`, which takes what it returns.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        """Make a head over queries of ``channels`` features; "no object" is the last class."""
        super().__init__()
        self.classifier = nn.Linear(channels, num_classes + 1)

    def forward(self, queries: Tensor) -> Tensor:
        """Return uncertainty logits ``[B,Q,num_classes + 1]`` of ``queries [B,Q,channels]``."""
        logits: Tensor = self.classifier(queries)
        return logits

    @torch.no_grad()
    def init_from(self, classifier: nn.Linear) -> None:
        """Start as the network's own classifier, a linear layer of the same shape."""
        _copy(classifier, self.classifier)


def mask_logits_to_semantic(class_logits: Tensor, mask_probabilities: Tensor) -> Tensor:
    """Join the classes and masks of queries to a map (MaskFormer, Cheng et al. 2021, section 3.4).

    Args:
        class_logits: ``[B,Q,C+1]``; the last class is "no object".
        mask_probabilities: ``[B,Q,H,W]``, 0..1: the sigmoid of the mask logits. It is much the
            largest tensor of a mask network; make it once for this map and for `mask_score`.

    Returns:
        ``[B,C,H,W]``, ``sum_q softmax(class_logits)[q,c] * mask[q]``: from 0 to Q, as a pixel may
        belong to several masks.
    """
    probabilities = class_logits.softmax(-1)[..., :-1]
    return torch.einsum('bqc,bqhw->bchw', probabilities, mask_probabilities)


def mask_score(uncertainty_logits: Tensor, mask_probabilities: Tensor) -> Tensor:
    """Return what no known class claims: ``1 - max_c sum_q softmax(logits)[q,c] * mask[q]``.

    Args:
        uncertainty_logits: ``[B,Q,C+1]`` of a `MaskHead`; the last class is "no object".
        mask_probabilities: ``[B,Q,H,W]``, 0..1.

    Returns:
        ``[B,H,W]``, at most 1 and larger for what is more anomalous; below 0 where queries of one
        class overlap (Mask2Anomaly, Rai et al., ICCV 2023, as MultiShiftSeg's code computes it).
    """
    return 1 - mask_logits_to_semantic(uncertainty_logits, mask_probabilities).amax(1)


def _copy(source: nn.Conv2d | nn.Linear, target: nn.Conv2d | nn.Linear) -> None:
    if (source.bias is None) != (target.bias is None):
        raise ValueError('classifier and uncertainty head must both have a bias, or neither')
    target.load_state_dict(source.state_dict())
