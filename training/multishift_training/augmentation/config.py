# SPDX-License-Identifier: Apache-2.0
"""Typed, validated configuration of an augmentation run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from multishift_perception.classes import CITYSCAPES
from multishift_perception.images.class_table import differences
from multishift_perception.schema.overrides import override
from multishift_perception.schema.words import Words, check_name, one_of
from multishift_perception.schema.yaml_files import read_document
from multishift_training.checkpoints.metadata import ModelName
from multishift_training.datasets import ImageData, Size, Strict
from multishift_training.datasets.config import (
    CocoObjects,
    Positive,
    Rising,
    SampleObjects,
    Share,
    refuse_renamed,
)
from multishift_training.scores import SCORES


class AdeObjects(Strict):
    """Instances of ADE20K-full, by the published list of classes that roads do not show.

    Attributes:
        root: folder of the release, which holds ``images/``.
        classes: the list to draw from: the 82 of training, or the 32 of validation.
    """

    kind: Literal['ade20k']
    root: Path = Path('ADE20K_2021_17_01')
    classes: Literal['train', 'val'] = 'train'


class CutoutObjects(Strict):
    """Objects of a folder: pictures with transparent ground, or masks (anything but 0).

    An object's class is its subfolder's name, or else its file's without trailing digits.

    Attributes:
        root: the folder; its subfolders are searched too.
    """

    kind: Literal['cutouts']
    root: Path


ObjectData = Annotated[
    AdeObjects | CocoObjects | CutoutObjects | SampleObjects, Field(discriminator='kind')
]


class PerspectivePlacement(Strict):
    """Objects stand on drivable ground at the size that they would have there.

    Attributes:
        height: least and largest height of an object, in metres.
        camera_height: of the camera above the ground, in metres.
        min_height: least height in the image, as a share of the image's.
    """

    kind: Literal['perspective']
    height: Annotated[tuple[Positive, Positive], Rising] = (0.25, 2.0)
    camera_height: Positive = 1.5
    min_height: Share = 0.03


class PublishedPlacement(Strict):
    """The released rule: centre on the road, longest side 200 to 500 pixels at 1024 x 2048."""

    kind: Literal['published']


Placement = Annotated[PerspectivePlacement | PublishedPlacement, Field(discriminator='kind')]


class ControlNetGenerator(Strict):
    """Stable Diffusion with a segmentation ControlNet, from local folders (``diffusers``).

    Attributes:
        base: folder of Stable Diffusion.
        controlnet: folder of the ControlNet.
        short_side: of the painted image, in pixels; sides are rounded to multiples of 64.
        steps: of DDIM.
        guidance: scale of classifier-free guidance.
        scale: of the ControlNet's residuals.
        precision: of the weights.
        batch_size: images painted together.
        attention_slicing: less memory, more time.
    """

    kind: Literal['controlnet']
    base: Path
    controlnet: Path
    short_side: int = Field(default=512, ge=64)
    steps: int = Field(default=50, ge=1)
    guidance: float = Field(default=9.0, ge=1)
    scale: Positive = 1.0
    precision: Literal['fp32', 'fp16', 'bf16'] = 'fp16'
    batch_size: int = Field(default=1, ge=1)
    attention_slicing: bool = False


class ProceduralGenerator(Strict):
    """Textures, light, weather and sensor noise, drawn from the label map; no weights.

    Attributes:
        detail: range of the share of the scene's own fine structure that is kept: 0 draws from
            the label map alone.
    """

    kind: Literal['procedural']
    detail: Annotated[tuple[Share, Share], Rising] = (0.0, 1.0)


class PastedWeatherGenerator(Strict):
    """The object's own picture pasted, then weather and light by rule."""

    kind: Literal['pasted_weather']


GeneratorConfig = Annotated[
    ControlNetGenerator | ProceduralGenerator | PastedWeatherGenerator,
    Field(discriminator='kind'),
    BeforeValidator(refuse_renamed),
]


class SamPresence(Strict):
    """A promptable segmenter must see the object; what it sees becomes the label.

    Attributes:
        folder: of SAM's weights (``transformers``).
        min_iou: with the placed mask.
    """

    kind: Literal['sam']
    folder: Path
    min_iou: Share = 0.7


