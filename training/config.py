"""Typed, validated training configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
import yaml

from multishift_perception.errors import MultishiftError, schema_faults
from multishift_training import models

Size = tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra='forbid', frozen=True)


class SampleDriveData(_Strict):
    """Independent frames of the synthetic drive; ``seed`` is that of the first frame."""

    kind: Literal['sample_drive']
    split: Literal['train', 'val', 'demo']
    frames: int = Field(ge=1)
    seed: int = Field(ge=0)
    size: Size = (360, 640)


class FolderData(_Strict):
    """A folder of images with label maps of the same names.

    Attributes:
        images: folder of images, relative to the data root.
        labels: folder of PNG label maps.
        label_map: YAML file from raw label values to ours.
        patterns: which images to take, as globs over file names.
        paste_split: the sample drive's novel objects to paste, so that the uncertainty head has
            something to learn from (anomaly mix, as MultiShiftSeg pastes COCO objects). Objects
            the label map itself calls novel are void here: they are for evaluation only.
    """

    kind: Literal['folder']
    images: Path
    labels: Path
    label_map: Path
    patterns: list[str] = ['*']
    paste_split: Literal['train', 'val']


Data = Annotated[SampleDriveData | FolderData, Field(discriminator='kind')]


class Stage(_Strict):
    """A stretch of training.

    Attributes:
        epochs: passes over the training data.
        learning_rate: of AdamW at the start; it falls to zero along a cosine.
        trainable: prefixes of the parameters that learn; the others keep their values and, where
            nothing in a module learns, its batch statistics.
        cross_entropy: weight of the cross-entropy.
        contrastive: weight of the relative contrastive loss.
        margin: margin of the relative contrastive loss, in units of the score.
        init_uncertainty: start the uncertainty head from the classifier.
    """

    name: str
    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    trainable: list[str] = Field(min_length=1)
    cross_entropy: float = Field(ge=0)
    contrastive: float = Field(ge=0)
    margin: float = Field(default=5.0, gt=0)
    init_uncertainty: bool = False


class TrainConfig(_Strict):
    """A whole run."""

    model: str
    seed: int = 0
    train: Data
    val: Data
    engine_size: Size = Field(description='rows and columns of the engine this trains for')
    crop: Size
    scale: tuple[float, float] = Field(description='range of random zoom around engine_size')
    batch_size: int = Field(ge=2)
    class_weights: bool = Field(
        default=False, description='weigh classes in the cross-entropy by their rarity'
    )
    precision: Literal['fp32', 'bf16'] = 'fp32'
    weight_decay: float = Field(default=1e-4, ge=0)
    workers: int = Field(default=2, ge=0)
    stages: list[Stage] = Field(min_length=1)

    @field_validator('model')
    @classmethod
    def _known_model(cls, name: str) -> str:
        if name not in models.NAMES:
            raise ValueError(f'unknown model {name!r}: choose one of {", ".join(models.NAMES)}')
        return name


def read_config(path: Path) -> TrainConfig:
    """Read and validate a configuration file.

    Raises:
        MultishiftError: the file is missing, no YAML, or a field is wrong; the message names it.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise MultishiftError(
            f'{path} cannot be read ({error.strerror}): give a YAML file'
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MultishiftError(
            f'{path} is not valid YAML ({" ".join(str(error).split())})'
        ) from None
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        raise MultishiftError(f'{path}: {schema_faults(error)}') from None
