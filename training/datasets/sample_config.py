"""Typed, validated descriptions of what is trained and validated on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from multishift_training.datasets.config import (
    CityscapesData,
    FolderData,
    ImageData,
    MultishiftCityscapesData,
    OutlierData,
    SampleDriveData,
    Size,
    Strict,
)

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
    DeepLabTransforms | Mask2FormerTransforms | ZoomCropTransforms, Field(discriminator='kind')
]


class RuleBasedPartner(Strict):
    """The partner is the original in another weather or light, drawn by rule.

    Attributes:
        weather: change weather and light; if not, pasted objects are all that differs.
    """

    kind: Literal['rule_based']
    weather: bool = True


Partners = (
    CityscapesData | MultishiftCityscapesData | SampleDriveData | FolderData | RuleBasedPartner
)


class TrainingData(Strict):
    """What a network trains on.

    Attributes:
        images: the originals.
        partners: images of the same scenes in another domain, one of which is drawn for an
            original in each epoch; if none, originals are used alone.
        mixup: largest share of the original that is blended into its partner.
        outliers: objects to paste into originals (``anomaly_mix``), and into rule-based partners.
        transforms: random changes, the same for both members of a pair.
    """

    images: ImageData
    partners: Annotated[Partners, Field(discriminator='kind')] | None = None
    mixup: Share = 0.0
    outliers: OutlierData | None = None
    transforms: TransformData


class ValidationData(Strict):
    """What a network is validated and calibrated on.

    Attributes:
        images: the images.
        outliers: objects to paste into them; those, and no held-out class, are then novel.
    """

    images: ImageData
    outliers: OutlierData | None = None
