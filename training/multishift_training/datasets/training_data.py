# SPDX-License-Identifier: Apache-2.0
"""Typed, validated descriptions of what is trained and validated on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from multishift_perception.classes import SemanticClass
from multishift_perception.images.class_table import differences
from multishift_perception.schema.composed import Flat, OneOrList
from multishift_perception.schema.open_union import Models, OpenUnion
from multishift_training.datasets.config import (
    OutlierData,
    Positive,
    Rising,
    Share,
    Size,
    Strict,
    refuse_renamed,
)
from multishift_training.datasets.groups import Groups, joined
from multishift_training.datasets.kinds import ImageData, ImageSet, partner_kinds

Beta = Annotated[float, Field(ge=0, le=0.5)]


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


class Style(Strict):
    """Looks of other images: amplitudes of low frequencies, mixed in the Fourier domain.

    It is FDA (Yang and Soatto, CVPR 2020). Each member of a pair draws its own.

    Attributes:
        images: whose looks; their labels are not used.
        beta: range of the share of the frequencies, of either axis, whose amplitudes are taken.
        probability: that an image gets another look.
    """

    images: ImageData
    beta: Annotated[tuple[Beta, Beta], Rising] = (0.0, 0.1)
    probability: Share = 0.5


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
        strong_color: probability of strong changes of light, colour, noise, sharpness, shadows
            and compression; each member of a pair draws its own.
        style: looks to take from other images; if none, images keep theirs.
    """

    kind: Literal['zoom_crop']
    size: Size | None = None
    zoom: Annotated[tuple[Positive, Positive], Rising] = (1.0, 1.0)
    crop: Size
    flip: Share = 0.5
    color: Share = 0.6
    blur: Share = 0.1
    strong_color: Share = 0.0
    style: Style | None = None


TransformData = Annotated[
    DeepLabTransforms | Mask2FormerTransforms | RuleAugTransforms | ZoomCropTransforms,
    Field(discriminator='kind'),
]


class PastedWeatherPartnerData(Strict):
    """The partner is the original in another weather or light, drawn by rule.

    Attributes:
        weather: change weather and light; if not, pasted objects are all that differs.
    """

    kind: Literal['pasted_weather']
    weather: bool = True


class RuleAugPartnerData(Strict):
    """The partner is the original in the colours of RuleAug; nothing is pasted into it.

    What moves pixels is left to ``transforms``, which are the same for both members of a pair:
    the method compares pixels at the same place.
    """

    kind: Literal['rule_aug']


def partner_models() -> Models:
    """Return what describes partners: other images of the scenes, or changed originals."""
    return (*partner_kinds(), PastedWeatherPartnerData, RuleAugPartnerData)


PartnerData = Annotated[
    ImageSet | PastedWeatherPartnerData | RuleAugPartnerData,
    OpenUnion(partner_models),
    BeforeValidator(refuse_renamed),
]


