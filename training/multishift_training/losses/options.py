# SPDX-License-Identifier: Apache-2.0
"""What of the losses a configuration chooses; apart from them, for it is read before torch is."""

from __future__ import annotations

from typing import Literal, NamedTuple

ThirdTerm = Literal['paper', 'poster', 'code']
MeanOver = Literal['all', 'valid']


class MaskWeights(NamedTuple):
    """Weights of the mask losses, and of the costs of matching; defaults as published."""

    classification: float = 5.0
    mask: float = 10.0
    dice: float = 10.0
