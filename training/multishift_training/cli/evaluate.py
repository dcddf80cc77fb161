# SPDX-License-Identifier: Apache-2.0
"""`multishift evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, NamedTuple

import click

from multishift_perception.classes import CITYSCAPES, SemanticClass
from multishift_perception.cli.options import (
    DEFAULT_THRESHOLD,
    NameOf,
    backend_option,
    device_option,
    engine_option,
    force_option,
    json_option,
    report_option,
    threshold_option,
)
from multishift_perception.destinations import (
    EVALUATE,
    check_folder,
    keeping_others_out,
    report_of,
)
from multishift_perception.disk import reporting_full_disk
from multishift_perception.engine import EMBEDDED_BUNDLE, Engine, read_manifest
from multishift_perception.errors import MultishiftError
from multishift_perception.metrics import ANOMALY_TRACK, OBSTACLE_TRACK
from multishift_training import models
from multishift_training.cli.options import SizeType, data_option
from multishift_training.cli.presence import check_subject
from multishift_training.datasets.descriptions import read_datasets
from multishift_training.datasets.presence import check_data
from multishift_training.scores import SCORES, UNCERTAINTY, check_fit, check_scores, fitted_scores

if TYPE_CHECKING:
    from multishift_training.datasets import ValidationData
    from multishift_training.inference.runners import Runner

_PATH = click.Path(path_type=Path)
_FITTED = 'fitted'
_COMPONENTS = {'anomaly': ANOMALY_TRACK, 'obstacle': OBSTACLE_TRACK}


class _Subject(NamedTuple):
    """What is evaluated, and what names it in the report."""

    runner: Runner
    name: str
    provenance: dict[str, str]


@click.command()
@click.argument('datasets', metavar='DATASET...', type=_PATH, nargs=-1, required=True)
@report_option('report.html and metrics.json', required=True)
@engine_option
@click.option('--checkpoint', type=_PATH, help='Weights to run eagerly instead of an engine.')
@click.option(
    '--model',
    type=NameOf(lambda: models.NAMES),
    help='Network that the weights of --checkpoint are of, unless `multishift train` wrote them.',
)
@click.option(
    '--score',
    'scores',
    multiple=True,
    show_default=UNCERTAINTY,
    help=f'Score of a checkpoint; may be given several times: {", ".join(SCORES)}.',
)
@click.option(
    '--fit',
    type=_PATH,
    help=f'Labelled images to fit the {" or ".join(fitted_scores())} score on, YAML.',
)
@click.option(
    '--size',
    type=SizeType(),
    metavar='HxW',
    show_default='those of each image',
    help="Rows and columns that a checkpoint's network sees.",
)
@click.option(
    '--components',
    type=click.Choice(tuple(_COMPONENTS)),
    help="Count objects too, by the least sizes of SegmentMeIfYouCan's anomaly or obstacle "
    'track; takes a second pass.',
)
@backend_option
@device_option
@threshold_option
@data_option
@force_option
@json_option('the metrics')
@click.pass_context
def command(
    ctx: click.Context,
    datasets: tuple[Path, ...],
    bundle: Path | None,
    checkpoint: Path | None,
    model: str | None,
    scores: tuple[str, ...],
    fit: Path | None,
    size: tuple[int, int] | None,
    components: str | None,
    backend: str,
    device: int,
    threshold: float,
    data: Path,
    out: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Measure an engine, or a checkpoint, on labelled images.

    DATASET is a YAML file that describes data sets by name, such as `dusk: {kind: camvid, split:
    train, patterns: ['0001TP*'], held_out: [rider]}`.

    Images that cannot be read are left out, counted and named. The same command goes on where an
    interrupted one stopped.
    """
    _check_options(bundle, checkpoint, model, scores, fit, size, backend, threshold)
    kind = report_of(EVALUATE)
    reads = (bundle, checkpoint)
    check_folder(out, kind, option='--out', force=force, reads=reads, scraps=('cache',))
    ctx.with_resource(keeping_others_out(out, option='--out'))
    descriptions = read_datasets(datasets)
    fitted = {} if fit is None else read_datasets([fit])
    for description in (*descriptions.values(), *fitted.values()):
        check_data(description, data)
    if checkpoint is None:
        read_manifest(bundle or EMBEDDED_BUNDLE)
    else:
        check_subject(checkpoint, model, data)
    # What is wrong is said by now: torch takes seconds.
    from multishift_training.datasets import open_validation
    from multishift_training.evaluation.evaluate import evaluate
    from multishift_training.evaluation.progress import Progress
    from multishift_training.evaluation.report import EvaluationReport, to_json, write_report
    from multishift_training.evaluation.table import summary

    cache = out / 'cache'  # of rendered frames
    opened = {
        name: open_validation(description, root=data, cache=cache)
        for name, description in descriptions.items()
    }
    subject = (
        _engine(bundle, backend, device, threshold)
        if checkpoint is None
        else _network(
            checkpoint,
            model,
            scores or (UNCERTAINTY,),
            size,
            list(fitted.values()),
            root=data,
            device=device,
            cache=cache,
        )
    )
    counted = None if components is None else _COMPONENTS[components]
    described = {k: d.model_dump(mode='json', exclude_none=True) for k, d in descriptions.items()}
    with subject as (runner, name, origin):
        same = {key: value for key, value in origin.items() if key != 'created'}
        run = {'subject': same, 'scores': runner.scores, 'components': components}
        progress = Progress(cache / 'unfinished', {**run, 'datasets': described})
        with reporting_full_disk(out):  # what is judged so far is kept there
            results = evaluate(opened, runner, progress=progress, components=counted)
    report = EvaluationReport(
        subject=name,
        classes=runner.classes,
        scores=runner.scores,
        results=results,
        descriptions=described,
        components=counted,
        provenance=origin,
    )
    with reporting_full_disk(out):
        page = write_report(report, out)
    rmtree(cache / _FITTED, ignore_errors=True)
    progress.remove()
    click.echo(to_json(report) if as_json else f'{summary(results)}\n\n{page}', nl=not as_json)


