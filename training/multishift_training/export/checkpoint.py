# SPDX-License-Identifier: Apache-2.0
"""From a file of weights to an engine bundle, in one call.

Importing it loads no torch: what is wrong is said before that takes its time. What is said names
the options of the commands, `multishift engine build` and `multishift import-checkpoint`, which
are these functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

from multishift_perception.classes import CITYSCAPES
from multishift_perception.destinations import check_bundle, check_file, holds
from multishift_perception.engine import Manifest
from multishift_perception.errors import MultishiftError
from multishift_training.checkpoints.presence import check_checkpoint, check_weights
from multishift_training.datasets import ValidationData
from multishift_training.datasets.descriptions import read_datasets
from multishift_training.datasets.kinds import SampleDriveData
from multishift_training.datasets.presence import check_data
from multishift_training.export.onnx_kind import ONNX
from multishift_training.export.plan import DEFAULT_TARGETS, Plan, Precision
from multishift_training.export.targets import check_plan
from multishift_training.scores import UNCERTAINTY, check_fit, find_score

if TYPE_CHECKING:
    from multishift_training.checkpoints import LoadReport
    from multishift_training.datasets import ValidationSet
    from multishift_training.methods import Method

# Mend for a network that was calibrated on the sample drive.
CALIBRATE = 'fit it on frames of your own with --calibrate'
_FRAMES = 4
_SEED = 7_000_000  # far from those of any training run


def build(
    checkpoint: Path,
    out: Path,
    *,
    size: tuple[int, int] | None = None,
    targets: Sequence[str] = DEFAULT_TARGETS,
    precision: Precision = 'fp16',
    capabilities: Sequence[str] = (),
    onnx: Path | None = None,
    force: bool = False,
    batches: Sequence[int] = (1,),
    score: str = UNCERTAINTY,
    fit: Path | None = None,
    look: Path | None = None,
    data: Path = Path(),
) -> Manifest:
    """Build an engine bundle from a checkpoint of `multishift train`, as `engine build` does.

    The score is calibrated on the run's validation frames, and every artifact that this machine
    can run is proven to compute what the network does.

    Args:
        checkpoint: a ``best.safetensors``. Rendered frames stay in ``cache`` beside it.
        out: the bundle; it replaces an older one, and nothing else.
        size: rows and columns of the engine's input, in pixels; the run's own if None.
        targets: names of what to build, of ``TARGETS``.
        precision: of TensorRT engines, or ``int8`` for OpenVINO; see `Plan`.
        capabilities: compute capabilities that ``tensorrt-rtx`` builds for, such as ``8.9``.
        onnx: file for the network as ONNX too, in float32; none if None.
        force: replace that file.
        batches: how many frames engine calls may have; the node makes the largest it can fill.
        score: name of the score that the engine gives, of ``SCORES``.
        fit: YAML file that describes labelled images to fit the score on, where it is fitted.
        look: YAML file that describes images that look as the network knows it, each data set a
            domain of its own; if None, the frames that the score is calibrated on.
        data: folder that relative data paths start from.

    Returns:
        The manifest of the bundle.

    Raises:
        MultishiftError: something is missing or does not go together, which is said before any
            work, or an artifact does not compute what was trained. Nothing is written then.

    Example:
        >>> from pathlib import Path
        >>> from multishift_training.export import build
        >>> manifest = build(  # doctest: +SKIP
        ...     Path('runs/mine/best.safetensors'), Path('my_engine'), targets=['openvino']
        ... )
        >>> [artifact.file for artifact in manifest.artifacts]  # doctest: +SKIP
        ['openvino.xml']
    """
    plan = Plan(targets, precision, capabilities, onnx, batches)
    scoring = _Scoring.checked(score, fit)
    looks = {} if look is None else read_datasets([look])
    _check_places(out, plan, checkpoint, force=force)
    origin = check_checkpoint(checkpoint, data)
    run, classes = origin.run, origin.classes
    size = size or run.engine_size
    if size is None:
        raise MultishiftError(f'the run of {checkpoint} sets no engine_size: give --size HxW')
    for description in (run.val, *scoring.fit_on, *looks.values()):
        check_data(description, data)
    check_plan(plan)
    # What is wrong is said by now: torch takes seconds.
    from multishift_training.checkpoints.credits import credits_of
    from multishift_training.checkpoints.trained import open_trained
    from multishift_training.datasets import open_validation
    from multishift_training.export.assembly import Frames, ModelCard, assemble, rescored

    model = open_trained(checkpoint, root=data).model
    cache = checkpoint.parent / 'cache'

    def open_set(description: Any) -> ValidationSet:
        opened = open_validation(description, root=data, cache=cache, size=size)
        return opened.in_classes(classes)

    images = open_set(run.val)
    fit_on = [open_set(description) for description in scoring.fit_on]
    command = f'multishift train CONFIG; multishift engine build {checkpoint.name}'
    return assemble(
        out,
        rescored(model, score, fit_on),
        Frames(
            images,
            f'{len(images)} validation frames ({run.val.model_dump_json()})',
            domains={name: open_set(description) for name, description in looks.items()},
            look_words=_words(looks),
        ),
        plan=plan,
        card=ModelCard(
            model=run.model,
            method=', then '.join(stage.name for stage in run.stages),
            provenance={
                'configuration': origin.configuration,
                **_adapted_by(origin.adapting),
                'credits': credits_of(
                    origin.configuration, model.imagenet_package, origin.credits
                ),
                'validation': origin.metrics,
                **scoring.provenance,
                'command': f'{command}{scoring.options}',
            },
            classes=classes,
        ),
    )


def build_published(
    file: Path,
    out: Path,
    *,
    model: str,
    size: tuple[int, int] = (1024, 2048),
    calibrate: Path | None = None,
    targets: Sequence[str] = DEFAULT_TARGETS,
    precision: Precision = 'fp16',
    capabilities: Sequence[str] = (),
    onnx: Path | None = None,
    force: bool = False,
    batches: Sequence[int] = (1,),
    score: str = UNCERTAINTY,
    fit: Path | None = None,
    look: Path | None = None,
    data: Path = Path(),
    loaded: Callable[[LoadReport], None] | None = None,
) -> Manifest:
    """Build an engine bundle of published weights, as `import-checkpoint` does.

    Args:
        file: of torch.save, safetensors or detectron2, or a Hugging Face folder.
        out: as for `build`, like all that follow and are not named here.
        model: name of the network that the weights are of, of ``models.NAMES``.
        size: rows and columns of the engine's input, in pixels.
        calibrate: YAML file that describes the one data set to calibrate on. If None, that is a
            few frames of the synthetic sample drive: enough to try the engine, and no more.
        targets: see `build`.
        precision: see `build`.
        capabilities: see `build`.
        onnx: see `build`.
        force: see `build`.
        batches: see `build`.
        score: see `build`.
        fit: see `build`.
        look: see `build`.
        data: see `build`.
        loaded: is told what the file gave, before the work that takes minutes.

    Returns:
        The manifest of the bundle.

    Raises:
        MultishiftError: as for `build`, or the weights do not fit the network.
    """
    plan = Plan(targets, precision, capabilities, onnx, batches)
    scoring = _Scoring.checked(score, fit)
    looks = {} if look is None else read_datasets([look])
    _check_places(out, plan, file, force=force)
    source = _one_data_set(calibrate) if calibrate else _sample_drive(size)
    check_weights(file)
    for description in (source, *scoring.fit_on, *looks.values()):
        check_data(description, data)
    check_plan(plan)
    # What is wrong is said by now: torch takes seconds.
    from multishift_training.checkpoints.published import open_published
    from multishift_training.datasets import open_validation
    from multishift_training.export.assembly import Frames, ModelCard, assemble, rescored

    network, report = open_published(file, model)
    if loaded is not None:
        loaded(report)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)

        def open_set(description: Any) -> ValidationSet:
            opened = open_validation(description, root=data, cache=cache, size=size)
            return opened.in_classes(CITYSCAPES)

        images = open_set(source)
        words = f'{len(images)} frames ({source.model_dump_json()})'
        fit_on = [open_set(description) for description in scoring.fit_on]
        return assemble(
            out,
            rescored(network, score, fit_on),
            Frames(
                images,
                words if calibrate else f'the synthetic sample drive, {words}',
                caveat='' if calibrate else f'provisional: {CALIBRATE}',
                domains={name: open_set(description) for name, description in looks.items()},
                look_words=_words(looks),
            ),
            plan=plan,
            card=ModelCard(
                model, 'imported', _provenance(file, model, size, calibrate, report, scoring)
            ),
        )


class _Scoring(NamedTuple):
    """Which score an engine gives, and what it is fitted on.

    Attributes:
        name: of the score.
        fit_on: data sets; none where the score is not fitted.
        options: of the command, for the manifest; none for the network's own score.
    """

    name: str
    fit_on: Sequence[ValidationData]
    options: str

    @classmethod
    def checked(cls, name: str, fit: Path | None) -> _Scoring:
        """See that a score can be built into an engine, and is fitted where it must be.

        Raises:
            MultishiftError: if not.
        """
        find_score(name).check_exportable()
        check_fit([name], fit)
        options = '' if name == UNCERTAINTY else f' --score {name}'
        if fit is None:
            return cls(name, (), options)
        return cls(name, tuple(read_datasets([fit]).values()), f'{options} --fit {fit.name}')

    @property
    def provenance(self) -> dict[str, str]:
        """What the manifest says of it: nothing of the network's own."""
        if self.name == UNCERTAINTY:
            return {}
        said = {'score': self.name}
        if self.fit_on:
            parts = (part.model_dump_json(exclude_none=True) for part in self.fit_on)
            said['fitted on'] = '; '.join(parts)
        return said


