# SPDX-License-Identifier: Apache-2.0
"""Every layout: what is found, in which order, and what is said when files are missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import TypeAdapter
import pytest

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import ImageData, LabelledImages, open_images

SIZE = (6, 8)


def write_image(path: Path, shade: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), shade, np.uint8)).save(path)


def write_labels(path: Path, *values: int) -> None:
    """Columns of the values, in turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = np.resize(np.array(values, np.uint8), SIZE)
    Image.fromarray(raw).save(path)


def opened(root: Path, *, training: bool = False, **description: Any) -> LabelledImages:
    config = TypeAdapter[ImageData](ImageData).validate_python(description)
    return open_images(config, root, root / 'cache', training=training)


def names(images: LabelledImages) -> list[str]:
    return [entry.name for entry in images.entries]


def conditions(images: LabelledImages) -> list[str]:
    return [entry.condition for entry in images.entries]


def values(images: LabelledImages, index: int = 0) -> list[int]:
    """The labels of the first row."""
    image, labels = images.read(index)
    assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
    assert labels.shape == SIZE and labels.dtype == np.uint8
    return labels[0].tolist()


def make_cityscapes(root: Path, *frames: str) -> None:
    for frame in frames:
        city = frame.partition('_')[0]
        write_image(root / f'leftImg8bit/train/{city}/{frame}_leftImg8bit.png')
        write_labels(root / f'gtFine/train/{city}/{frame}_gtFine_labelTrainIds.png', 0, 18, 255)


def test_cityscapes(tmp_path: Path) -> None:
    make_cityscapes(tmp_path / 'cityscapes', 'ulm_000001_000019', 'aachen_000000_000019')
    write_labels(  # what else lies in gtFine
        tmp_path / 'cityscapes/gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png', 7
    )
    images = opened(tmp_path, kind='cityscapes')
    assert names(images) == ['aachen_000000_000019', 'ulm_000001_000019']
    assert values(images)[:3] == [0, 18, VOID]
    assert conditions(images) == ['', '']
    assert images.has_classes


def test_cityscapes_without_train_ids_says_how_to_create_them(tmp_path: Path) -> None:
    frames = [f'ulm_000001_00001{i}' for i in range(5)]
    make_cityscapes(tmp_path / 'cityscapes', *frames)
    for frame in frames[:4]:
        (tmp_path / f'cityscapes/gtFine/train/ulm/{frame}_gtFine_labelTrainIds.png').unlink()
    with pytest.raises(MultishiftError) as fault:
        opened(tmp_path, kind='cityscapes')
    message = str(fault.value)
    assert 'of 5 images 4 (ulm/ulm_000001_000010, ulm/ulm_000001_000011,' in message
    assert str(tmp_path / 'cityscapes/gtFine/train') in message
    assert 'csCreateTrainIdLabelImgs' in message
    assert '\n' not in message
    (tmp_path / f'cityscapes/gtFine/train/ulm/{frames[4]}_gtFine_labelTrainIds.png').unlink()
    with pytest.raises(MultishiftError, match='gtFine.train holds no .*csCreateTrainIdLabelImgs'):
        opened(tmp_path, kind='cityscapes')


def test_missing_folders_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(MultishiftError) as fault:
        opened(tmp_path, kind='cityscapes', split='val')
    message = str(fault.value)
    assert f'{tmp_path}/cityscapes/leftImg8bit/val does not exist' in message
    assert f'{tmp_path}/cityscapes/gtFine/val does not exist' in message
    assert '--data' in message


def test_labels_without_image_and_images_without_labels_come_in_one_message(
    tmp_path: Path,
) -> None:
    make_cityscapes(tmp_path / 'cityscapes', *(f'ulm_000000_00000{i}' for i in range(3)))
    folder = tmp_path / 'cityscapes'
    (folder / 'leftImg8bit/train/ulm/ulm_000000_000000_leftImg8bit.png').unlink()
    (folder / 'gtFine/train/ulm/ulm_000000_000001_gtFine_labelTrainIds.png').unlink()
    with pytest.raises(MultishiftError, match=r'1 \(ulm/ulm_000000_000001\).*;.*_000000\) have'):
        opened(tmp_path, kind='cityscapes')


