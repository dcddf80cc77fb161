# SPDX-License-Identifier: Apache-2.0
"""A data set is whole, or is not registered; coarse labels stand for groups of classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
import subprocess
import sys
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import TypeAdapter
import pytest

from multishift_perception.classes import CITYSCAPES, VOID
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import ImageData, LabelledImages, Samples, TrainingData
from multishift_training.datasets import open_images as opened_images
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.groups import (
    Group,
    Groups,
    group_label,
    joined,
    membership,
    with_groups,
)
from multishift_training.datasets.images import label_table
from multishift_training.datasets.kinds import (
    IddLiteData,
    ImageSet,
    LumsRoadData,
    kinds,
    partner_kinds,
    register,
)
from multishift_training.datasets.tables import Table, table_of

SIZE = (6, 9)


@pytest.fixture(autouse=True)
def own_registry(own_registries: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    with own_registries():
        yield


class Nameless(ImageSet):
    """A data set without images, and without a name."""

    domain: ClassVar[str] = ''
    has_classes: ClassVar[bool] = True
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        return []

    def table(self, root: Path) -> Table:
        return table_of({0: 0, 1: 19})


class Whole(Nameless):
    """The same with a name."""

    kind: Literal['whole']


def test_a_forgotten_part_is_an_error_that_names_it() -> None:
    class Incomplete(ImageSet):
        kind: Literal['incomplete']
        domain: ClassVar[str] = ''
        has_classes: ClassVar[bool] = True
        may_be_partner: ClassVar[bool] = False

        def entries(self, root: Path, cache: Path) -> list[Entry]:
            return []

    with pytest.raises(TypeError, match=r'Incomplete \(incomplete\) lacks learns_novel, table:'):
        register(Incomplete)
    assert Incomplete not in kinds()

    class LacksOne(Incomplete):
        kind: Literal['lacks_one']  # type: ignore[assignment]
        learns_novel: ClassVar[bool] = False

    with pytest.raises(TypeError, match=r'LacksOne \(lacks_one\) lacks table: define it in its'):
        register(LacksOne)


def test_a_name_is_one_word_and_free() -> None:
    with pytest.raises(TypeError, match='Nameless has no name of its own'):
        register(Nameless)

    class Twin(Nameless):
        kind: Literal['camvid']

    with pytest.raises(
        TypeError,
        match=r'camvid is there already \(\S+\.camvid\.CamvidData\): give \S*Twin another name',
    ):
        register(Twin)


@pytest.mark.parametrize(
    ('groups', 'fault'),
    [
        ((Group('vehicle', ('car', 'lorry')),), 'group vehicle: lorry is no class'),
        ((Group('a', ('car', 'bus')), Group('b', ('bus',))), 'bus is in two groups'),
        ((Group('a', ()),), 'group a has no class'),
    ],
)
def test_groups_are_of_classes_each_in_one(groups: Groups, fault: str) -> None:
    class Coarse(Nameless):
        kind: Literal['coarse']
        groups: ClassVar[Groups] = ()

    Coarse.groups = groups
    with pytest.raises(TypeError, match=fault):
        register(Coarse)


def test_may_be_partner_is_no_matter_of_the_description() -> None:
    class Fickle(Nameless):
        kind: Literal['fickle']

        @property
        def may_be_partner(self) -> bool:  # type: ignore[override]
            return True

    with pytest.raises(TypeError, match='make it a ClassVar'):
        register(Fickle)


def test_a_table_of_groups_that_are_not_declared_is_refused() -> None:
    class Two(Nameless):
        kind: Literal['two']
        groups: ClassVar[Groups] = (Group('a', ('car',)), Group('b', ('bus',)))

        def table(self, root: Path) -> Table:
            return table_of({1: group_label(2)})

    with pytest.raises(MultishiftError) as caught:
        label_table(Two(kind='two'), Path(), training=False)
    assert str(caught.value) == (
        'data set two: its table holds 21, which is no label: use 0..18 for classes, 19..20 for '
        'its 2 groups, 254 (NOVEL) or 255 (VOID)'
    )
    with pytest.raises(MultishiftError, match='holds 19, .* none for groups, as it has none'):
        label_table(Whole(kind='whole'), Path(), training=False)


def test_all_that_ship_are_whole() -> None:
    assert len(kinds()) == 19
    assert {kind.__name__ for kind in partner_kinds()} == {
        'CityscapesData',
        'MultishiftCityscapesData',
        'SampleDriveData',
        'FolderData',
    }


def test_descriptions_load_no_torch() -> None:
    program = (
        'import sys; import multishift_training.datasets.kinds as k; '
        "sys.exit(bool({'torch', 'albumentations'} & set(sys.modules)) or not k.kinds())"
    )
    assert subprocess.run([sys.executable, '-c', program]).returncode == 0


def write(path: Path, *values: int) -> None:
    """An image, or labels whose columns are the values, in turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = np.resize(np.array(values, np.uint8), SIZE)
    Image.fromarray(raw if path.suffix == '.png' else np.dstack([raw] * 3)).save(path)


