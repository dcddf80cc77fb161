# SPDX-License-Identifier: Apache-2.0
"""What descriptions of data sets are made of, and those of objects to paste.

The data sets' own are in ``kinds``. Paths are relative to the data root, unless absolute; their
defaults are the names under which the data sets are usually unpacked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from multishift_perception.classes import CITYSCAPES
from multishift_perception.images.label_map import CLASS, class_index
from multishift_perception.schema.composed import OneOrList
from multishift_perception.schema.words import Accepted, Words, tag_of

Size = tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]]
Truth = Literal['classes', 'anomaly']
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
# Of a moving average: the share of itself that something keeps in a step.
Momentum = Annotated[float, Field(ge=0, lt=1)]


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f'{bounds[0]} is above {bounds[1]}: give the smaller first')
    return bounds


# Makes a type of two bounds refuse those in the wrong order: ``Annotated[tuple[...], Rising]``.
Rising = AfterValidator(_rising)


class Strict(BaseModel):
    """A description in which an unknown key is an error, and so is a number that is none."""

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)

    @model_validator(mode='before')
    @classmethod
    def _no_truth_for_number(cls, given: Any) -> Any:
        # Pydantic takes true for 1. A field's own validator could not stand before the kind's.
        faults = [
            InitErrorDetails(type=_TRUTH, loc=(name,), input=given[name])
            for name, field in cls.model_fields.items()
            if isinstance(given, dict)
            and name in given
            and _is_truth_for_number(given[name], Accepted.of(field))
        ]
        if faults:
            raise ValidationError.from_exception_data(cls.__name__, faults)
        return given


_TRUTH = PydanticCustomError('number_type', 'true and false are no numbers')


def _is_truth_for_number(given: Any, accepted: Accepted) -> bool:
    """Return whether a value is true or false where a number is wanted, or holds such an entry."""
    members = [Accepted.of(member).kind for member in accepted.members]
    if isinstance(given, bool):
        return bool not in members and (int in members or float in members)
    entries = list(given.values()) if isinstance(given, dict) else given
    if not isinstance(entries, list | tuple):
        return False
    # Of a dict, the type of its values; a list has one for all entries, a tuple one for each.
    kinds = [get_args(m) for m in members if get_origin(m) in (list, tuple, dict)]
    return any(
        _is_truth_for_number(entry, Accepted.of(inner[min(i, len(inner) - 1)]))
        for inner in (k[-1:] if isinstance(given, dict) else k for k in kinds)
        for i, entry in enumerate(entries)
    )


def check_kind(kind: object, sort: str, base: type[Strict]) -> str:
    """Return the word that names a class of descriptions; what registering them begins with.

    Args:
        kind: the class.
        sort: of what it describes, such as ``data set``.
        base: what it derives from.

    Raises:
        TypeError: it does not, or has no word of its own.
    """
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise TypeError(f'{sort} {kind!r} is no class derived from {base.__name__}')
    name = tag_of(kind)
    if not name:
        raise TypeError(
            f"{sort} {kind.__name__} has no name of its own: declare `kind: Literal['...']`"
        )
    return name


def refuse_renamed(description: Any) -> Any:
    """Return a description as it is, unless its kind has another name now.

    Raises:
        ValueError: it has.
    """
    if isinstance(description, dict) and description.get('kind') == 'rule_based':
        raise ValueError(
            'kind rule_based is called pasted_weather: set that for the same images '
            "(the paper's RuleAug, which pastes nothing, is partners and transforms rule_aug)"
        )
    return description


ClassName = Annotated[
    str, BeforeValidator(lambda given: CITYSCAPES[class_index(given)].name), Words(CLASS)
]


class CocoObjects(Strict):
    """Objects cut from COCO images by outlier masks; one is pasted into every image.

    Attributes:
        root: folder of COCO.
        images: folder of its images, below ``root``.
        masks: folder of masks, below ``root``, named by image id (Meta-OoD's script), with or
            without a class before it (``annotations/oodclass_nocrowd_seg_train2017``, as
            MultiShiftSeg has them).
    """

    kind: Literal['coco_objects']
    root: Path = Path('coco')
    images: Path = Path('train2017')
    masks: Path = Path('annotations/ood_seg_train2017')


class SampleObjects(Strict):
    """Novel objects of the sample drive; one to three are pasted into four images of five.

    Attributes:
        split: whose novel objects; no two splits share one.
    """

    kind: Literal['sample_objects']
    split: Literal['train', 'val', 'demo']


class PhotoObjects(Strict):
    """Real objects, cut out of photographs; one to three are pasted into four images of five.

    They are lit as the scene is, and smaller nearer to the horizon.

    Attributes:
        root: folder of the cut-outs and of ``manifest.csv``, which has a line for each file (a
            picture with alpha) with its ``source`` and ``split``.
        split: which to take.
        sources: which sources of the manifest to take; if none, all.
    """

    kind: Literal['cutouts']
    root: Path = Path('cutouts')
    split: Literal['train', 'val']
    sources: list[str] = []

    @property
    def credits(self) -> tuple[str, ...]:
        """Authors and licence of each source, or its name alone; of all sources, their list."""
        if not self.sources:
            return ('cut-outs of every source that their manifest.csv lists',)
        return tuple(f'cut-outs of {_CUTOUTS.get(name, name)}' for name in self.sources)


# Of the sources whose licence lets a network be shipped that learned from them.
_CUTOUTS = {
    'trashnet': 'TrashNet, Gary Thung and Mindy Yang (MIT)',
    'feralcat': 'Feral Cat Segmentation, pcashman21 (public domain)',
}

OutlierKind = Annotated[CocoObjects | PhotoObjects | SampleObjects, Field(discriminator='kind')]
OutlierData = Annotated[
    OutlierKind | Annotated[list[OutlierKind], Field(min_length=1)], OneOrList()
]