def test_multishift_cityscapes(tmp_path: Path) -> None:
    root = tmp_path / 'multishift_cityscapes'
    make_cityscapes(
        root,
        'ulm_000001_000019_rainy_night_Small_town_crt screen_0.83',
        'ulm_000001_000019',
    )
    write_labels(root / 'gtFine/train/ulm/ulm_000001_000019_gtFine_labelTrainIds.png', 24, 26, 254)
    images = opened(tmp_path, kind='multishift_cityscapes', training=True)
    assert [entry.scene for entry in images.entries] == ['ulm_000001_000019'] * 2
    assert names(images)[0] == 'ulm_000001_000019'
    assert values(images)[:3] == [NOVEL] * 3


@pytest.mark.parametrize(
    ('image', 'label'),
    [
        ('original/{}.jpg', 'labels/{}.png'),
        ('frames/{}.jpg', 'frames/{}.labels/labels_semantic.png'),
        ('images/{}.jpg', 'labels_masks/{}.png'),
        ('images/val/{}.jpg', 'annotations/val/{}.labels/labels_semantic.png'),
    ],
)
def test_road_anomaly(tmp_path: Path, image: str, label: str) -> None:
    for name, anomaly in (('zebra', 2), ('cow_labels', 1)):
        write_image(tmp_path / 'road_anomaly' / image.format(name))
        write_labels(tmp_path / 'road_anomaly' / label.format(name), 0, anomaly, 255)
    images = opened(tmp_path, kind='road_anomaly')
    assert len(images) == 2
    for index in range(2):
        assert values(images, index)[:3] == [0, NOVEL, VOID]
    assert not images.has_classes


def test_road_anomaly_in_no_known_layout_lists_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(MultishiftError, match='frames/ with frames/ or .*original/ with labels/'):
        opened(tmp_path, kind='road_anomaly')


@pytest.mark.parametrize(
    ('kind', 'folder', 'suffix'),
    [
        ('road_anomaly21', 'dataset_AnomalyTrack', '.jpg'),
        ('road_obstacle21', 'dataset_ObstacleTrack', '.webp'),
    ],
)
def test_smiyc_takes_what_is_labelled(tmp_path: Path, kind: str, folder: str, suffix: str) -> None:
    for name in ('validation_2', 'validation_10', 'test_1'):
        write_image(tmp_path / folder / f'images/{name}{suffix}')
    for name in ('validation_2', 'validation_10'):
        write_labels(tmp_path / folder / f'labels_masks/{name}_labels_semantic.png', 0, 1, 255)
        write_image(tmp_path / folder / f'labels_masks/{name}_labels_semantic_color.png')
    images = opened(tmp_path, kind=kind)
    assert names(images) == ['validation_10', 'validation_2']
    assert values(images)[:3] == [0, NOVEL, VOID]
    (tmp_path / folder / f'images/validation_2{suffix}').unlink()
    with pytest.raises(MultishiftError, match=r'1 \(validation_2\) have no image'):
        opened(tmp_path, kind=kind)


@pytest.mark.parametrize(
    ('image', 'label'),
    [
        ('original/{}.png', 'labels/{}.png'),
        ('images/val/{}_leftImg8bit.png', 'annotations/val/{}_labels.png'),
        ('laf_images/{}_leftImg8bit.png', 'fishyscapes_lostandfound/0007_{}_labels.png'),
        (
            'leftImg8bit/test/04_Maurener_Weg_8/{}_leftImg8bit.png',
            'fishyscapes_lostandfound/0007_{}_labels.png',
        ),
    ],
)
def test_fishyscapes_lost_found(tmp_path: Path, image: str, label: str) -> None:
    name = '04_Maurener_Weg_8_000000_000030'
    write_image(tmp_path / 'fs_LostAndFound' / image.format(name))
    write_image(tmp_path / 'fs_LostAndFound' / image.format('04_Maurener_Weg_8_000000_000090'))
    write_labels(tmp_path / 'fs_LostAndFound' / label.format(name), 0, 1, 255)
    images = opened(tmp_path, kind='fishyscapes_lost_found')
    assert names(images) == [name]
    assert values(images)[:3] == [0, NOVEL, VOID]


