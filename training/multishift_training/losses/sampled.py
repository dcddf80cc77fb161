# SPDX-License-Identifier: Apache-2.0
"""The contrastive loss as the released MultiShiftSeg code samples it, to compare with it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import NOVEL
from multishift_training.losses.contrastive import (
    ContrastiveTerms,
    Margins,
    consistency,
    halves,
)
from multishift_training.losses.options import ThirdTerm
from multishift_training.models.precision import in_full


def sampled_contrastive(
    score: Tensor,
    labels: Tensor,
    *,
    margins: Margins,
    third_term: ThirdTerm = 'code',
) -> ContrastiveTerms:
    """Return the terms over random one-to-one pairs, all sets cut to the size of the smallest.

    Equals the released code and draws what it draws from torch's global CPU generator, whatever
    the device; except that terms without pairs are zero, where the released code's are NaN.

    Args:
        score: ``[2B,H,W]``, larger is more anomalous.
        labels: ``int64 [2B,H,W]``.
        margins: wanted distances.
        third_term: form of the third term.
    """
    score = in_full(score)
    original, augmented = halves(score)
    known_original, known_augmented = halves(labels < NOVEL)
    # The novel pixels are drawn last, as released.
    sets = [original[known_original], augmented[known_augmented], score[labels == NOVEL]]
    pairs = min(map(len, sets))
    low, shifted, high = (
        values[torch.randperm(len(values))[:pairs].to(values.device)] for values in sets
    )
    return ContrastiveTerms(
        F.relu(low + margins.original - high).sum() / max(pairs, 1),
        F.relu(shifted + margins.augmented - high).sum() / max(pairs, 1),
        consistency(
            augmented - original, known_original & known_augmented, margins.consistency, third_term
        ),
    )