class DomainData(Strict):
    """One of several data sets that a network trains on at once: a domain.

    What is left out of its partners, outliers and transforms is that of `data`.

    Attributes:
        images: the originals; the keys of their data set stand beside these.
        domain: its name, unique in the run.
        partners: as of `data`, for this domain.
        outliers: as of `data`, for this domain.
        transforms: as of `data`, for this domain; crops are of one size in all domains.
    """

    images: Annotated[ImageData, Flat()]
    domain: Annotated[str, Field(min_length=1)]
    partners: PartnerData | None = None
    outliers: OutlierData | None = None
    transforms: TransformData | None = None

    @model_validator(mode='before')
    @classmethod
    def _without_images(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        own = {key: given[key] for key in given if key in cls.model_fields and key != 'images'}
        return {**own, 'images': {key: given[key] for key in given if key not in own}}

    @model_serializer(mode='wrap')
    def _beside_images(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        own = write(self)
        return {**own.pop('images'), **own}


class Domain(NamedTuple):
    """A domain of a run, with all that is drawn for it.

    Attributes:
        name: of the domain; empty where the run has but one.
        images: the originals.
        partners: of the originals, or none.
        outliers: objects to paste, or none.
        transforms: random changes.
    """

    name: str
    images: ImageSet
    partners: ImageSet | PastedWeatherPartnerData | RuleAugPartnerData | None
    outliers: OutlierData | None
    transforms: TransformData


class TrainingData(Strict):
    """What a network trains on.

    Attributes:
        images: the originals; or a list, each entry a domain, of which a batch holds equally many
            images. An epoch is as long as the longest of them; shorter ones are repeated, in a new
            order and with new changes each time.
        partners: images of the same scenes in another domain, one of which is drawn for an
            original in each epoch; if none, originals are used alone.
        mixup: largest share of the original that is blended into its partner.
        outliers: objects to paste into originals (``anomaly_mix``), and into
            partners ``pasted_weather``; of a list, each image draws one kind with equal chance.
        transforms: random changes, the same for both members of a pair.
    """

    images: Annotated[ImageData | Annotated[list[DomainData], Field(min_length=1)], OneOrList()]
    partners: PartnerData | None = None
    mixup: Share = 0.0
    outliers: OutlierData | None = None
    transforms: TransformData

    @model_validator(mode='after')
    def _fitting_domains(self) -> TrainingData:
        first, *others = self.domains
        seen = {first.name}
        for other in others:
            if other.name in seen:
                raise ValueError(
                    f'images: two domains are called {other.name}: rename one of them'
                )
            seen.add(other.name)
            if (other.partners is None) != (first.partners is None):
                with_, without = (first, other) if first.partners else (other, first)
                raise ValueError(
                    f'images: domain {with_.name} has partners, {without.name} has none: give '
                    'them to all, or to none'
                )
            if other.transforms.crop != first.transforms.crop:
                raise ValueError(
                    f'images: domain {first.name} is cropped to {list(first.transforms.crop)}, '
                    f'{other.name} to {list(other.transforms.crop)}: set `crop` of their '
                    'transforms to one size'
                )
        return self

    @model_validator(mode='after')
    def _fitting_classes(self) -> TrainingData:
        for part in self._mixed:
            check_classes(part, self.classes)
        return self

    @property
    def domains(self) -> tuple[Domain, ...]:
        """What is drawn of each domain, in order; of one data set, it alone."""
        if not isinstance(self.images, list):
            whole = (self.images, self.partners, self.outliers, self.transforms)
            return (Domain('', *whole),)
        return tuple(
            Domain(
                own.domain,
                own.images,
                own.partners or self.partners,
                own.outliers or self.outliers,
                own.transforms or self.transforms,
            )
            for own in self.images
        )

    @property
    def crop(self) -> Size:
        """Rows and columns of the images that a network sees."""
        return self.domains[0].transforms.crop

    @property
    def members(self) -> int:
        """Images of a sample: 1, or 2 for pairs."""
        return 1 if self.domains[0].partners is None else 2

    @property
    def _mixed(self) -> list[ImageSet]:
        """The data sets whose labels are learned: originals, and partners that have their own."""
        mixed = [part for domain in self.domains for part in (domain.images, domain.partners)]
        return [part for part in mixed if isinstance(part, ImageSet)]

    @property
    def classes(self) -> tuple[SemanticClass, ...]:
        """What the network learns: the classes of the originals, those of the first domain."""
        return tuple(self.domains[0].images.known_classes)

    @property
    def groups(self) -> Groups:
        """Groups of classes that labels may stand for: one table for all domains, and partners."""
        return joined(part.groups for part in self._mixed)


def check_classes(images: ImageSet, classes: Sequence[SemanticClass]) -> None:
    """See that the classes of a data set are among those that a network learns.

    Raises:
        ValueError: if not; the message names those that are not.
    """
    if not images.has_classes:
        return
    foreign, _ = differences(images.known_classes, classes)
    if foreign:
        own = ', '.join(c.name for c in classes)
        raise ValueError(
            f'{images.kind} has the classes {", ".join(foreign)}, which the network does not '
            f'learn: its classes, those of the first data set of data.images, are {own}'
        )


class ValidationData(Strict):
    """What a network is validated and calibrated on.

    Attributes:
        images: the images.
        outliers: objects to paste into them, or a list of kinds, of which each image draws one;
            those, and no held-out class, are then novel.
    """

    images: ImageData
    outliers: OutlierData | None = None