def test_fishyscapes_static_ready(tmp_path: Path) -> None:
    write_image(tmp_path / 'fs_static/original/3.jpg')
    write_labels(tmp_path / 'fs_static/labels/3.png', 0, 1, 255)
    assert values(opened(tmp_path, kind='fishyscapes_static'))[:3] == [0, NOVEL, VOID]


def make_overlay(root: Path) -> None:
    root.mkdir(parents=True)
    change = np.zeros((*SIZE, 3), np.int16)
    change[0] = (-120, 40, 200)
    np.savez_compressed(root / '0000_frankfurt_000001_046504_rgb.npz', rgb=change)
    write_labels(root / '0000_frankfurt_000001_046504_labels.png', 0, 1, 255)


def test_fishyscapes_static_as_released(tmp_path: Path) -> None:
    make_overlay(tmp_path / 'fs_static')
    write_image(
        tmp_path / 'cityscapes/leftImg8bit/val/frankfurt/frankfurt_000001_046504_leftImg8bit.png',
        100,
    )
    image, labels = opened(tmp_path, kind='fishyscapes_static').read(0)
    assert image[0, 0].tolist() == [0, 140, 255]
    assert image[1, 0].tolist() == [100, 100, 100]
    assert labels[0, :3].tolist() == [0, NOVEL, VOID]


def test_fishyscapes_static_as_released_needs_cityscapes(tmp_path: Path) -> None:
    make_overlay(tmp_path / 'fs_static')
    with pytest.raises(MultishiftError, match=r'frankfurt_000001_046504.*mend `originals`'):
        opened(tmp_path, kind='fishyscapes_static')


def make_poc(root: Path, condition: str, *, image_end: str, label_end: str) -> None:
    name = f'{condition}/val/GP010476/GP010476_frame_000038_rgb_anon_dog_0_1'
    image = root / f'rgb_anon_trainvaltest/rgb_anon/{name}{image_end}'
    labels = root / f'gt_trainval/gt/{name}{label_end}'
    if image_end == '.png':
        write_image(image)
    else:
        image.parent.mkdir(parents=True)
        change = np.zeros((*SIZE, 3), np.uint8)
        change[0] = (200, 1, 0)  # 200 stands for -56
        np.savez_compressed(image, img=change)
    if label_end == '.png':
        write_labels(labels, 7, 33, 5, 0, 113, 255)
    else:
        labels.parent.mkdir(parents=True)
        raw = np.resize(np.array((7, 33, 5, 0, 113, 255), np.int64), SIZE)
        np.savez_compressed(labels, mask=raw)


@pytest.mark.parametrize('label_end', ['.png', '.npz'])
def test_acdc_poc(tmp_path: Path, label_end: str) -> None:
    for condition in ('snow', 'fog', 'night'):
        make_poc(tmp_path / 'acdc_poc', condition, image_end='.png', label_end=label_end)
    images = opened(tmp_path, kind='acdc_poc')
    assert conditions(images) == ['fog', 'night', 'snow']
    assert values(images)[:6] == [0, 18, VOID, VOID, NOVEL, VOID]
    assert images.has_classes
    anomaly = opened(tmp_path, kind='acdc_poc', truth='anomaly')
    assert values(anomaly)[:6] == [0, 0, 0, VOID, NOVEL, VOID]
    assert not anomaly.has_classes
    assert conditions(opened(tmp_path, kind='acdc_poc', conditions=['night'])) == ['night']
    with pytest.raises(MultishiftError, match=r"no image of \['rain'\]"):
        opened(tmp_path, kind='acdc_poc', conditions=['rain'])


