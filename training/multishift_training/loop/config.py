# SPDX-License-Identifier: Apache-2.0
"""Typed, validated training configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from multishift_perception.schema.open_union import OpenUnion
from multishift_perception.schema.overrides import override
from multishift_perception.schema.words import Words
from multishift_perception.schema.yaml_files import read_document
from multishift_training.checkpoints.metadata import IMAGENET, ModelName, check_folder
from multishift_training.datasets import Size, Strict, TrainingData, ValidationData
from multishift_training.datasets.config import Positive, Weight
from multishift_training.datasets.training_data import check_classes
from multishift_training.methods import Method, registered

# Names of what a run leaves in its folder: its configuration, resolved; the state to resume from;
# its best weights.
CONFIG, LAST, BEST = 'config.yaml', 'last.pt', 'best.safetensors'


class Optimizer(Strict):
    """An optimiser of torch.

    Attributes:
        name: ``adam`` adds weight decay to the gradient, as MultiShiftSeg trains; ``adamw`` does
            not.
        learning_rate: at the start of the stage.
        weight_decay: of all parameters that ``decay`` names.
        decay: ``weights`` spares norms and embeddings, as Mask2Former does.
        backbone_factor: learning rate of the backbone, as a share of the others'.
        momentum: of ``sgd``.
    """

    name: Literal['adam', 'adamw', 'sgd'] = 'adamw'
    learning_rate: Positive
    weight_decay: Weight = 1e-4
    decay: Literal['all', 'weights'] = 'all'
    backbone_factor: Weight = 1.0
    momentum: Weight = 0.9


class Schedule(Strict):
    """How the learning rate moves over a stage, by step of the optimiser.

    Attributes:
        kind: ``constant``, ``cosine`` to zero, or ``poly``: ``(1 - share)^power``.
        power: of ``poly``.
        warmup_steps: steps over which the rate rises linearly from zero.
    """

    kind: Literal['constant', 'cosine', 'poly'] = 'constant'
    power: Positive = 0.9
    warmup_steps: int = Field(default=0, ge=0)


class Stage(Strict):
    """A stretch of training with an optimiser of its own.

    Attributes:
        name: of the stage, in log and messages.
        epochs: passes over the training data.
        trainable: prefixes of the parameters that learn, ``*`` for all; the others keep their
            values.
        method: the losses.
        optimizer: what moves the weights; new for each stage.
        schedule: of the learning rate.
        batch_norm: which batch norms use and update batch statistics: ``all``, frozen layers
            too, as the released MultiShiftSeg does (dropout is active there as well); those of
            parts that learn (``trained``); of these, only the ones outside the backbone
            (``decoder``), whose statistics of many more images a small batch would replace; or
            none (``frozen``).
        clip_norm: largest norm of the whole gradient.
        accumulate: batches per step of the optimiser.
        init_uncertainty: start the uncertainty head from the classifier.
    """

    name: str
    epochs: int = Field(ge=1)
    trainable: list[str] = Field(min_length=1)
    method: Annotated[Method, OpenUnion(registered)]
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    batch_norm: Literal['all', 'trained', 'decoder', 'frozen'] = 'all'
    clip_norm: Positive | None = None
    accumulate: int = Field(default=1, ge=1)
    init_uncertainty: bool = False


class TrainConfig(Strict):
    """A whole run.

    Attributes:
        model: name of the network.
        folder: of ``eomt`` and ``mask2former``: the Hugging Face folder that says what to build;
            relative to the data root, as ``weights``.
        weights: what to start from: ``imagenet``, the installed package of the backbone's
            ImageNet weights; or a checkpoint, a published one or one of ours, relative to the
            data root (a file called imagenet is ``./imagenet``).
        seed: of everything random.
        data: what to train on.
        val: what to validate on after every epoch.
        batch_size: images or pairs per step, over all processes together.
        precision: ``bf16`` is mixed: weights and losses stay in 32 bits.
        channels_last: keep images and weights with their channels last, which computes faster.
        loss_stride: losses are taken at every n-th row and column of the labels.
        monitor: what the best weights of the last stage are best by.
        engine_size: rows and columns of the engine this trains for, and of validation images; if
            none, those keep their own size.
        checkpoint_steps: steps of the optimiser between the states that a killed run resumes
            from; one is also written after every epoch.
        workers: processes that load data, for each process that trains.
        stages: in order.
    """

    model: ModelName
    folder: Path | None = None
    weights: Annotated[str, Words(f'{IMAGENET} or a path')] | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    data: TrainingData
    val: ValidationData
    engine_size: Size | None = None
    batch_size: int = Field(ge=1)
    precision: Literal['fp32', 'bf16'] = 'fp32'
    channels_last: bool = True
    loss_stride: int = Field(default=1, ge=1)
    monitor: Literal['ap', 'miou', 'miou+ap'] = 'ap'
    checkpoint_steps: int = Field(default=500, ge=1)
    workers: int = Field(default=4, ge=0)
    stages: list[Stage] = Field(min_length=1)

    @model_validator(mode='after')
    def _fitting(self) -> TrainConfig:
        check_folder(self)
        check_classes(self.val.images, self.data.classes)
        methods = [stage.method for stage in self.stages]
        if self.loss_stride > 1 and any(method.takes_masks for method in methods):
            raise ValueError('loss_stride: mask losses take every pixel: set 1')
        self._check_shared()
        domains = len(self.data.domains)
        if self.batch_size % domains:
            raise ValueError(
                f'batch_size: {self.batch_size} is no multiple of the {domains} domains of '
                'data.images, of which a batch holds equally many images each'
            )
        return self

    def _check_shared(self) -> None:
        """See that stages which share what a method made for the whole run agree on it."""
        first: dict[str, Stage] = {}
        for stage in self.stages:
            method, before = stage.method, first.setdefault(stage.method.kind, stage)
            if not method.lasts() or method == before.method:
                continue
            names = type(method).model_fields
            other = [n for n in names if getattr(method, n) != getattr(before.method, n)]
            raise ValueError(
                f'stages: {before.name} and {stage.name} share what method {method.kind} adds for '
                f'the whole run, and differ in its {", ".join(other)}: write the same in both'
            )


def read_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read and validate a configuration file.

    Args:
        path: of the file.
        overrides: values in place of the file's, as ``seed=3``; see `schema.overrides`.

    Raises:
        MultishiftError: the file is missing, no YAML, or a field is wrong; the message names it.
    """
    return override(read_document(path, 'a training configuration'), overrides).typed(TrainConfig)
