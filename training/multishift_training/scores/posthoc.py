"""Post-hoc anomaly scores: of a network that was never trained to give one.

`with_score` puts a score, by name, in the place of the head's: evaluation, calibration and
export then work as they are. All but `Odin` read what the forward pass computes anyway.

All are larger for what is more anomalous. Mask networks' logits are sums of probabilities
over queries, not the arguments of a softmax. The scores that join the classes take these sums as
they are, as CG-Aug's filter (MultiShiftSeg, appendix) does for the energy: a pixel that no known
class claims has all of them near 0, and a high energy and entropy. Only the maximum softmax does
without the softmax, as the sums stand for its probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from multishift_perception.errors import MultishiftError
from multishift_training.models import MaskPrediction, Prediction, SegmentationModel
from multishift_training.scores.mahalanobis import Mahalanobis
from multishift_training.scores.names import NAMES

# From a prediction to its score ``float32 [B,H,W]``.
Score = Callable[[Prediction], Tensor]


def uncertainty(prediction: Prediction) -> Tensor:
    """Return the score of the network's own uncertainty head."""
    return prediction.score


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
    log_probabilities = prediction.logits.log_softmax(1)
    return -(log_probabilities.exp() * log_probabilities).sum(1)


# Those that take nothing but a prediction.
SCORES: Mapping[str, Score] = MappingProxyType(
    {
        'uncertainty': uncertainty,
        'max_softmax': max_softmax,
        'max_logit': max_logit,
        'energy': energy,
        'entropy': entropy,
    }
)


class Rescored(SegmentationModel):
    """A network whose score is another than its head's; all else is as it was."""

    def __init__(self, model: SegmentationModel, score: Score) -> None:
        """Wrap ``model``; a ``score`` that is a module becomes part of the network."""
        super().__init__()
        self.model = model
        self.input_scale = model.input_scale
        self.rescore = score

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        """Return the network's prediction with the score replaced."""
        prediction: Prediction = self.model(image, size)
        return prediction._replace(score=self.rescore(prediction))

    def init_uncertainty_from_classifier(self) -> None:
        """Pass the call on: the network keeps its head."""
        self.model.init_uncertainty_from_classifier()


class Odin(SegmentationModel):
    """The softmax at a high temperature, of an image moved towards its own prediction.

    ODIN (Liang et al., ICLR 2018), Eqs. 1 and 2, with the gradient of all pixels' largest log
    probability at once. It takes two forward passes and a backward one.
    """

    def __init__(
        self, model: SegmentationModel, *, temperature: float = 1000.0, epsilon: float = 0.0014
    ) -> None:
        """Wrap ``model``.

        Args:
            model: the network; its parameters get no gradient.
            temperature: divisor of the logits; the paper's choice for all its networks.
            epsilon: step of each colour channel, on the scale where an image is 0..1; the paper
                picks it on validation data, between 0 and 0.004.
        """
        super().__init__()
        if temperature <= 0 or epsilon < 0:
            raise MultishiftError(
                f'ODIN needs temperature > 0 and epsilon >= 0, not {temperature} and {epsilon}'
            )
        self.model = model
        self.temperature = temperature
        self.step: Tensor
        self.input_scale = model.input_scale
        std = torch.tensor(model.input_scale.std)
        self.register_buffer('step', epsilon / std.view(1, 3, 1, 1))

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        """Return the prediction for ``image``, with the score of the moved image.

        The score is minus the largest probability: at high temperatures all are near ``1 / C``,
        and ``1 - p`` would round away what tells them apart.
        """
        # Gradients are wanted whatever the caller is in, and inference tensors can have none.
        with torch.inference_mode(False), torch.enable_grad():
            start = image.clone().requires_grad_()
            prediction: Prediction = self.model(start, size)
            largest = (prediction.logits / self.temperature).log_softmax(1).amax(1)
            (gradient,) = torch.autograd.grad(largest.sum(), start)
        with torch.no_grad():
            # The paper's sign: x - epsilon * sign(-gradient) raises the largest probability.
            moved: Prediction = self.model(start + self.step * gradient.sign(), size)
            score = -(moved.logits / self.temperature).softmax(1).amax(1)
        masks = prediction.masks
        if masks is not None:
            masks = MaskPrediction(*(part.detach() for part in masks))
        return Prediction(prediction.logits.detach(), score, prediction.feature.detach(), masks)

    def init_uncertainty_from_classifier(self) -> None:
        """Pass the call on: the network keeps its head."""
        self.model.init_uncertainty_from_classifier()


def with_score(
    model: SegmentationModel, name: str, *, statistics: Path | None = None
) -> SegmentationModel:
    """Return a network whose score is the one of that name, one of `NAMES`.

    Args:
        model: the network, which the result shares.
        name: of the score; "odin" cannot be exported, as it needs gradients.
        statistics: file of fitted statistics, for "mahalanobis" and no other.

    Raises:
        MultishiftError: the name is unknown, or does not go with ``statistics``.
    """
    if name not in NAMES:
        raise MultishiftError(f'unknown score {name!r}: choose one of {", ".join(NAMES)}')
    if (name == 'mahalanobis') != (statistics is not None):
        raise MultishiftError(
            f'score {name}: a file of fitted statistics goes with mahalanobis and no other score'
        )
    if statistics is not None:
        return Rescored(model, Mahalanobis.load(statistics))
    return Odin(model) if name == 'odin' else Rescored(model, SCORES[name])
