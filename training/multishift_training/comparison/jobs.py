# SPDX-License-Identifier: Apache-2.0
"""What there is to do for an experiment: a training for each seed and way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multishift_training.comparison.config import (
    CLOSED_WORLD,
    ClosedWorldTraining,
    Experiment,
    Way,
    wants_generated,
)
from multishift_training.loop.config import TrainConfig


@dataclass(frozen=True)
class Job:
    """A training with a seed, and what is measured of it.

    Attributes:
        seed: of everything random.
        way: name of what is compared, or of the closed world.
        training: its description.
    """

    seed: int
    way: str
    training: ClosedWorldTraining | Way

    def __str__(self) -> str:
        """Return its name in messages."""
        return f'seed {self.seed}: {self.way}'

    @property
    def starts_from(self) -> str | None:
        """The way, or the closed world, of the same seed that it starts from, if any."""
        if not isinstance(self.training, Way) or self.training.weights is not None:
            return None
        return self.training.starts_from or CLOSED_WORLD

    @property
    def is_generated(self) -> bool:
        """Whether it learns from partners that are generated first."""
        return wants_generated(self.training)

    def described(self) -> dict[str, Any]:
        """Return all that decides its weights, beside those it starts from, JSON-ready."""
        content = self.training.model_dump(mode='json', exclude={'scores'})
        return {**content, 'seed': self.seed}

    def config(self, *, start: Path | None, generated: Path) -> TrainConfig:
        """Return the configuration of its run.

        Args:
            start: the weights that it starts from; None for those that it names itself.
            generated: folder of generated partners.
        """
        content = self.described()
        content.pop('starts_from', None)
        if self.is_generated:
            partners = {'kind': 'multishift_cityscapes', 'root': str(generated)}
            content['data'] = {**content['data'], 'partners': partners}
        if start is not None:
            content['weights'] = str(start)
        return TrainConfig.model_validate(content)


def list_jobs(experiment: Experiment, seeds: Sequence[int]) -> list[Job]:
    """Return the jobs of some seeds: one seed after the other, its closed world first."""
    return [
        Job(seed, way, training)
        for seed in seeds
        for way, training in experiment.trainings.items()
    ]