class ClassicalPresence(Strict):
    """GrabCut must see the object; the label stays the placed mask, which the painter followed.

    Attributes:
        min_iou: with the placed mask.
    """

    kind: Literal['grabcut']
    min_iou: Share = 0.7


class Judge(Strict):
    """A network that judges: an engine bundle, or a checkpoint.

    Attributes:
        network: its folder or file.
        model: name of the network that a published checkpoint is of (docs/models.md); those of
            `multishift train` say it themselves.
        least: what its figure must reach, for the sample to be accepted.
    """

    network: Path
    model: ModelName | None = None
    least: float


def _detector_scores() -> list[str]:
    names = [score.name for score in SCORES.values() if score.needs_only_prediction]
    return ['calibrated', *names]


_DetectorScore = Annotated[
    str,
    AfterValidator(lambda name: check_name(name, 'score of a detector', _detector_scores())),
    Words(lambda: one_of(_detector_scores())),
]


class Detector(Judge):
    """A network whose anomaly score judges.

    Attributes:
        score: what ``least`` is in. A bundle's is ``calibrated`` (0 to 1, 0.5 at its operating
            point) or ``uncertainty``, the raw score that it was built with. A checkpoint's is the
            raw ``uncertainty`` of its head, or any other that needs no fitting (see ``scores``).
            If none, ``calibrated`` for a bundle and ``uncertainty`` for a checkpoint.
    """

    score: _DetectorScore | None = None


class Filters(Strict):
    """What a painted image must pass.

    Attributes:
        present: the object is seen.
        novel: mean anomaly score of a detector inside the object's mask.
        labels_kept: share of the known pixels outside it that a closed-world network gives their
            label; it is also the sample's weight when partners are drawn.
    """

    present: Annotated[SamPresence | ClassicalPresence, Field(discriminator='kind')] | None = None
    novel: Detector | None = None
    labels_kept: Judge | None = None

    @model_validator(mode='after')
    def _one_reading(self) -> Filters:
        novel, kept = self.novel, self.labels_kept
        if novel and kept and novel.network == kept.network and novel.model != kept.model:
            raise ValueError('novel and labels_kept are one network: give both the same model')
        return self


class AugmentConfig(Strict):
    """A whole run.

    Attributes:
        seed: of everything random.
        images: the labelled images to start from.
        size: rows and columns to which they are brought first; if none, they keep their own.
        split: name of the split that is written.
        per_image: samples wanted of each image.
        attempts: how often a sample is tried at most.
        objects: where novel objects come from.
        placement: where they stand, and how large.
        generator: what paints.
        filters: what a sample must pass.
        workers: processes that work, for generators that run on the CPU.
    """

    seed: int = Field(default=0, ge=0, lt=2**32)
    images: ImageData
    size: Size | None = None
    split: Literal['train', 'val'] = 'train'
    per_image: int = Field(default=1, ge=1)
    attempts: int = Field(default=4, ge=1)
    objects: ObjectData
    placement: Placement = PerspectivePlacement(kind='perspective')
    generator: GeneratorConfig
    filters: Filters = Filters()
    workers: int = Field(default=1, ge=1)

    @model_validator(mode='after')
    def _fitting(self) -> AugmentConfig:
        if self.workers > 1 and isinstance(self.generator, ControlNetGenerator):
            raise ValueError('workers: controlnet runs in one process for each GPU: set 1')
        others, _ = differences(self.images.known_classes, CITYSCAPES)
        if others:
            raise ValueError(
                f"images: generators know the look and the ground of Cityscapes' classes alone, "
                f'among which {", ".join(others)} are none: give a label_map in place of classes'
            )
        if self.images.groups:
            raise ValueError(
                f'images: labels of {self.images.kind} stand for groups of classes, of which no '
                'generator knows the look: start from other images'
            )
        return self


def read_config(path: Path, overrides: Sequence[str] = ()) -> AugmentConfig:
    """Read and validate a configuration file.

    Args:
        path: of the file.
        overrides: values in place of the file's, as ``seed=3``; see `schema.overrides`.

    Raises:
        MultishiftError: the file is missing, no YAML, or a field is wrong; the message names it.
    """
    return override(read_document(path, 'an augmentation configuration'), overrides).typed(
        AugmentConfig
    )
