"""`multishift engine build`."""

from __future__ import annotations

from pathlib import Path

import click

from multishift_training.cli.bundle import (
    Origin,
    SizedFrames,
    bundle_options,
    calibrated,
    write_bundle,
)
from multishift_training.export import Target
from multishift_training.frames import open_frames
from multishift_training.trained import open_trained


@click.command()
@click.argument('checkpoint', type=click.Path(path_type=Path))
@bundle_options
def command(
    checkpoint: Path, out: Path, targets: tuple[Target, ...], batch: int, data: Path
) -> None:
    """Build an engine bundle from CHECKPOINT, a `best.safetensors` of `multishift train`.

    The score is calibrated on the run's validation frames.
    """
    model, config, metrics = open_trained(checkpoint)
    frames = SizedFrames(
        open_frames(config.val, data, checkpoint.parent / 'cache'), config.engine_size
    )
    calibration = calibrated(
        model,
        frames,
        workers=config.workers,
        dataset=f'validation frames ({config.val.model_dump_json()})',
    )
    origin = Origin(
        model=config.model,
        method=', then '.join(stage.name for stage in config.stages),
        provenance={
            'configuration': config.model_dump(mode='json'),
            'validation': metrics,
            'command': f'multishift train CONFIG; multishift engine build {checkpoint.name}',
        },
    )
    write_bundle(out, model, calibration, frames, batch=batch, targets=targets, origin=origin)
