# SPDX-License-Identifier: Apache-2.0
"""Uncertainty heads: one for networks that classify pixels, one for those that classify masks.

Both start as a copy of the classifier and are trained apart from it, so that what the score learns
never moves a class boundary (MultiShiftSeg, Gao et al., NeurIPS 2024, section 3.3). A third reads
the classifier itself, for methods that train it to be the score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

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


class ClassifierHead(nn.Module):
    """The network's classifier, read once more in the place of a head; it has no weights."""

    def __init__(self, model: Any, read: Callable[[Tensor], Tensor] | None = None) -> None:
        """Make the head of a network.

        Args:
            model: the network, which has a ``classifier``.
            read: takes what the classifier says, ``[B,K,h,w]``, to what the head says; None where
                that is the same.
        """
        super().__init__()
        # In a tuple, as the network is no part of its own part. Not the classifier, which a
        # network may change for another that fits its weights.
        self._model = (model,)
        self._read = read

    def forward(self, feature: Tensor) -> Tensor:
        """Return what is read of the classifier's logits of ``feature``."""
        logits: Tensor = self._model[0].classifier(feature)
        return logits if self._read is None else self._read(logits)

    def init_from(self, classifier: nn.Module) -> None:
        """Do nothing: it is the classifier's already."""


def softmax_entropy(logits: Tensor) -> Tensor:
    """Return the entropy of the softmax ``[B,h,w]`` of logits ``[B,C,h,w]``, 0 to ``ln C``."""
    log_probabilities = logits.log_softmax(1)
    return -(log_probabilities.exp() * log_probabilities).sum(1)


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
    return _sum_over_queries(_probabilities(class_logits), mask_probabilities)


class MaskScore(NamedTuple):
    """A score of queries and masks: ``read(sum_q weigh(logits)[q] * mask[q])``.

    Attributes:
        weigh: takes logits of the queries ``[B,Q,K]`` to their weights in N maps ``[B,Q,N]``.
        read: takes the maps ``[B,N,H,W]`` to the score ``[B,H,W]``, pixel by pixel.
    """

    weigh: Callable[[Tensor], Tensor]
    read: Callable[[Tensor], Tensor]

    def maps(self, logits: Tensor, mask_probabilities: Tensor) -> Tensor:
        """Return the maps that the score is read of, ``[B,N,H,W]``."""
        return _sum_over_queries(self.weigh(logits), mask_probabilities)

    def __call__(self, logits: Tensor, mask_probabilities: Tensor) -> Tensor:
        """Return the score ``[B,H,W]``.

        Args:
            logits: of the queries, ``[B,Q,K]``.
            mask_probabilities: ``[B,Q,H,W]``, 0..1.
        """
        return self.read(self.maps(logits, mask_probabilities))


def _probabilities(class_logits: Tensor) -> Tensor:
    return class_logits.softmax(-1)[..., :-1]


def _sum_over_queries(weights: Tensor, mask_probabilities: Tensor) -> Tensor:
    return torch.einsum('bqc,bqhw->bchw', weights, mask_probabilities)


# What no known class claims: ``1 - max_c sum_q softmax(logits)[q,c] * mask[q]`` of a `MaskHead`,
# whose last class is "no object". At most 1; below 0 where queries of one class overlap
# (Mask2Anomaly, Rai et al., ICCV 2023, as MultiShiftSeg's code computes it). Unlike `amax`, `max`
# keeps an index per pixel for the gradient, and not the maps of all classes.
mask_score = MaskScore(_probabilities, lambda maps: 1 - maps.max(1).values)


def _copy(source: nn.Conv2d | nn.Linear, target: nn.Conv2d | nn.Linear) -> None:
    if (source.bias is None) != (target.bias is None):
        raise ValueError('classifier and uncertainty head must both have a bias, or neither')
    target.load_state_dict(source.state_dict())
