# SPDX-License-Identifier: Apache-2.0
"""Typed, validated descriptions of what is trained and validated on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from multishift_perception.schema.open_union import Models, OpenUnion
from multishift_training.datasets.config import OutlierData, Size, Strict, refuse_renamed
from multishift_training.datasets.groups import Groups, joined
from multishift_training.datasets.kinds import ImageData, ImageSet, partner_kinds

Share = Annotated[float, Field(ge=0, le=1)]


class DeepLabTransforms(Strict):
    """The published DeepLab transforms: a random crop.

    Attributes:
        crop: rows and columns of the crop.
    """

    kind: Literal['multishift_deeplab']
    crop: Size = (700, 700)


class Mask2FormerTransforms(Strict):
    """The published Mask2Former transforms: strong colour changes, zoom, turn, flips, crop.

    Attributes:
        crop: rows and columns of the crop.
    """

    kind: Literal['multishift_mask2former']
    crop: Size = (700, 700)


class RuleAugTransforms(Strict):
    """RuleAug, the paper's baseline of fixed rules (after Schwonberg et al.; appendix A.5).

    Colour jitter, blur, sharpness, contrast, equalisation, zoom and turn with probability 0.5
    each, flips with 0.75 together, and a crop; nothing is pasted.

    Attributes:
        crop: rows and columns of the crop.
        color: make the changes of colour, from jitter to equalisation; not where partners
            ``rule_aug`` have some of their own.
    """

    kind: Literal['rule_aug']
    crop: Size = (700, 700)
    color: bool = True


class ZoomCropTransforms(Strict):
    """Random zoom and crop at the scale of an engine.

    Attributes:
        size: rows and columns that an image is first stretched to, as the engine's pipeline does;
            if none, it keeps its own.
        zoom: range of random zoom around that.
        crop: rows and columns of the crop.
        flip: probability of a left-right flip.
        color: probability of a change of brightness, contrast, saturation and hue.
        blur: probability of a slight blur.
    """

    kind: Literal['zoom_crop']
    size: Size | None = None
    zoom: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 1.0)
    crop: Size
    flip: Share = 0.5
    color: Share = 0.6
    blur: Share = 0.1

    @field_validator('zoom')
    @classmethod
    def _ordered(cls, zoom: tuple[float, float]) -> tuple[float, float]:
        if zoom[0] > zoom[1]:
            raise ValueError(f'{zoom[0]} is above {zoom[1]}: give the smaller first')
        return zoom


TransformData = Annotated[
    DeepLabTransforms | Mask2FormerTransforms | RuleAugTransforms | ZoomCropTransforms,
    Field(discriminator='kind'),
]


class PastedWeatherPartner(Strict):
    """The partner is the original in another weather or light, drawn by rule.

    Attributes:
        weather: change weather and light; if not, pasted objects are all that differs.
    """

    kind: Literal['pasted_weather']
    weather: bool = True


class RuleAugPartner(Strict):
    """The partner is the original in the colours of RuleAug; nothing is pasted into it.

    What moves pixels is left to ``transforms``, which are the same for both members of a pair:
    the method compares pixels at the same place.
    """

    kind: Literal['rule_aug']


def partners() -> Models:
    """Return what partners may be: other images of the scenes, or changed originals."""
    return (*partner_kinds(), PastedWeatherPartner, RuleAugPartner)


Partners = Annotated[
    ImageSet | PastedWeatherPartner | RuleAugPartner,
    OpenUnion(partners),
]


class TrainingData(Strict):
    """What a network trains on.

    Attributes:
        images: the originals.
        partners: images of the same scenes in another domain, one of which is drawn for an
            original in each epoch; if none, originals are used alone.
        mixup: largest share of the original that is blended into its partner.
        outliers: objects to paste into originals (``anomaly_mix``), and into
            partners ``pasted_weather``.
        transforms: random changes, the same for both members of a pair.
    """

    images: ImageData
    partners: Annotated[Partners, BeforeValidator(refuse_renamed)] | None = None
    mixup: Share = 0.0
    outliers: OutlierData | None = None
    transforms: TransformData

    @property
    def members(self) -> int:
        """Images of a sample: 1, or 2 for pairs."""
        return 1 if self.partners is None else 2

    @property
    def groups(self) -> Groups:
        """Groups of classes that labels may stand for: one table for originals and partners."""
        mixed = (self.images, self.partners)
        return joined(part.groups for part in mixed if isinstance(part, ImageSet))


class ValidationData(Strict):
    """What a network is validated and calibrated on.

    Attributes:
        images: the images.
        outliers: objects to paste into them; those, and no held-out class, are then novel.
    """

    images: ImageData
    outliers: OutlierData | None = None
