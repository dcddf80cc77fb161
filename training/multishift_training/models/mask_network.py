# SPDX-License-Identifier: Apache-2.0
"""What networks that classify masks have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multishift_training.models.heads import MaskHead, mask_score
from multishift_training.models.prediction import SegmentationModel


class MaskNetwork(SegmentationModel):
    """A network of queries, each with a mask and a class, and two classifiers of the queries.

    Attributes:
        class_weight: ``float32 [C+1]``, of each class in the classification loss; less for "no
            object", which most queries find. Published files hold it.
        classes_first: in training mode, join classes with masks before they are upsampled, as
            published for the stage of mask losses; in evaluation mode this changes nothing.
        score: what the uncertainty logits and the masks become.
    """

    class_weight: Tensor

    def __init__(self, channels: int, num_classes: int, no_object_weight: float) -> None:
        """Make the classifiers.

        Args:
            channels: of a query.
            num_classes: known classes.
            no_object_weight: in the classification loss.
        """
        super().__init__()
        self.classifier = nn.Linear(channels, num_classes + 1)
        self.uncertainty = MaskHead(channels, num_classes)
        weight = torch.ones(num_classes + 1)
        weight[-1] = no_object_weight
        self.register_buffer('class_weight', weight)
        self.classes_first = False
        self.score = mask_score
