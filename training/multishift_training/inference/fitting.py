"""Fits scores on labelled frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from multishift_perception.progress import track
from multishift_training.models import SegmentationModel
from multishift_training.models.input_scale import Normalize
from multishift_training.scores import find_score, fitted_scores
from multishift_training.scores.fitted import FittedScore, Fitting


@torch.no_grad()  # and not inference mode, whose tensors no later gradient may meet
def fit_scores(
    model: SegmentationModel, names: Sequence[str], batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, FittedScore]:
    """Return, by name, those of the scores that are fitted, fitted in one pass over the batches.

    Args:
        model: the network; it is put into evaluation mode.
        names: of scores; where none of them is fitted, nothing is run.
        batches: images ``uint8 [B,H,W,3]`` and labels ``uint8 [B,H,W]``.

    Raises:
        MultishiftError: a name is unknown, or the frames do not suffice.
    """
    fittings: dict[str, Fitting] = {
        name: find_score(name).implementation().fitting() for name in fitted_scores(names)
    }
    if not fittings:
        return {}
    device = next(model.parameters()).device
    normalize = Normalize(model.input_scale).to(device)
    model.eval()
    for images, truth in track(batches, f'fit {", ".join(fittings)}', unit='batch', leave=False):
        prediction, labels = model(normalize(images.to(device))), truth.to(device)
        for fitting in fittings.values():
            fitting.update(prediction, labels)
    return {name: fitting.result() for name, fitting in fittings.items()}
