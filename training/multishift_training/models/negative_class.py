# SPDX-License-Identifier: Apache-2.0
"""A class of what is negative, beside the known ones, and its score (UNO, Delić et al., 2024)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from multishift_training.models.heads import ClassifierHead, MaskScore
from multishift_training.models.prediction import Prediction, SegmentationModel


def add_negative_to_pixels(model: Any) -> None:
    """Give a network that classifies pixels the negative class, behind the known ones."""
    model.classifier = _with_negative(model.classifier, model.classifier.out_channels)
    model.register_forward_hook(_keep_known)


def add_negative_to_masks(model: Any, weight: float = 1.0) -> None:
    """Give a mask network the negative class, before "no object", and its score; if it has none.

    Args:
        model: the network.
        weight: of that class in the classification of the queries.
    """
    if isinstance(model.uncertainty, ClassifierHead):
        model.class_weight[-2] = weight
        return
    weights = model.class_weight
    known = len(weights) - 1
    model.classifier = _with_negative(model.classifier, known)
    model.class_weight = torch.cat([weights[:known], weights.new_full((1,), weight), weights[-1:]])
    model.uncertainty = ClassifierHead(model)
    model.score = MaskScore(_weigh_queries, _only)
    model.register_forward_hook(_keep_known)


def uno_score(logits: Tensor) -> Tensor:
    """Return ``p_negative - max_c p_c`` ``[B,h,w]``, from -1 to 1.

    Args:
        logits: ``[B,K+1,h,w]``; the negative class is last.
    """
    probabilities = logits.softmax(1)
    return probabilities[:, -1] - probabilities[:, :-1].amax(1)


def _weigh_queries(logits: Tensor) -> Tensor:
    """Return the same of each query, ``[B,Q,1]``, of ``[B,Q,K+2]``, where "no object" is last."""
    probabilities = logits.softmax(-1)
    return probabilities[..., -2:-1] - probabilities[..., :-2].amax(-1, keepdim=True)


def _only(maps: Tensor) -> Tensor:
    return maps[:, 0]


def _with_negative(classifier: nn.Linear | nn.Conv2d, place: int) -> nn.Linear | nn.Conv2d:
    """Return a classifier with a class more at a place, whose weights start at 0, as released."""
    weight, bias = classifier.weight, classifier.bias is not None
    like: dict[str, Any] = {'bias': bias, 'device': weight.device, 'dtype': weight.dtype}
    wider = (
        nn.Linear(classifier.in_features, classifier.out_features + 1, **like)
        if isinstance(classifier, nn.Linear)
        else nn.Conv2d(classifier.in_channels, classifier.out_channels + 1, 1, **like)
    )
    with torch.no_grad():
        for new, old in zip(wider.parameters(), classifier.parameters(), strict=True):
            zero = torch.zeros_like(old[:1])
            new.copy_(torch.cat([old[:place], zero, old[place:]]))
    return wider


def _keep_known(model: SegmentationModel, inputs: Any, prediction: Prediction) -> Prediction:
    """Keep the negative class out of the labels; of pixel networks, losses take its logit."""
    logits = prediction.logits
    coarse = prediction.coarse_logits
    known = prediction._replace(
        logits=logits[:, :-1], coarse_logits=None if coarse is None else coarse[:, :-1]
    )
    return known.with_auxiliary({'negative': logits[:, -1]})
