# SPDX-License-Identifier: Apache-2.0
"""The score of the network's own uncertainty head."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from multishift_training.models import Prediction


def uncertainty(prediction: Prediction) -> Tensor:
    """Return the score of the network's own uncertainty head."""
    return prediction.score