def test_acdc_poc_as_released(tmp_path: Path) -> None:
    make_poc(tmp_path / 'acdc_poc', 'fog', image_end='.npz', label_end='.png')
    with pytest.raises(MultishiftError, match='mend `originals`'):
        opened(tmp_path, kind='acdc_poc')
    write_image(
        tmp_path / 'acdc/rgb_anon_trainvaltest/rgb_anon/fog/val/GP010476'
        '/GP010476_frame_000038_rgb_anon.png',
        100,
    )
    image, _ = opened(tmp_path, kind='acdc_poc').read(0)
    assert image[0, 0].tolist() == [44, 101, 100]
    assert image[1, 0].tolist() == [100, 100, 100]


def test_muad(tmp_path: Path) -> None:
    root = tmp_path / 'MUAD_challenge/test_sets/test_OOD'
    write_image(root / 'leftImg8bit/000001_leftImg8bit.png')
    write_labels(root / 'leftLabel/000001_leftImg8bit.png', 0, 18, 19, 20, 21, 254, 255)
    assert values(opened(tmp_path, kind='muad'))[:7] == [0, 18, NOVEL, NOVEL, VOID, VOID, VOID]
    assert values(opened(tmp_path, kind='muad', truth='anomaly'))[:7] == [
        0, 0, NOVEL, NOVEL, 0, 0, VOID,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('image', 'label'),
    [('images/train/{}.jpg', 'labels/train/{}.png'), ('train/{}.png', 'trainannot/{}.png')],
)
def test_camvid(tmp_path: Path, image: str, label: str) -> None:
    for name in ('0016E5_00030', '0001TP_006690', '0006R0_f00930'):
        write_image(tmp_path / 'camvid' / image.format(name))
        write_labels(tmp_path / 'camvid' / label.format(name), 3, 9, 10, 11, 0)
    everything = opened(tmp_path, kind='camvid', split='train')
    assert names(everything) == ['0001TP_006690', '0006R0_f00930', '0016E5_00030']
    assert conditions(everything) == ['dusk', 'day', 'day']
    assert values(everything)[:5] == [0, 11, 12, VOID, 10]
    day = opened(tmp_path, kind='camvid', split='train', patterns=['0006*', '0016*'])
    assert len(day) == 2
    with pytest.raises(MultishiftError, match=r'is named x\*: mend that pattern'):
        opened(tmp_path, kind='camvid', split='train', patterns=['x*'])


def test_held_out_classes_are_novel_but_never_in_training(tmp_path: Path) -> None:
    write_image(tmp_path / 'camvid/images/val/a.jpg')
    write_labels(tmp_path / 'camvid/labels/val/a.png', 3, 9, 10, 11)
    chosen: dict[str, Any] = {'kind': 'camvid', 'split': 'val', 'held_out': ['person', 'rider']}
    assert values(opened(tmp_path, **chosen))[:4] == [0, NOVEL, NOVEL, VOID]
    assert values(opened(tmp_path, **chosen, training=True))[:4] == [0, VOID, VOID, VOID]
    by_number = chosen | {'held_out': [11, 'rider']}
    assert values(opened(tmp_path, **by_number))[:4] == [0, NOVEL, NOVEL, VOID]


def make_folder(root: Path) -> dict[str, Any]:
    (root / 'map.yaml').write_text('1: road\n2: 13\n3: novel\n4: void\n')
    for name in ('one', 'drive/two'):
        write_image(root / f'mine/{name}_rgb.png')
        write_labels(root / f'mine/{name}_rgb_truth.png', 1, 2, 3, 4)
    return {
        'kind': 'folder',
        'images': 'mine',
        'labels': 'mine',
        'image_suffix': '_rgb.png',
        'label_suffix': '_rgb_truth.png',
        'label_map': 'map.yaml',
    }


