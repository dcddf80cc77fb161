"""`multishift engine build`."""

from __future__ import annotations

from pathlib import Path

import click

from multishift_perception.errors import MultishiftError
from multishift_training.cli.bundle import (
    Origin,
    bundle_options,
    calibrated,
    write_bundle,
)
from multishift_training.cli.options import SizeType
from multishift_training.cli.presence import check_checkpoint, check_data
from multishift_training.export import Plan, check_plan


@click.command()
@click.argument('checkpoint', type=click.Path(path_type=Path))
@click.option(
    '--size',
    type=SizeType(),
    metavar='HxW',
    show_default="the run's engine_size",
    help='Rows and columns of the engine input, in pixels.',
)
@bundle_options('checkpoint')
def command(
    checkpoint: Path,
    size: tuple[int, int] | None,
    out: Path,
    plan: Plan,
    batch: int,
    data: Path,
) -> None:
    """Build an engine bundle from CHECKPOINT, a `best.safetensors` of `multishift train`.

    The score is calibrated on the run's validation frames.
    """
    config = check_checkpoint(checkpoint, data)
    size = size or config.engine_size
    if size is None:
        raise MultishiftError(f'the run of {checkpoint} sets no engine_size: give --size HxW')
    check_data(config.val, data)
    check_plan(plan)
    # What is wrong is said by now: torch takes seconds.
    from multishift_training.checkpoints.trained import open_trained
    from multishift_training.datasets import open_validation

    model, _, metrics = open_trained(checkpoint, root=data)
    cache = checkpoint.parent / 'cache'
    frames = open_validation(config.val, root=data, cache=cache, size=size)
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
    write_bundle(out, model, calibration, frames, batch=batch, plan=plan, origin=origin)
