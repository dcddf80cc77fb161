# SPDX-License-Identifier: Apache-2.0
"""Meta-learning domain generalisation (MLDG, Li et al., AAAI 2018): episodes over the domains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from multishift_perception.classes import VOID
from multishift_training.datasets import Batch, TrainingData
from multishift_training.datasets.config import Positive, Weight
from multishift_training.methods.closed_world import mean_cross_entropy
from multishift_training.methods.episodes import (
    Tested,
    after_step,
    check_domains,
    draw_tested,
    one_image_in_one_line,
    predict,
)
from multishift_training.methods.method import Context, Method
from multishift_training.methods.outliers import check_classifies_pixels

if TYPE_CHECKING:
    from torch import Tensor

    from multishift_training.models import Prediction, SegmentationModel


class Mldg(Method):
    """Cross-entropy on some domains, and on the others after a step that the first would take.

    In each step, domains are drawn for meta-training and for meta-testing, at least one of each.

    Attributes:
        step_size: of the step between both.
        weight: of the loss of meta-testing.
        second_order: differentiate that step too, rather than take its direction for constant.
        tested: how many domains are for meta-testing: ``one``, or as many as are drawn (``any``).
        class_weights: weight the cross-entropy of classes by their rarity; not in the paper.
    """

    kind: Literal['mldg']
    step_size: Positive = 0.0025
    weight: Weight = 1.0
    second_order: bool = False
    tested: Tested = 'any'
    class_weights: bool = False

    def check_data(self, data: TrainingData) -> None:
        """See that there are domains to hold back."""
        check_domains(data, self.kind)

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See that it classifies pixels."""
        check_classifies_pixels(model, name, self.kind)

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the cross-entropy of both parts of an episode.

        A batch of one domain has no meta-testing. The host waits for the device once.
        """
        tested = draw_tested(batch, context, self.tested)
        hidden = batch.labels.masked_fill(tested[:, None, None], VOID)
        training = mean_cross_entropy(prediction, batch._replace(labels=hidden), context)
        if not tested.any():
            return {'meta_train': training, 'meta_test': 0 * training}
        moved = after_step(
            training,
            dict(context.model.named_parameters()),
            batch,
            context,
            size=self.step_size,
            second_order=self.second_order,
        )
        shown = batch.moved(lambda values: values[tested])
        with one_image_in_one_line(self.kind, shown, batch):
            judged = predict(context, moved, shown)
        testing = mean_cross_entropy(judged, shown, context)
        return {'meta_train': training, 'meta_test': self.weight * testing}
