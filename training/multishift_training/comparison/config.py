# SPDX-License-Identifier: Apache-2.0
"""Typed, validated description of an experiment: ways of training, compared on the same tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from multishift_perception.errors import MultishiftError
from multishift_perception.schema.open_union import OpenUnion
from multishift_perception.schema.words import Words, check_name
from multishift_perception.schema.yaml_files import read_typed
from multishift_training.datasets.config import Size, Strict
from multishift_training.datasets.training_data import (
    PartnerData,
    TrainingData,
    ValidationData,
    partner_models,
)
from multishift_training.loop.config import TrainConfig
from multishift_training.scores import UNCERTAINTY, check_scores

CLOSED_WORLD = 'closed world'

# More are no experiment: each is a training of every way.
_MOST_SEEDS = 1000
# Bytes of a folder's name: file systems allow 255, and some are for what names that begin with it.
_LONGEST_FOLDER = 200

Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _counted(given: Any) -> Any:
    is_number = isinstance(given, int) and not isinstance(given, bool)
    return list(range(given)) if is_number and 0 < given <= _MOST_SEEDS else given


def _known(scores: list[str]) -> list[str]:
    try:
        check_scores(scores)
    except MultishiftError as error:
        raise ValueError(str(error)) from None
    return scores


Scores = Annotated[list[str], AfterValidator(_known)]


class GeneratedPartners(Strict):
    """Partners that `multishift augment` makes first, as `augmentation` says."""

    kind: Literal['generated']


_WayPartners = Annotated[
    PartnerData | GeneratedPartners, OpenUnion(lambda: (*partner_models(), GeneratedPartners))
]


class WayData(TrainingData):
    """What a way learns from: what any training does, or generated partners.

    Attributes:
        partners: images of the same scenes in another domain; those of kind ``generated`` are
            made first.
    """

    # More than any training takes, and replaced before training starts.
    partners: _WayPartners | None = None  # type: ignore[assignment]


class ClosedWorldTraining(TrainConfig):
    """The training that all ways begin with, once for each seed.

    Attributes:
        scores: what it is measured with; its uncertainty head was never trained. Those that are
            fitted are so on the images that it learned from.
    """

    scores: Scores = ['max_softmax', 'energy']


class Way(TrainConfig):
    """A training that starts from the closed world of the same seed, or goes on from another way.

    One with ``weights`` of its own starts from those instead, as what puts norms into a backbone
    may have to.

    Attributes:
        data: what to train on.
        starts_from: name of a way above this one whose best weights it starts from; if none, those
            of the closed world.
        scores: what it is measured with; those that are fitted as of the closed world.
    """

    data: WayData
    starts_from: str | None = None
    scores: Scores = [UNCERTAINTY]


class Test(ValidationData):
    """Images that all are measured on.

    Attributes:
        size: rows and columns that the network sees of them; if none, its ``engine_size``.
            Figures are of the images at their own size.
    """

    size: Size | None = None


class Experiment(Strict):
    """A whole experiment.

    Attributes:
        augmentation: configuration file of the partners of kind ``generated``; relative to the
            working directory.
        tests: data sets to measure on, by name.
        means: tests whose figures are averaged too, each a list of their names.
        base: anything that other keys take over by YAML's ``<<``; not read itself.
        seeds: how many, from 0 on, or which. Each has a closed world of its own.
        closed_world: the training that all begin with.
        ways: the trainings that are compared, by name.
        baseline: the way, or ``closed world``, that the others' differences are to, by seed.
        baseline_score: one of its scores; if none, its first.
    """

    augmentation: Path | None = None
    tests: dict[str, Test] = Field(min_length=1)
    means: list[Annotated[list[str], Field(min_length=2)]] = []
    base: dict[str, Any] = {}
    seeds: Annotated[
        list[Seed],
        Field(min_length=1, max_length=_MOST_SEEDS),
        BeforeValidator(_counted),
        Words(f'a whole number from 1 to {_MOST_SEEDS}, or a list of so many whole numbers'),
    ] = [0, 1, 2]
    closed_world: ClosedWorldTraining
    ways: dict[str, Way]
    baseline: str = CLOSED_WORLD
    baseline_score: str | None = None

    @field_validator('seeds')
    @classmethod
    def _differ(cls, seeds: list[int]) -> list[int]:
        if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            raise ValueError(f'seed {twice[0]} stands twice: name each seed once')
        return seeds

    @field_validator('tests')
    @classmethod
    def _parts_have_names_of_their_own(cls, tests: dict[str, Test]) -> dict[str, Test]:
        for name in tests:
            if ',' in name or name.startswith('mean of '):
                raise ValueError(f'{name!r} is how parts of tests are called: name it otherwise')
        return tests

    @model_validator(mode='after')
    def _fitting(self) -> Experiment:
        self._check_ways()
        for names in self.means:
            for name in names:
                _check('means', name, 'test', self.tests)
            if len({*names}) < len(names):
                raise ValueError(f'means: {", ".join(names)}: name each test once')
        _check('baseline', self.baseline, 'way', self.trainings)
        if self.baseline_score is not None:
            scores = self.trainings[self.baseline].scores
            _check('baseline_score', self.baseline_score, f'score of {self.baseline}', scores)
        return self

    def _check_ways(self) -> None:
        if not self.ways:
            raise ValueError('ways: there is none: describe a training to compare')
        folders = {folder_name(CLOSED_WORLD): CLOSED_WORLD}
        for name, way in self.ways.items():
            if not folder_name(name):
                raise ValueError(f'ways: {name!r} names no folder: take letters or digits')
            if len(folder_name(name).encode()) > _LONGEST_FOLDER:
                raise ValueError(
                    f'ways: {name[:20]!r}... is too long for a folder: take a shorter name'
                )
            if other := folders.get(folder_name(name)):
                raise ValueError(f'ways: {name!r} and {other!r} would share a folder: rename one')
            if way.starts_from is not None:
                above = list(folders.values())
                _check(f'ways: {name}: starts_from', way.starts_from, 'way above it', above)
                if way.weights is not None:
                    raise ValueError(f'ways: {name}: weights and starts_from: leave out one')
            folders[folder_name(name)] = name
        for name, training in self.trainings.items():
            if 'seed' in training.model_fields_set:
                raise ValueError(f'{name}: seed: set `seeds` of the experiment')
            if wants_generated(training) and self.augmentation is None:
                raise ValueError(f'{name}: generated partners want `augmentation`: set it')

    @property
    def trainings(self) -> dict[str, ClosedWorldTraining | Way]:
        """The closed world, and the ways, by name."""
        return {CLOSED_WORLD: self.closed_world, **self.ways}


def _check(key: str, name: str, sort: str, names: Iterable[str]) -> None:
    try:
        check_name(name, sort, list(names))
    except ValueError as error:
        raise ValueError(f'{key}: {error}') from None


def wants_generated(training: TrainConfig) -> bool:
    """Return whether a training learns from partners that are generated first."""
    return isinstance(training.data.partners, GeneratedPartners)


def folder_name(way: str) -> str:
    """Return the name of a way's folder."""
    return re.sub(r'\W+', '_', way).strip('_')


def read_experiment(path: Path) -> Experiment:
    """Read and validate a configuration file.

    Raises:
        MultishiftError: the file is missing, no YAML, or a field is wrong; the message names it.
    """
    return read_typed(path, Experiment, 'an experiment')
