# SPDX-License-Identifier: Apache-2.0
"""Fits scores on labelled frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from multishift_perception.progress import track
from multishift_training.models import SegmentationModel
from multishift_training.models.input_scale import Normalize
from multishift_training.scores import find_score, fitted_scores
from multishift_training.scores.fitted import FittedScore


@torch.no_grad()  # and not inference mode, whose tensors no later gradient may meet
def fit_scores(
    model: SegmentationModel,
    names: Sequence[str],
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    kept: Path | None = None,
) -> dict[str, FittedScore]:
    """Return, by name, those of the scores that are fitted, fitted in one pass over the batches.

    Args:
        model: the network; it is put into evaluation mode.
        names: of scores; where none of them is fitted, nothing is run.
        batches: images ``uint8 [B,H,W,3]`` and labels ``uint8 [B,H,W]``.
        kept: folder for the statistics, for all that is said here to be the same. Those that are
            there are taken, and not fitted again. None to keep nothing.

    Raises:
        MultishiftError: a name is unknown, the frames do not suffice, or a kept file is broken.
    """
    classes: dict[str, type[FittedScore]] = {
        name: find_score(name).implementation() for name in fitted_scores(names)
    }
    files = {name: kept / f'{name}.safetensors' for name in classes} if kept is not None else {}
    loaded = {name: classes[name].load(file) for name, file in files.items() if file.is_file()}
    fitted = _fit(model, {n: cls for n, cls in classes.items() if n not in loaded}, batches)
    for name in fitted.keys() & files.keys():
        fitted[name].save(files[name])
    return {**loaded, **fitted}


def _fit(
    model: SegmentationModel,
    classes: Mapping[str, type[FittedScore]],
    batches: Iterable[tuple[Tensor, Tensor]],
) -> dict[str, FittedScore]:
    if not classes:
        return {}
    fittings = {name: fitted.fitting() for name, fitted in classes.items()}
    device = next(model.parameters()).device
    normalize = Normalize(model.input_scale).to(device)
    model.eval()
    for images, truth in track(batches, f'fit {", ".join(fittings)}', unit='batch', leave=False):
        prediction, labels = model(normalize(images.to(device))), truth.to(device)
        for fitting in fittings.values():
            fitting.update(prediction, labels)
    return {name: fitting.result() for name, fitting in fittings.items()}
