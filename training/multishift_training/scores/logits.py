# SPDX-License-Identifier: Apache-2.0
"""Scores of the class logits.

Mask networks' logits are sums of probabilities over queries, not the arguments of a softmax. The
scores that join the classes take these sums as they are, as CG-Aug's filter (MultiShiftSeg,
appendix) does for the energy: a pixel that no known class claims has all of them near 0, and a
high energy and entropy. Only the maximum softmax does without the softmax, as the sums stand for
its probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multishift_training.models import Prediction
from multishift_training.models.heads import softmax_entropy


def max_softmax(prediction: Prediction) -> Tensor:
    """Return 1 minus the largest class probability (Hendrycks and Gimpel, ICLR 2017).

    From 0 to 1; of mask networks below 0 where queries of one class overlap.
    """
    if prediction.masks is not None:
        return 1 - prediction.logits.amax(1)
    return 1 - prediction.logits.softmax(1).amax(1)


def max_logit(prediction: Prediction) -> Tensor:
    """Return minus the largest logit (Hendrycks et al., ICML 2022)."""
    return -prediction.logits.amax(1)


def energy(prediction: Prediction) -> Tensor:
    """Return ``-logsumexp_c logits`` (Liu et al., NeurIPS 2020)."""
    return -torch.logsumexp(prediction.logits, 1)


def entropy(prediction: Prediction) -> Tensor:
    """Return the entropy of the softmax over the classes, from 0 to ``ln C`` nats."""
    return softmax_entropy(prediction.logits)
