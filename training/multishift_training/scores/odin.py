# SPDX-License-Identifier: Apache-2.0
"""ODIN (Liang et al., ICLR 2018): the softmax of an image moved towards its own prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from multishift_perception.errors import MultishiftError
from multishift_training.models import MaskPrediction, Prediction, SegmentationModel


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
