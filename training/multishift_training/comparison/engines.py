# SPDX-License-Identifier: Apache-2.0
"""What the engines of an experiment take: built of finished runs, called in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import logging
from pathlib import Path
import tempfile

import numpy as np
import yaml

from multishift_perception.engine import MANIFEST, read_manifest
from multishift_perception.engine.timing import Candidate, Timing
from multishift_perception.engine.timing import measure as measure_engines
from multishift_perception.errors import MultishiftError
from multishift_perception.progress import track
from multishift_training.comparison.folder import ComparisonFolder, EngineTime
from multishift_training.comparison.jobs import Job
from multishift_training.comparison.measuring import training_images
from multishift_training.export import Precision, build
from multishift_training.scores import find_score, fitted_scores

logger = logging.getLogger(__name__)

_BACKEND = 'openvino'


def time_engines(
    folder: ComparisonFolder,
    jobs: Sequence[Job],
    *,
    root: Path,
    precision: Precision,
    seconds: float,
) -> None:
    """Build OpenVINO engines of what is trained, call them in turn, and record what they take.

    There is one for each way and score, of the first seed that is done: what an engine takes goes
    by the network and not by its weights. Scores that no engine can have are passed over, and
    engines that cannot be built, such as one that int8 rounds too much, with a warning. Engines
    stay in ``engines/``; those that are newer than their weights are not built again.

    Args:
        folder: of the experiment.
        jobs: what there is to do for it; those that are not done are passed over.
        root: folder that relative data paths start from.
        precision: ``fp32`` or ``int8``.
        seconds: how long each engine is called, in all.

    Raises:
        MultishiftError: nothing is done yet, no engine can be built, or one cannot be loaded.
    """
    wanted = list(_wanted(folder, jobs))
    if not wanted:
        raise MultishiftError(f'{folder.path}: no run is done yet: leave out --time-engines first')
    built: dict[tuple[str, str], Path] = {}
    faults: list[MultishiftError] = []
    for job, score in track(wanted, 'build', unit='engine', leave=False):
        try:
            bundle = _build(folder, job, score, root=root, precision=precision)
        except MultishiftError as error:
            faults.append(MultishiftError(f'engine of {job} ({score}): {error}'))
            logger.warning('left out: %s', faults[-1])
        else:
            built[job.way, score] = bundle
    if not built:
        raise faults[0]
    candidates = [Candidate(bundle, _BACKEND) for bundle in built.values()]
    timings = measure_engines(candidates, seconds=seconds)
    times: dict[str, dict[str, EngineTime]] = {}
    for (way, score), timing in zip(built, timings, strict=True):
        times.setdefault(way, {})[score] = _time(timing)
    folder.set_engine_times(precision, times)


def _wanted(folder: ComparisonFolder, jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
    for job in folder.first_done(jobs):
        for score in job.training.scores:
            if find_score(score).obstacle is None:
                yield job, score


def _build(
    folder: ComparisonFolder, job: Job, score: str, *, root: Path, precision: Precision
) -> Path:
    """Return the bundle of a job and score, building it unless it is there."""
    bundle, weights = folder.engine(job, score, precision), folder.weights(job)
    if _is_newer(bundle, weights):
        return bundle
    bundle.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        fit = None
        if fitted_scores([score]):
            fit = Path(scratch) / 'training.yaml'
            images = training_images(job.training.data)
            parts = {f'part {i}': part.model_dump(mode='json') for i, part in enumerate(images)}
            fit.write_text(yaml.safe_dump(parts))
        build(
            weights,
            bundle,
            targets=[_BACKEND],
            precision=precision,
            score=score,
            fit=fit,
            data=root,
        )
    return bundle


def _is_newer(bundle: Path, weights: Path) -> bool:
    try:
        read_manifest(bundle)
    except MultishiftError:
        return False
    return (bundle / MANIFEST).stat().st_mtime > weights.stat().st_mtime


def _time(timing: Timing) -> EngineTime:
    medians = [1e3 * float(np.median(calls)) for calls in timing.rounds]
    return EngineTime(
        milliseconds=float(np.median(medians)),
        least=min(medians),
        largest=max(medians),
        cpu_milliseconds=1e3 * timing.cpu_per_frame,
    )
