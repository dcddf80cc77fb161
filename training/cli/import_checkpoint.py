"""`multishift import-checkpoint`."""

from __future__ import annotations

from pathlib import Path
import re
import tempfile
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError
import yaml

from multishift_perception.engine.manifest import Calibration
from multishift_perception.errors import MultishiftError, schema_faults
from multishift_perception.files import sha256
from multishift_training import checkpoints, models
from multishift_training.checkpoints import LoadReport
from multishift_training.checkpoints.matching import untrained
from multishift_training.checkpoints.reading import weight_files
from multishift_training.cli.bundle import (
    Origin,
    SizedFrames,
    bundle_options,
    calibrated,
    write_bundle,
)
from multishift_training.config import Data, FolderData, SampleDriveData
from multishift_training.export import Target
from multishift_training.frames import open_frames
from multishift_training.models import SegmentationModel

_FRAMES = 4
_SEED = 7_000_000  # far from those of any training run
_SMALLEST = 16
_MEND = 'fit it on frames of your own with --calibrate'


class _Size(click.ParamType[tuple[int, int]]):
    """Rows and columns in pixels, as ``1024x2048``."""

    name = 'HxW'

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        found = re.fullmatch(r'(\d{1,5})x(\d{1,5})', str(value))
        if not found or min(map(int, found.groups())) < _SMALLEST:
            self.fail(
                f'{value!r} is no size: give rows x columns, each at least {_SMALLEST}, '
                'for example 1024x2048',
                param,
                ctx,
            )
        return int(found[1]), int(found[2])


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
    type=_Size(),
    metavar='HxW',
    default='1024x2048',
    show_default=True,
    help='Rows and columns of the engine input, in pixels.',
)
@click.option(
    '--calibrate',
    'dataset',
    type=click.Path(path_type=Path),
    help='YAML file that describes labelled frames, as `val` of a training configuration does.',
)
@bundle_options
def command(
    file: Path,
    name: str,
    size: tuple[int, int],
    dataset: Path | None,
    out: Path,
    targets: tuple[Target, ...],
    batch: int,
    data: Path,
) -> None:
    """Build an engine bundle of the published weights in FILE.

    FILE is a file of torch.save, safetensors or detectron2, or a Hugging Face folder. Without
    --calibrate, the anomaly scale is fitted on a few frames of the synthetic sample drive, which
    is enough to try the engine, and no more: its operating point belongs to that drive.
    """
    source = _read_dataset(dataset) if dataset else _sample_drive(size)
    model, report = _loaded(file, name)
    click.echo(str(report))
    with tempfile.TemporaryDirectory() as cache:
        frames = SizedFrames(open_frames(source, data, Path(cache)), size)
        description = f'frames ({source.model_dump_json()})'
        calibration = calibrated(model, frames, workers=0, dataset=description)
        if dataset is None:
            calibration = _provisional(calibration)
        origin = Origin(name, 'imported', _provenance(file, name, size, dataset, report))
        write_bundle(out, model, calibration, frames, batch=batch, targets=targets, origin=origin)
    if dataset is None:
        click.echo(
            'the operating point was fitted on the synthetic sample drive, not on your roads: '
            f'{_MEND}'
        )
    click.echo(f'next: multishift replay BAG --engine {out} --report report')


def _loaded(file: Path, name: str) -> tuple[SegmentationModel, LoadReport]:
    """Return the network with the weights of a file, all of them.

    Raises:
        MultishiftError: the file does not fit, or is only a start for training.
    """
    # Its structure is the folder's; that of all others goes with their names.
    model = models.create(name, folder=file) if name == models.FROM_FOLDER else models.create(name)
    report = checkpoints.load(model, file)
    if parts := untrained(model, report):
        raise MultishiftError(
            f'{file} ({report.layout}) has no weights for {", ".join(parts)}: it is a start for '
            'training; give weights of the whole network'
        )
    return model, report


def _read_dataset(path: Path) -> SampleDriveData | FolderData:
    """Read the description of a data set.

    Raises:
        MultishiftError: the file is missing, no YAML, or a field is wrong; the message names it.
    """
    adapter: TypeAdapter[SampleDriveData | FolderData] = TypeAdapter(Data)
    try:
        return adapter.validate_python(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise MultishiftError(
            f'{path} cannot be read ({error.strerror}): give a YAML file that describes frames'
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MultishiftError(
            f'{path} is not valid YAML ({" ".join(str(error).split())})'
        ) from None
    except ValidationError as error:
        raise MultishiftError(f'{path}: {schema_faults(error)}') from None


def _sample_drive(size: tuple[int, int]) -> SampleDriveData:
    return SampleDriveData(kind='sample_drive', split='val', frames=_FRAMES, seed=_SEED, size=size)


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
