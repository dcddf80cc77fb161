# SPDX-License-Identifier: Apache-2.0
"""Rejected by all, RbA (Nayal et al., ICCV 2023): what no class accepts as its own."""

from __future__ import annotations

from torch import Tensor

from multishift_training.models import Prediction


def rba(prediction: Prediction) -> Tensor:
    """Return minus how far all classes together accept the pixel.

    Of mask networks ``-sum_c tanh logits_c``, as published: sums over queries are not negative,
    and so a class accepts from 0 to 1.

    Networks that classify pixels tell classes from one another, and not each from nothing. There,
    in a form of ours, each class stands against the rest, and accepts by
    ``(1 + tanh log(p / q)) / 2`` with its probability p of the softmax and ``q = 1 - p``: from -1,
    where one class is sure, to near 0, where all are alike.
    """
    if prediction.masks is not None:
        return -prediction.logits.tanh().sum(1)
    probability = prediction.logits.softmax(1)
    own, rest = probability.square(), (1 - probability).square()
    return -(own / (own + rest)).sum(1)
