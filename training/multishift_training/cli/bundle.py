"""What the commands that build engine bundles share: options, calibration, export."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from multishift_perception.destinations import check_bundle, check_file
from multishift_perception.engine import Artifact, Calibration
from multishift_perception.errors import MultishiftError
from multishift_training.cli.options import data_option
from multishift_training.export import (
    DEFAULT_TARGETS,
    PRECISIONS,
    TARGETS,
    Plan,
    Precision,
)
from multishift_training.export.calibration import fit_calibration
from multishift_training.export.onnx_kind import ONNX

if TYPE_CHECKING:
    from multishift_training.datasets.loading import ValidationSet
    from multishift_training.models import SegmentationModel

_PROBES = 2
_SAMPLES = 64

_OPTIONS = (
    click.option(
        '--out',
        type=click.Path(path_type=Path),
        required=True,
        help='Bundle to write; it replaces an older one, and nothing else.',
    ),
    click.option(
        '--target',
        'targets',
        multiple=True,
        default=DEFAULT_TARGETS,
        type=click.Choice(tuple(TARGETS)),
        help='Artifact to build; may be given several times. `tensorrt` builds on the GPU that '
        'will run it, `tensorrt-rtx` on any machine.',
    ),
    click.option(
        '--compute-capability',
        'capabilities',
        multiple=True,
        metavar='MAJOR.MINOR',
        help="Of the vehicle's GPU, for `tensorrt-rtx`, such as 8.9; may be given several times.",
    ),
    click.option(
        '--precision',
        type=click.Choice(PRECISIONS),
        default='fp16',
        help='Of the TensorRT engines. int8 is for `openvino`, quantised on frames that the score '
        'is calibrated on; else that computes in fp32, as `torch` does.',
    ),
    click.option(
        '--onnx',
        type=click.Path(path_type=Path),
        help='Write the network as ONNX too, in fp32, to this file.',
    ),
    click.option('--force', is_flag=True, help='Replace the file of --onnx.'),
    click.option(
        '--batch',
        type=click.IntRange(min=1),
        default=1,
        help='Frames per engine call.',
    ),
    data_option,
)


def bundle_options(weights: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options ``out``, ``plan``, ``batch`` and ``data``.

    Places that it may not write to are refused before the command begins. The command itself
    checks the plan, once it has seen its files: that loads what builds it.

    Args:
        weights: the command's argument that names what it reads.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_plan(
            *,
            targets: tuple[str, ...],
            precision: Precision,
            capabilities: tuple[str, ...],
            onnx: Path | None,
            force: bool,
            out: Path,
            **others: Any,
        ) -> None:
            check_bundle(out, option='--out', reads=[others[weights]])
            if onnx is not None:
                _check_onnx(onnx, out, others[weights], force=force)
            command(out=out, plan=Plan(targets, precision, capabilities, onnx), **others)

        for option in reversed(_OPTIONS):
            with_plan = option(with_plan)
        return with_plan

    return decorate


def _check_onnx(file: Path, bundle: Path, weights: Path, *, force: bool) -> None:
    if file.resolve().is_relative_to(bundle.resolve()):
        raise MultishiftError(
            f'{file} lies in {bundle}, which is replaced as a whole: name another file'
        )
    check_file(file, ONNX, force=force, reads=[weights])


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
    from multishift_training.datasets.loading import validation_loader
    from multishift_training.inference.batches import pooled_scores

    known, novel = pooled_scores(model, validation_loader(frames, workers=workers))
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
    plan: Plan,
    origin: Origin,
) -> None:
    """Export a network, with probes and samples of ``frames``, and print what came of it.

    Raises:
        MultishiftError: an artifact differs from the eager graph by too much; nothing is written.
    """
    from multishift_training.export import export_bundle
    from multishift_training.export.deploy_graph import DeployGraph

    samples = min(_SAMPLES, len(frames)) if plan.precision == 'int8' else 0
    manifest = export_bundle(
        out,
        DeployGraph(model, calibration),
        calibration=calibration,
        probes=np.stack(_spread(frames, batch, _PROBES * batch)),
        targets=plan,
        samples=_spread(frames, batch, samples),
        **origin._asdict(),
    )
    for artifact in manifest.artifacts:
        click.echo(f'{artifact.backend}: {artifact.file}, {_proof(artifact, out)}')
    if plan.onnx is not None:
        click.echo(f'ONNX: {plan.onnx}')
    click.echo(f'bundle: {out}')


def _spread(frames: ValidationSet, batch: int, count: int) -> list[NDArray[np.uint8]]:
    """Return ``count`` frames, or the few more that fill the last batch, spread over all.

    They are in batches, ``uint8 [N,H,W,3]`` each.
    """
    chosen = np.linspace(0, len(frames) - 1, -(-count // batch) * batch).astype(int)
    return [
        np.stack([frames[int(i)][0].numpy() for i in indices])
        for indices in chosen.reshape(-1, batch)
    ]


def _proof(artifact: Artifact, bundle: Path) -> str:
    if artifact.parity is None:
        return f'not run yet: on the vehicle, run `multishift engine verify {bundle.name}`'
    return (
        f'{artifact.parity.label_agreement:.2%} of labels agree, '
        f'score within {artifact.parity.score_error:.2g}'
    )
