"""`multishift import-checkpoint`."""

from __future__ import annotations

from pathlib import Path
import tempfile
from typing import TYPE_CHECKING, Any

import click

from multishift_perception.engine import Calibration
from multishift_perception.errors import MultishiftError
from multishift_perception.files import sha256
from multishift_training import models
from multishift_training.cli.bundle import (
    Origin,
    bundle_options,
    calibrated,
    write_bundle,
)
from multishift_training.cli.options import SizeType
from multishift_training.cli.presence import check_data, check_weights
from multishift_training.datasets import ValidationData
from multishift_training.datasets.config import SampleDriveData
from multishift_training.evaluation.descriptions import read_datasets
from multishift_training.export import Plan, check_plan

if TYPE_CHECKING:
    from multishift_training.checkpoints import LoadReport

_FRAMES = 4
_SEED = 7_000_000  # far from those of any training run
_MEND = 'fit it on frames of your own with --calibrate'


@click.command()
@click.argument('file', type=click.Path(path_type=Path))
@click.option(
    '--model',
    'name',
    type=click.Choice(models.NAMES),
    required=True,
    help='Network the weights are of; `mask2former` takes its structure from a folder.',
)
@click.option(
    '--size',
    type=SizeType(),
    metavar='HxW',
    default='1024x2048',
    help='Rows and columns of the engine input, in pixels.',
)
@click.option(
    '--calibrate',
    'dataset',
    type=click.Path(path_type=Path),
    help='YAML file that describes labelled frames, as for `multishift evaluate`.',
)
@bundle_options('file')
def command(
    file: Path,
    name: str,
    size: tuple[int, int],
    dataset: Path | None,
    out: Path,
    plan: Plan,
    batch: int,
    data: Path,
) -> None:
    """Build an engine bundle of the published weights in FILE.

    FILE is a file of torch.save, safetensors or detectron2, or a Hugging Face folder. Without
    --calibrate, the anomaly scale is fitted on a few frames of the synthetic sample drive, which
    is enough to try the engine, and no more: its operating point belongs to that drive.
    """
    source = _described(dataset) if dataset else _sample_drive(size)
    check_weights(file)
    check_data(source, data)
    check_plan(plan)
    # What is wrong is said by now: torch takes seconds.
    from multishift_training.checkpoints.published import open_published
    from multishift_training.datasets import open_validation

    model, report = open_published(file, name)
    click.echo(str(report))
    with tempfile.TemporaryDirectory() as cache:
        frames = open_validation(source, root=data, cache=Path(cache), size=size)
        description = f'frames ({source.model_dump_json()})'
        calibration = calibrated(model, frames, workers=0, dataset=description)
        if dataset is None:
            calibration = _provisional(calibration)
        origin = Origin(name, 'imported', _provenance(file, name, size, dataset, report))
        write_bundle(out, model, calibration, frames, batch=batch, plan=plan, origin=origin)
    if dataset is None:
        click.echo(
            'the operating point was fitted on the synthetic sample drive, not on your roads: '
            f'{_MEND}'
        )
    click.echo(f'next: multishift replay BAG --engine {out} --out report')


def _described(path: Path) -> ValidationData:
    """Return the one data set that a file describes."""
    found = read_datasets([path])
    if len(found) > 1:
        raise MultishiftError(f'{path} describes {len(found)} data sets: leave the one to fit on')
    return next(iter(found.values()))


def _sample_drive(size: tuple[int, int]) -> ValidationData:
    drive = SampleDriveData(
        kind='sample_drive', split='val', frames=_FRAMES, seed=_SEED, size=size
    )
    return ValidationData(images=drive)


def _provisional(calibration: Calibration) -> Calibration:
    """Say in the manifest that the fit is none for real roads."""
    return calibration.model_copy(
        update={
            'rule': f'{calibration.rule}; provisional: {_MEND}',
            'dataset': f'the synthetic sample drive, {calibration.dataset}',
        }
    )


def _provenance(
    file: Path, name: str, size: tuple[int, int], dataset: Path | None, report: LoadReport
) -> dict[str, Any]:
    from multishift_training.checkpoints.reading import weight_files

    imported = file.resolve().name
    calibrate = f' --calibrate {dataset.name}' if dataset else ''
    return {
        'checkpoint': imported,
        'sha256': {part.name: sha256(part) for part in weight_files(file)},
        'layout': report.layout,
        'missing': list(report.missing),
        'left_over': list(report.left_over),
        'command': (
            f'multishift import-checkpoint {imported} --model {name} '
            f'--size {size[0]}x{size[1]}{calibrate}'
        ),
    }
