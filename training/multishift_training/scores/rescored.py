# SPDX-License-Identifier: Apache-2.0
"""Networks whose score is another than their head's.

Calibration and export take them as they take any network.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from multishift_perception.errors import MultishiftError
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.scores import UNCERTAINTY, Score, find_score
from multishift_training.scores.fitted import FittedScore

# From a prediction to its score ``float32 [B,H,W]``.
ReadOff = Callable[[Prediction], Tensor]


class Rescored(SegmentationModel):
    """A network whose score is read off its prediction; all else is as it was."""

    def __init__(self, model: SegmentationModel, name: str, score: ReadOff) -> None:
        """Wrap ``model``; a ``score`` that is a module becomes part of the network."""
        super().__init__()
        self.model = model
        self.input_scale = model.input_scale
        self.rescore = score
        self._name = name

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        """Return the network's prediction with the score replaced."""
        prediction: Prediction = self.model(image, size)
        score = self.rescore(prediction)
        check_form(self._name, score, prediction)
        return prediction._replace(score=score)

    def init_uncertainty_from_classifier(self) -> None:
        """Pass the call on: the network keeps its head."""
        self.model.init_uncertainty_from_classifier()


def with_score(
    model: SegmentationModel, name: str, *, fitted: FittedScore | None = None
) -> SegmentationModel:
    """Return a network whose score is the one of that name.

    Args:
        model: the network, which the result shares; of ``uncertainty`` it is the result.
        name: of the score.
        fitted: what the score is after fitting, for those that are fitted and no others; it is
            moved to where the network is.

    Raises:
        MultishiftError: the name is unknown, or does not go with ``fitted``.
    """
    score = find_score(name)
    _check_fitted(score, fitted)
    if name == UNCERTAINTY:
        return model
    around: SegmentationModel = (
        score.implementation()(model)
        if score.has_own_passes
        else Rescored(model, name, score_of(name, fitted=fitted))
    )
    return around.to(next(model.parameters()).device)


def score_of(name: str, *, fitted: FittedScore | None = None) -> ReadOff:
    """Return what computes a score that is read off a prediction.

    Args:
        name: of the score.
        fitted: what the score is after fitting, for those that are fitted and no others.

    Raises:
        MultishiftError: the name is unknown, or does not go with ``fitted``.
        ValueError: the score has passes of its own.
    """
    score = find_score(name)
    _check_fitted(score, fitted)
    if score.has_own_passes:
        raise ValueError(f'score {name} cannot be read off a prediction')
    read_off: ReadOff = score.implementation() if fitted is None else fitted
    return read_off


def check_form(name: str, score: object, prediction: Prediction) -> None:
    """See that what computes a score gave one value for each pixel.

    Args:
        name: of the score.
        score: what it gave.
        prediction: what it was given.

    Raises:
        MultishiftError: it is no ``float32 [B,H,W]`` of the logits' size.
    """
    batch, _, *size = prediction.logits.shape
    expected = [batch, *size]
    if not isinstance(score, Tensor):
        found = f'of type {type(score).__name__}'
    elif score.dtype != torch.float32 or list(score.shape) != expected:
        found = f'{_name_of(score.dtype)} {list(score.shape)}'
    else:
        return
    raise MultishiftError(
        f'score {name} is {found}, expected float32 {expected}: return one value for each pixel '
        'of the logits'
    )


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix('torch.')


def _check_fitted(score: Score, fitted: FittedScore | None) -> None:
    if score.is_fitted and not isinstance(fitted, score.implementation()):
        raise MultishiftError(f'score {score.name} is fitted on labelled images: fit it first')
    if fitted is not None and not score.is_fitted:
        raise MultishiftError(f'score {score.name} is not fitted: give it no statistics')
