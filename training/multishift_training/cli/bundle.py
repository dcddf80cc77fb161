# SPDX-License-Identifier: Apache-2.0
"""What the commands that build engine bundles share: options, and what they print."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from multishift_perception.cli.options import NameOf, refuse_given
from multishift_perception.engine import Artifact, Manifest
from multishift_training.cli.options import data_option
from multishift_training.export import DEFAULT_TARGETS, PRECISIONS, TARGETS, Precision
from multishift_training.scores import SCORES, UNCERTAINTY, fitted_scores

_EXPORTABLE = [name for name, score in SCORES.items() if score.obstacle is None]
_FITTED = [name for name in fitted_scores() if name in _EXPORTABLE]


def _precision(ctx: click.Context, param: click.Parameter, value: Precision) -> Precision:
    """Return the precision; ``fp16``, the default, is refused if given where nothing takes it."""
    # Of the others the plan says so.
    able = [name for name, entry in TARGETS.items() if 'fp16' in entry.precisions]
    targets = ctx.params['targets']
    if value == 'fp16' and not set(able) & set(targets):
        why = f'is for --target {" or ".join(able)}, not {", ".join(targets)}: leave it out'
        refuse_given(ctx, (str(param.name),), f'fp16 {why}')
    return value


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
        type=NameOf(lambda: TARGETS),
        is_eager=True,
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
        callback=_precision,
        help='Of the TensorRT engines. int8 is for `openvino` too; else that computes in fp32, as '
        '`torch` does. int8 and fp8 are quantised on frames that the score is calibrated on.',
    ),
    click.option(
        '--onnx',
        type=click.Path(path_type=Path),
        help='Write the network as ONNX too, in fp32, to this file.',
    ),
    click.option('--force', is_flag=True, help='Replace the file of --onnx.'),
    click.option(
        '--batch',
        'batches',
        type=click.IntRange(min=1),
        multiple=True,
        default=(1,),
        help='Frames per engine call; may be given several times, such as 1, 2 and 4: the node '
        'calls the largest that the frames at hand fill.',
    ),
    click.option(
        '--score',
        default=UNCERTAINTY,
        help=f'Score that the engine gives: {", ".join(_EXPORTABLE)}.',
    ),
    click.option(
        '--fit',
        type=click.Path(path_type=Path),
        help=f'Labelled images to fit the {" or ".join(_FITTED)} score on, YAML.',
    ),
    click.option(
        '--look',
        type=click.Path(path_type=Path),
        show_default='the frames that the score is calibrated on',
        help='Images that look as the network knows it, YAML, each data set a domain of its own.',
    ),
    data_option,
)


def bundle_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that both functions of ``export`` which build have."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def show(manifest: Manifest, out: Path, onnx: Path | None) -> None:
    """Print what was built.

    Args:
        manifest: of the bundle.
        out: the bundle.
        onnx: the ONNX file, if there is one.
    """
    for artifact in manifest.artifacts:
        click.echo(f'{artifact.backend}: {artifact.file}, {_proof(artifact, out)}')
    if onnx is not None:
        click.echo(f'ONNX: {onnx}')
    click.echo(f'bundle: {out}')


def _proof(artifact: Artifact, bundle: Path) -> str:
    if artifact.parity is None:
        return f'not run yet: on the vehicle, run `multishift engine verify {bundle.name}`'
    return (
        f'{artifact.parity.label_agreement:.2%} of labels agree, '
        f'score within {artifact.parity.score_error:.2g}'
    )
