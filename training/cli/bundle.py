"""What the commands that build engine bundles share: options, calibration, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import click
import numpy as np
from torch.utils.data import DataLoader

from multishift_perception.engine.manifest import Calibration
from multishift_training.calibration import fit_calibration
from multishift_training.datasets.loading import ValidationSet
from multishift_training.deploy import DeployGraph
from multishift_training.export import TARGETS, Target, export_bundle
from multishift_training.models import SegmentationModel
from multishift_training.validate import pooled_scores

_PROBES = 2

_OPTIONS = (
    click.option(
        '--out',
        type=click.Path(path_type=Path, file_okay=False),
        required=True,
        help='Bundle to write.',
    ),
    click.option(
        '--target',
        'targets',
        multiple=True,
        default=TARGETS,
        type=click.Choice(get_args(Target)),
        show_default=True,
        help='Artifact to build; may be given several times.',
    ),
    click.option(
        '--batch',
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help='Frames per engine call.',
    ),
    click.option(
        '--data',
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        default=Path(),
        help='Folder that relative data paths start from; the current one when left out.',
    ),
)


def bundle_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options ``out``, ``targets``, ``batch`` and ``data``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def calibrated(
    model: SegmentationModel, frames: ValidationSet, *, workers: int, dataset: str
) -> Calibration:
    """Fit the calibration of a network, with a progress bar.

    Args:
        model: the network; it is put into evaluation mode.
        frames: what to fit on.
        workers: processes that read them.
        dataset: what the frames are, in words, for the manifest.
    """
    known, novel = pooled_scores(model, DataLoader(frames, num_workers=workers))
    return fit_calibration(known, novel, dataset=f'{len(frames)} {dataset}')


class Origin(NamedTuple):
    """Where a network comes from, for the manifest: see ``export_bundle``."""

    model: str
    method: str
    provenance: dict[str, Any]


def write_bundle(
    out: Path,
    model: SegmentationModel,
    calibration: Calibration,
    frames: ValidationSet,
    *,
    batch: int,
    targets: tuple[Target, ...],
    origin: Origin,
) -> None:
    """Export a network, with probes spread over ``frames``, and print what came of it.

    Raises:
        MultishiftError: an artifact differs from the eager graph by too much; nothing is written.
    """
    chosen = np.linspace(0, len(frames) - 1, _PROBES * batch).astype(int)
    probes = np.stack([frames[int(i)][0].numpy() for i in chosen])
    manifest = export_bundle(
        out,
        DeployGraph(model, calibration),
        calibration=calibration,
        probes=probes.reshape(_PROBES, batch, *probes.shape[1:]),
        targets=targets,
        **origin._asdict(),
    )
    for artifact in manifest.artifacts:
        click.echo(
            f'{artifact.backend}: {artifact.parity.label_agreement:.2%} of labels agree, '
            f'score within {artifact.parity.score_error:.2g}'
        )
    click.echo(f'bundle: {out}')
