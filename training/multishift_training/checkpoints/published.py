# SPDX-License-Identifier: Apache-2.0
"""Networks with published weights, ready to run."""

from __future__ import annotations

from pathlib import Path

from multishift_perception.errors import MultishiftError
from multishift_training import checkpoints, models
from multishift_training.checkpoints import LoadReport
from multishift_training.checkpoints.key_matching import untrained
from multishift_training.models import SegmentationModel


def open_published(file: Path, name: str) -> tuple[SegmentationModel, LoadReport]:
    """Return a network with the weights of a file, all of them, in evaluation mode.

    Args:
        file: file of weights, or a Hugging Face folder.
        name: of the network, one of ``models.NAMES``.

    Raises:
        MultishiftError: the file does not fit, or is only a start for training.
    """
    # Its structure is the folder's; that of all others goes with their names.
    model = models.create(name, folder=file) if name in models.FROM_FOLDER else models.create(name)
    report = checkpoints.load(model, file)
    if parts := untrained(model, report):
        raise MultishiftError(
            f'{file} ({report.layout}) has no weights for {", ".join(parts)}: it is a start for '
            'training; give weights of the whole network'
        )
    return model.eval(), report