def opened(root: Path, **description: Any) -> LabelledImages:
    config = TypeAdapter[ImageData](ImageData).validate_python(description)
    return opened_images(config, root, root / 'cache')


def test_idd_lite(tmp_path: Path) -> None:
    for drive, number in (('7', '000002'), ('10', '000001')):
        write(tmp_path / f'idd_lite/leftImg8bit/val/{drive}/{number}_image.jpg', 9)
        labels = tmp_path / f'idd_lite/gtFine/val/{drive}'
        write(labels / f'{number}_label.png', *range(7), 255, 0)
        write(labels / f'{number}_inst_label.png', 200)
    images = opened(tmp_path, kind='idd_lite', split='val')
    assert [entry.name for entry in images.entries] == ['10/000001', '7/000002']
    assert images.read(0)[1][0].tolist() == [*range(19, 26), VOID, 19]
    assert images.domain == 'idd'
    assert images.has_classes and not images.may_have_novel
    # Every class of ours is in one of the seven.
    assert membership(images.groups).sum(0).tolist() == [1] * len(CITYSCAPES)
    some = opened(tmp_path, kind='idd_lite', split='val', patterns=['1?/*'])
    assert [entry.name for entry in some.entries] == ['10/000001']
    with pytest.raises(MultishiftError, match=r'patterns x/\* match none of 2'):
        opened(tmp_path, kind='idd_lite', split='val', patterns=['x/*'])


def test_lums_road(tmp_path: Path) -> None:
    for name in ('train_color_1_a', 'valid_color_2_b', 'test_color_3_c'):
        write(tmp_path / f'lums_road/images/{name}.jpg', 90)
        write(tmp_path / f'lums_road/labels/{name}.png', 0, 1, 2, 3, 4, 0, 0, 0, 0)
    images = opened(tmp_path, kind='lums_road', split='val')
    assert [entry.name for entry in images.entries] == ['valid_color_2_b']
    assert images.read(0)[1][0, :5].tolist() == [19, VOID, 0, 1, 0]
    assert membership(images.groups).tolist() == [[False, False] + [True] * 17]


class Animals(Nameless):
    """Another data set with a group of its own, and one that it shares."""

    kind: Literal['animals']
    root: Path = Path('idd_lite')
    may_be_partner: ClassVar[bool] = True
    groups: ClassVar[Groups] = (Group('body', ('person', 'rider')), IddLiteData.groups[3])

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        return IddLiteData(kind='idd_lite', root=self.root).entries(root, cache)

    def table(self, root: Path) -> Table:
        return table_of({**{raw: 8 for raw in range(7)}, 2: 19, 3: 20, 255: VOID})


def test_mixed_data_sets_have_one_table_of_groups(tmp_path: Path) -> None:
    register(Animals)
    write(tmp_path / 'idd_lite/leftImg8bit/train/7/000002_image.jpg', 9)
    write(tmp_path / 'idd_lite/gtFine/train/7/000002_label.png', 0, 2, 3)
    config = TrainingData.model_validate(
        {
            'images': {'kind': 'idd_lite'},
            'partners': {'kind': 'animals'},
            'transforms': {'kind': 'zoom_crop', 'crop': [16, 16], 'flip': 0},
        }
    )
    assert config.groups == (*IddLiteData.groups, Animals.groups[0])
    samples = Samples(config, root=tmp_path, cache=tmp_path, seed=0)
    assert samples.groups == config.groups
    labels = samples.sample(0, 0).labels
    assert set(np.unique(labels[0])) <= {19, 21, 22, VOID}
    assert set(np.unique(labels[1])) <= {8, 26, 22, VOID}
    assert {21, 22} <= set(np.unique(labels[0])) and {26, 22} <= set(np.unique(labels[1]))


