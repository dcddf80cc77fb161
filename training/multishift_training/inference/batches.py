# SPDX-License-Identifier: Apache-2.0
"""A network over batches of labelled frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.progress import track
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.models.input_scale import Normalize
from multishift_training.scores.rescored import score_of


class Outputs(NamedTuple):
    """What a network says of a batch, at input resolution.

    Attributes:
        labels: most likely class ``uint8 [B,H,W]``.
        score: the network's own ``float32 [B,H,W]``.
        others: scores that were asked for besides, by name, ``float32 [B,H,W]``.
        truth: ground truth ``uint8 [B,H,W]``.
    """

    labels: NDArray[np.uint8]
    score: NDArray[np.float32]
    others: Mapping[str, NDArray[np.float32]]
    truth: NDArray[np.uint8]


@torch.inference_mode()
def predict_batches(
    model: SegmentationModel,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    others: Sequence[str] = (),
) -> Iterator[Outputs]:
    """Yield what a network, put into evaluation mode, says of batches.

    Args:
        model: the network.
        batches: images ``uint8 [B,H,W,3]`` and labels ``uint8 [B,H,W]``.
        others: names of scores to give besides its own, of those that are neither fitted nor
            take passes of their own.
    """
    device = next(model.parameters()).device
    normalize = Normalize(model.input_scale).to(device)
    read_off = {name: score_of(name) for name in others}
    model.eval()
    for images, truth in batches:
        prediction: Prediction = model(normalize(images.to(device, non_blocking=True)))
        yield Outputs(
            prediction.logits.argmax(1).to(torch.uint8).cpu().numpy(),
            prediction.score.cpu().numpy(),
            {name: score(prediction).cpu().numpy() for name, score in read_off.items()},
            truth.numpy(),
        )


def pooled_scores(
    model: SegmentationModel, batches: Iterable[tuple[Tensor, Tensor]], *, stride: int = 3
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the scores of known and of novel pixels, every ``stride``-th row and column."""
    known: list[NDArray[np.float32]] = []
    novel: list[NDArray[np.float32]] = []
    for batch in predict_batches(model, track(batches, 'calibrate', unit='batch', leave=False)):
        score = batch.score[:, ::stride, ::stride]
        truth = batch.truth[:, ::stride, ::stride]
        known.append(score[(truth != NOVEL) & (truth != VOID)])
        novel.append(score[truth == NOVEL])
    return np.concatenate(known), np.concatenate(novel)
