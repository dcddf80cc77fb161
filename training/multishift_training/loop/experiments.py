# SPDX-License-Identifier: Apache-2.0
"""Typed, validated description of an experiment: ways of training, compared on the same tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from multishift_perception.schema.open_union import OpenUnion
from multishift_training.datasets.config import Strict
from multishift_training.datasets.training_data import (
    Partners,
    TrainingData,
    ValidationData,
    partners,
)
from multishift_training.loop.config import TrainConfig


class GeneratedPartners(Strict):
    """Partners that `multishift augment` makes first, as `augmentation` says."""

    kind: Literal['generated']


_Partners = Annotated[
    Partners | GeneratedPartners, OpenUnion(lambda: (*partners(), GeneratedPartners))
]


class FineTuningData(TrainingData):
    """What a fine-tuning learns from: what any training does, or generated partners.

    Attributes:
        partners: images of the same scenes in another domain; those of kind ``generated`` are
            made first.
    """

    # More than any training takes, and replaced before training starts.
    partners: _Partners | None = None  # type: ignore[assignment]


class FineTuning(TrainConfig):
    """A fine-tuning: a training that starts from the closed world of the same seed.

    Attributes:
        data: what to train on.
    """

    data: FineTuningData


class Experiment(Strict):
    """A whole experiment.

    Attributes:
        augmentation: configuration file of the partners of kind ``generated``; relative to the
            working directory.
        tests: data sets to evaluate on, by name.
        base: anything that other keys take over by YAML's ``<<``; not read itself.
        closed_world: the training that all begin with.
        fine_tuning: the ways of training that are compared, by name.
    """

    augmentation: Path | None = None
    tests: dict[str, ValidationData] = Field(min_length=1)
    base: dict[str, Any] = {}
    closed_world: TrainConfig
    fine_tuning: dict[str, FineTuning]
