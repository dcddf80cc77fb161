"""`multishift engine build`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click
import numpy as np

from multishift_training import checkpoints
from multishift_training.calibration import fit_calibration
from multishift_training.dataset import ValidationSet, validation_loader
from multishift_training.deploy import DeployGraph
from multishift_training.export import TARGETS, Target, export_bundle
from multishift_training.frames import open_frames
from multishift_training.validate import pooled_scores

_PROBES = 2


@click.command()
@click.argument('checkpoint', type=click.Path(path_type=Path))
@click.option('--out', type=click.Path(path_type=Path), required=True, help='Bundle to write.')
@click.option(
    '--target',
    'targets',
    multiple=True,
    default=TARGETS,
    type=click.Choice(get_args(Target)),
    show_default=True,
    help='Artifact to build; may be given several times.',
)
@click.option('--batch', default=1, show_default=True, help='Frames per engine call.')
@click.option(
    '--data',
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path(),
    help="Folder that the data paths of the run's configuration start from.",
)
def command(
    checkpoint: Path, out: Path, targets: tuple[Target, ...], batch: int, data: Path
) -> None:
    """Build an engine bundle from CHECKPOINT, a `best.safetensors` of `multishift train`.

    The score is calibrated on the run's validation frames.
    """
    model, config, metrics = checkpoints.load(checkpoint)
    frames = open_frames(config.val, data, checkpoint.parent / 'cache')
    known, novel = pooled_scores(model, validation_loader(frames, config))
    dataset = f'{len(frames)} validation frames ({config.val.model_dump_json()})'
    calibration = fit_calibration(known, novel, dataset=dataset)
    validation = ValidationSet(frames, config)
    chosen = np.linspace(0, len(validation) - 1, _PROBES * batch).astype(int)
    probes = np.stack([validation[i][0].numpy() for i in chosen])
    manifest = export_bundle(
        out,
        DeployGraph(model, calibration),
        calibration=calibration,
        probes=probes.reshape(_PROBES, batch, *probes.shape[1:]),
        targets=targets,
        model=config.model,
        method=', then '.join(stage.name for stage in config.stages),
        provenance={
            'configuration': config.model_dump(mode='json'),
            'validation': metrics,
            'command': f'multishift train CONFIG; multishift engine build {checkpoint.name}',
        },
    )
    for artifact in manifest.artifacts:
        click.echo(
            f'{artifact.backend}: {artifact.parity.label_agreement:.2%} of labels agree, '
            f'score within {artifact.parity.score_error:.2g}'
        )
    click.echo(f'bundle: {out}')