def _adapted_by(methods: Sequence[Method]) -> dict[str, Any]:
    """Return what the manifest says of what changed the network itself: nothing of nothing."""
    if not methods:
        return {}
    return {'adapted by': [method.model_dump(mode='json') for method in methods]}


def _check_places(out: Path, plan: Plan, weights: Path, *, force: bool) -> None:
    """See that the bundle and the ONNX file may be written where they shall be."""
    check_bundle(out, option='--out', reads=[weights])
    if plan.onnx is None:
        return
    if holds(out, plan.onnx):
        raise MultishiftError(
            f'{plan.onnx} lies in {out}, which is replaced as a whole: name another file'
        )
    check_file(plan.onnx, ONNX, force=force, reads=[weights])


def _one_data_set(path: Path) -> ValidationData:
    """Return the one data set that a file describes."""
    found = read_datasets([path])
    if len(found) > 1:
        raise MultishiftError(f'{path} describes {len(found)} data sets: leave the one to fit on')
    return next(iter(found.values()))


def _words(looks: Mapping[str, ValidationData]) -> str:
    """Say what data sets are, for the manifest; nothing of none."""
    said = (f'{name} ({d.model_dump_json(exclude_none=True)})' for name, d in looks.items())
    return '; '.join(said)


def _sample_drive(size: tuple[int, int]) -> ValidationData:
    drive = SampleDriveData(
        kind='sample_drive', split='val', frames=_FRAMES, seed=_SEED, size=size
    )
    return ValidationData(images=drive)


def _provenance(
    file: Path,
    model: str,
    size: tuple[int, int],
    calibrate: Path | None,
    report: LoadReport,
    scoring: _Scoring,
) -> dict[str, Any]:
    from multishift_training.checkpoints.reading import hashes_of

    imported = file.resolve().name
    calibrated = f' --calibrate {calibrate.name}' if calibrate else ''
    return {
        'checkpoint': imported,
        'sha256': hashes_of(file),
        'layout': report.layout,
        'missing': list(report.missing),
        'left_over': list(report.left_over),
        **scoring.provenance,
        'command': (
            f'multishift import-checkpoint {imported} --model {model} '
            f'--size {size[0]}x{size[1]}{calibrated}{scoring.options}'
        ),
    }