def test_groups_by_name_and_number() -> None:
    first, second = IddLiteData.groups[:2]
    assert joined([(first,), (second, first), ()]) == (first, second)
    shown = with_groups(CITYSCAPES, (second,))
    assert len(shown) == 20
    assert shown[19].name == 'non-drivable' and shown[19].color == CITYSCAPES[1].color


def test_real_idd_lite(real: Callable[[str], Path]) -> None:
    images = opened(real('idd_lite'), kind='idd_lite')
    assert len(images) == 1403
    seen = [images.read(index) for index in range(0, 1403, 200)]
    labels = np.stack([labels for _, labels in seen])
    assert set(np.unique(labels)) <= {*range(19, 26), VOID}
    assert (labels[:, -40:] == 19).mean() > 0.5  # drivable
    picture = np.stack([image for image, _ in seen]).mean(-1)
    assert picture[labels == 25].mean() > picture[labels == 24].mean() + 50  # sky, far object


def test_real_lums_road(real: Callable[[str], Path]) -> None:
    root = real('lums_road')
    found = {split: opened(root, kind='lums_road', split=split) for split in ('train', 'val')}
    assert {split: len(images) for split, images in found.items()} == {'train': 417, 'val': 115}
    labels = np.stack([found['val'].read_labels(index) for index in range(0, 115, 20)])
    assert set(np.unique(labels)) <= {0, 1, 19, VOID}
    assert (labels[:, -200:] == 0).mean() > 0.4  # road
    assert (labels[:, :150] == 19).mean() > 0.9  # trees and sky


def lums(root: Path, image: np.ndarray, raw: np.ndarray) -> np.ndarray:
    for folder, pixels in (('images', image), ('labels', raw)):
        (root / 'lums_road' / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(root / f'lums_road/{folder}/train_a.png')
    return opened_images(LumsRoadData(kind='lums_road'), root, root).read(0)[1]


def test_lums_road_black_corners_are_void(tmp_path: Path) -> None:
    image = np.full((40, 60, 3), 120)
    image[:8, :10] = 7  # a corner
    image[-5:, -20:] = 9  # another, part of which is labelled road
    image[15:20, 20:30] = 0  # dark things inside, and at the edge
    image[20:25, :4] = 0
    raw = np.zeros((40, 60))
    raw[20:] = 2
    labels = lums(tmp_path, image, raw)
    void = np.zeros((40, 60), bool)
    void[:8, :10] = True
    assert ((labels == VOID) == void).all()
    assert (labels[20:] == 0).all() and (labels[:20][~void[:20]] == 19).all()


@pytest.mark.parametrize(('rows', 'trusted'), [(3, False), (5, True)])
def test_lums_road_of_which_hardly_any_is_road_has_no_sidewalk(
    tmp_path: Path, rows: int, trusted: bool
) -> None:
    raw = np.zeros((40, 60))
    raw[20:] = 3
    raw[-rows:] = 4  # a speed bump is road
    labels = lums(tmp_path, np.full((40, 60, 3), 120), raw)
    assert (labels[20:-rows] == (1 if trusted else VOID)).all()
    assert (labels[-rows:] == 0).all() and (labels[:20] == 19).all()


def test_lums_road_as_it_is(real: Callable[[str], Path]) -> None:
    root = real('lums_road')
    images = opened_images(LumsRoadData(kind='lums_road'), root, root)
    names = [entry.name for entry in images.entries]
    wrong, rotated = (
        next(i for i, name in enumerate(names) if name.startswith(start))
        for start in ('train_color_369_', 'train_color_96_')
    )
    assert 1 not in images.read(wrong)[1]
    labels = images.read(rotated)[1]
    assert labels[-1, -1] == labels[0, -1] == VOID and labels[320, 320] == 0