def _check_options(
    bundle: Path | None,
    checkpoint: Path | None,
    model: str | None,
    scores: tuple[str, ...],
    fit: Path | None,
    size: tuple[int, int] | None,
    backend: str,
    threshold: float,
) -> None:
    """See that options go together.

    Raises:
        MultishiftError: if not.
    """
    if checkpoint is None:
        for option, value in (('--model', model), ('--score', scores), ('--size', size)):
            if value:
                raise MultishiftError(
                    f'{option} goes with --checkpoint: an engine has its score and size built in'
                )
    elif bundle is not None or backend != 'auto' or threshold != DEFAULT_THRESHOLD:
        raise MultishiftError(
            '--engine, --backend and --threshold do not go with --checkpoint: leave them out'
        )
    if scores:
        check_scores(scores)
    check_fit(scores, fit)


@contextmanager
def _engine(
    bundle: Path | None, backend: str, device: int, threshold: float
) -> Iterator[_Subject]:
    """Open an engine to be evaluated; it is closed when the block ends."""
    from multishift_perception.report.provenance import provenance
    from multishift_training.inference.runners import EngineRunner

    with Engine.load(bundle, backend=backend, device=device) as engine:
        name = f'{engine.name} ({engine.backend})'
        origin = {**provenance(engine), 'threshold of the anomaly mask': f'{threshold:g}'}
        yield _Subject(EngineRunner(engine, threshold), name, origin)


@contextmanager
def _network(
    checkpoint: Path,
    name: str | None,
    scores: tuple[str, ...],
    size: tuple[int, int] | None,
    fit_on: list[ValidationData],
    *,
    root: Path,
    device: int,
    cache: Path,
) -> Iterator[_Subject]:
    """Open the network of a checkpoint to be evaluated, its scores fitted where they are.

    Args:
        checkpoint: weights.
        name: of the network that published weights are of; None for those of a run of ours.
        scores: names of the scores.
        size: rows and columns that the network sees; those of each image if None.
        fit_on: what scores are fitted on.
        root: folder that relative data paths start from.
        device: number of the GPU.
        cache: of rendered frames, and of fitted statistics.
    """
    from multishift_perception.report.provenance import software
    from multishift_training.checkpoints.published import open_published
    from multishift_training.checkpoints.reading import hashes_of
    from multishift_training.checkpoints.trained import open_trained
    from multishift_training.datasets import open_validation, validation_loader
    from multishift_training.evaluation.progress import digest_of
    from multishift_training.inference.fitting import fit_scores
    from multishift_training.inference.runners import NetworkRunner

    classes: Sequence[SemanticClass] = CITYSCAPES
    if name is None:
        model, trained = open_trained(checkpoint, root=root)
        classes = trained.classes
    else:
        model, _ = open_published(checkpoint, name)
    opened = [
        open_validation(part, root=root, cache=cache, size=size).in_classes(classes)
        for part in fit_on
    ]
    batches = chain.from_iterable(validation_loader(images) for images in opened)
    hashes = ', '.join(f'{part} {digest}' for part, digest in hashes_of(checkpoint).items())
    # An interrupted evaluation goes on with the very statistics that it began with.
    described = '; '.join(part.model_dump_json(exclude_none=True) for part in fit_on)
    digest = digest_of([hashes, name, size, described], *(part.images for part in opened))
    fitted = fit_scores(model, scores, batches, kept=cache / _FITTED / digest[:16])
    runner = NetworkRunner(model, scores, size=size, fitted=fitted, device=device, classes=classes)
    origin = {
        'checkpoint': checkpoint.resolve().name,
        'SHA-256': hashes,
        'network': name or type(model).__name__,
        'input': "each image's own size" if size is None else f'{size[0]} x {size[1]}',
        'device': str(runner.device),
        **software(),
        **{f'{score} fitted on': described for score in fitted},
    }
    yield _Subject(runner, checkpoint.resolve().name, origin)