def test_folder(tmp_path: Path) -> None:
    images = opened(tmp_path, **make_folder(tmp_path))
    assert names(images) == ['drive/two', 'one']
    assert values(images)[:4] == [0, 13, NOVEL, VOID]


def test_label_map_starts_from_the_data_root_like_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = make_folder(tmp_path)
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (elsewhere / 'map.yaml').write_text('{1: car, 2: car, 3: car, 4: car}')
    assert values(opened(tmp_path, **described))[:4] == [0, 13, NOVEL, VOID]
    absolute = described | {'label_map': elsewhere / 'map.yaml'}
    assert values(opened(tmp_path, **absolute))[:4] == [13, 13, 13, 13]
    (tmp_path / 'map.yaml').unlink()
    with pytest.raises(MultishiftError, match=f'the label map {tmp_path}/map.yaml does not exist'):
        opened(tmp_path, **described)


def test_folder_teaches_novel_objects_only_when_told_to(tmp_path: Path) -> None:
    described = make_folder(tmp_path) | {'held_out': ['car']}
    assert values(opened(tmp_path, **described))[:4] == [0, NOVEL, NOVEL, VOID]
    assert values(opened(tmp_path, **described, training=True))[:4] == [0, VOID, VOID, VOID]
    taught = opened(tmp_path, **described, learn_novel=True, training=True)
    assert values(taught)[:4] == [0, VOID, NOVEL, VOID]


def test_folder_side_by_side(tmp_path: Path) -> None:
    described = make_folder(tmp_path) | {'image_suffix': '.png', 'label_suffix': '_truth.png'}
    assert names(opened(tmp_path, **described)) == ['drive/two_rgb', 'one_rgb']


def test_folder_patterns_and_missing_labels(tmp_path: Path) -> None:
    described = make_folder(tmp_path)
    (tmp_path / 'mine/one_rgb_truth.png').unlink()
    assert names(opened(tmp_path, **described, patterns=['t*'])) == ['drive/two']
    with pytest.raises(MultishiftError, match=r'of 2 images 1 \(one\) have no label image'):
        opened(tmp_path, **described)
    with pytest.raises(MultishiftError, match=r'is named x\*: mend that pattern'):
        opened(tmp_path, **described, patterns=['x*'])


def test_folder_follows_links(tmp_path: Path) -> None:
    described = make_folder(tmp_path)
    (tmp_path / 'mine/drive').rename(tmp_path / 'elsewhere')
    (tmp_path / 'mine/drive').symlink_to('../elsewhere')
    assert names(opened(tmp_path, **described)) == ['drive/two', 'one']


def test_same_image_twice(tmp_path: Path) -> None:
    for end in ('.jpg', '.png'):
        write_image(tmp_path / f'road_anomaly/original/a{end}')
    write_labels(tmp_path / 'road_anomaly/labels/a.png', 0)
    with pytest.raises(MultishiftError, match=r'a\.jpg and .*a\.png are the same image twice'):
        opened(tmp_path, kind='road_anomaly')


def test_archive_litter_is_no_image(tmp_path: Path) -> None:
    make_cityscapes(tmp_path / 'cityscapes', 'ulm_000001_000019')
    write_image(tmp_path / 'cityscapes/leftImg8bit/train/ulm/._ulm_000001_000019_leftImg8bit.png')
    for folder in ('.thumbs', '__MACOSX'):
        write_image(tmp_path / f'cityscapes/leftImg8bit/train/{folder}/x_leftImg8bit.png')
    assert len(opened(tmp_path, kind='cityscapes')) == 1


def test_real_camvid(real: Callable[[str], Path]) -> None:
    images = opened(real('camvid'), kind='camvid', split='train', held_out=['rider'])
    assert len(images) == 367
    assert conditions(images).count('dusk') == 62
    image, labels = images.read(100)
    assert image.shape == (360, 480, 3)
    assert set(np.unique(labels)) <= {0, 1, 2, 4, 5, 7, 8, 10, 11, 13, NOVEL, VOID}
    assert (labels[-40:] == 0).mean() > 0.3  # road
