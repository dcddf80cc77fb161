# SPDX-License-Identifier: Apache-2.0
"""Samples and batches: pairs, mixup, and the same bytes whatever reads them."""

from __future__ import annotations

from collections import Counter
import logging
import os
from pathlib import Path
import resource
import signal
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
import pytest
import torch

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import (
    LabelledImages,
    Samples,
    TrainingData,
    ValidationData,
    class_weights,
    open_images,
    open_validation,
    training_loader,
    validation_loader,
)
from multishift_training.datasets.batch import Sample
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.kinds import CityscapesData
from multishift_training.datasets.loading import Views
from multishift_training.datasets.partners import ImagePartners, mixed

Bytes = NDArray[np.uint8]

SIZE = (48, 64)
CROP = {'kind': 'multishift_deeplab', 'crop': [32, 40]}
ZOOM = {'kind': 'zoom_crop', 'size': [40, 56], 'zoom': [0.8, 1.3], 'crop': [32, 40]}


def write(root: Path, frame: str, shade: int, raw: Bytes | int) -> None:
    image = root / 'leftImg8bit/train/ulm' / f'{frame}_leftImg8bit.png'
    labels = root / 'gtFine/train/ulm' / f'{frame}_gtFine_labelTrainIds.png'
    for path in (image, labels):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), shade, np.uint8)).save(image)
    Image.fromarray(np.broadcast_to(np.uint8(raw), SIZE).copy()).save(labels)


def frame_name(index: int) -> str:
    return f'ulm_{index:06d}_000019'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six originals of shade 100 and class INDEX; each has two partners, except the last.

    Partners have the shades 180 and 220, and a novel object in their left half.
    """
    partner = np.full(SIZE, 1, np.uint8)
    partner[:, :32] = NOVEL
    for index in range(6):
        write(tmp_path / 'cityscapes', frame_name(index), 100, index)
        if index < 5:
            for shade, end in ((180, '_snowy_day_Old_town_pot_0.91'), (220, '_tent_0.77')):
                write(tmp_path / 'multishift_cityscapes', frame_name(index) + end, shade, partner)
    return tmp_path


def samples_of(root: Path, *, seed: int = 0, **description: Any) -> Samples:
    config = TrainingData.model_validate(
        {'images': {'kind': 'cityscapes'}, 'transforms': CROP} | description
    )
    return Samples(config, root=root, cache=root / 'cache', seed=seed)


PAIRED: dict[str, Any] = {'partners': {'kind': 'multishift_cityscapes'}}


def test_single_images(data: Path) -> None:
    samples = samples_of(data)
    assert (len(samples), samples.members, samples.domains[0].unpaired) == (6, 1, ())
    images, labels, *_ = samples.sample(0, 3)
    assert images.shape == (1, 32, 40, 3) and images.dtype == np.uint8
    assert labels.shape == (1, 32, 40) and labels.dtype == np.uint8
    assert (images == 100).all() and (labels == 3).all()


def test_pairs_leave_out_originals_without_partner_and_say_so(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        samples = samples_of(data, **PAIRED)
    assert (len(samples), samples.members) == (5, 2)
    assert samples.domains[0].unpaired == (frame_name(5),)
    assert f'of 6 originals 1 ({frame_name(5)}) have no partner' in caplog.text
    for index in range(5):
        images, labels, *_ = samples.sample(0, index)
        assert (images[0] == 100).all() and (labels[0] == index).all()
        assert images[1, 0, 0, 0] in (180, 220)
        assert set(np.unique(labels[1])) == {1, NOVEL}


def test_no_partner_at_all(data: Path) -> None:
    write(data / 'elsewhere', 'ulm_000099_000019_rock_0.80', 180, 1)
    with pytest.raises(MultishiftError, match='no image of multishift_cityscapes.*000099'):
        samples_of(data, partners={'kind': 'multishift_cityscapes', 'root': 'elsewhere'})


def named(*scenes: str) -> LabelledImages:
    entries = [Entry(Path('i'), Path('l'), scene, scene) for scene in scenes]
    return LabelledImages('names', entries, np.zeros(256, np.uint8))


def test_scenes_match_by_whole_words_and_the_longest_wins() -> None:
    originals = named('a_1', 'a_1_2', 'b', 'c')
    paired = ImagePartners(originals, named('a_1_2_fog', 'a_12', 'd_b', 'b_x y_z', 'c')).paired
    assert paired == (1, 2, 3)
    assert ImagePartners(originals, named('a_1')).paired == (0,)


def test_others_come_beside_and_change_nothing(data: Path) -> None:
    samples = samples_of(data, transforms=ZOOM)
    for index in range(6):
        alone, seen = samples.sample(0, index), samples.sample(0, index, others=4)
        assert (alone.images == seen.images).all() and not alone.others
        shown = [int(labels[0, 0]) for _, labels in seen.others]
        assert len(set(shown)) == 4 and index not in shown
        assert all(image.shape == (40, 56, 3) for image, _ in seen.others)
    again = samples.sample(0, 0, others=4)
    assert [o[1][0, 0] for o in again.others] == [
        o[1][0, 0] for o in samples.sample(0, 0, 4).others
    ]
    drawn = {tuple(o[1][0, 0] for o in samples.sample(e, 0, others=4).others) for e in range(5)}
    assert len(drawn) > 1
    # More than there are: some come twice, but never the sample's own.
    many = samples.sample(0, 2, others=9).others
    assert len(many) == 9 and all(labels[0, 0] != 2 for _, labels in many)


def test_the_only_image_is_its_own_other(data: Path) -> None:
    for path in (data / 'cityscapes').glob('*/train/ulm/*'):
        if frame_name(3) not in path.name:
            path.unlink()
    ((_, labels),) = samples_of(data).sample(0, 0, others=1).others
    assert (labels == 3).all()


def test_partner_is_redrawn_in_each_epoch(data: Path) -> None:
    samples = samples_of(data, **PAIRED)
    shades = [int(samples.sample(epoch, 2)[0][1, 0, 0, 0]) for epoch in range(40)]
    assert set(shades) == {180, 220}
    assert min(Counter(shades).values()) > 8
    assert shades == [int(samples.sample(epoch, 2)[0][1, 0, 0, 0]) for epoch in range(40)]
    other = samples_of(data, **PAIRED, seed=1)
    assert shades != [int(other.sample(epoch, 2)[0][1, 0, 0, 0]) for epoch in range(40)]


def test_mixup_blends_the_original_into_the_partner_up_to_its_share(data: Path) -> None:
    samples = samples_of(data, **PAIRED, mixup=0.3)
    full = 0
    for epoch in range(60):
        images, labels, *_ = samples.sample(epoch, 0)
        assert (images[0] == 100).all()
        value = int(images[1, 0, 0, 0])
        assert (images[1] == value).all()
        assert any(round(s - 0.3 * (s - 100)) <= value <= s for s in (180, 220))
        full += value in (156, 184)
        assert NOVEL in labels[1]
    assert 0.5 < full / 60 < 0.9  # U(0,1) is above 0.3 in seven cases of ten


def test_mixed_is_the_rounded_blend() -> None:
    rng = np.random.default_rng(0)
    original, partner = rng.integers(0, 256, (2, 9, 7, 3), np.uint8)
    for share in (0.0, 0.17, 0.3, 1.0):
        exact = share * original.astype(float) + (1 - share) * partner.astype(float)
        assert np.abs(mixed(original, partner, share) - exact).max() <= 0.5 + 1e-5


def make_coco(root: Path) -> dict[str, str]:
    picture = np.full((30, 30, 3), 250, np.uint8)
    raw = np.zeros((30, 30), np.uint8)
    raw[5:25, 5:25] = 254
    for path, content in (
        (root / 'coco/train2017/000000000001.jpg', picture),
        (root / 'coco/annotations/ood_seg_train2017/000000000001.png', raw),
    ):
        path.parent.mkdir(parents=True)
        Image.fromarray(content).save(path)
    return {'kind': 'coco_objects'}


def test_outliers_are_pasted_into_originals_only(data: Path) -> None:
    samples = samples_of(data, **PAIRED, outliers=make_coco(data))
    for epoch in range(10):
        images, labels, *_ = samples.sample(epoch, 4)
        novel = labels[0] == NOVEL
        assert novel.any()
        assert (images[0][novel] > 240).all()
        assert (images[0][~novel] == 100).all()
        assert (images[1] == images[1, 0, 0, 0]).all()


def test_pasting_does_not_change_what_else_is_drawn(data: Path) -> None:
    plain = samples_of(data, **PAIRED, mixup=0.3)
    pasting = samples_of(data, **PAIRED, mixup=0.3, outliers=make_coco(data))
    for epoch in range(5):
        first, second = plain.sample(epoch, 1), pasting.sample(epoch, 1)
        assert (first[0][1] == second[0][1]).all()
        assert (first[1][1] == second[1][1]).all()


def test_pasted_weather_partners(data: Path) -> None:
    samples = samples_of(
        data,
        partners={'kind': 'pasted_weather'},
        outliers={'kind': 'sample_objects', 'split': 'train'},
        transforms=ZOOM,
    )
    assert len(samples) == 6
    novel = np.zeros(2, int)
    for epoch in range(12):
        images, labels, *_ = samples.sample(epoch, 5)
        assert images.shape == (2, 32, 40, 3)
        assert set(np.unique(labels)) <= {5, NOVEL, VOID}
        assert not (images[0] == images[1]).all()
        assert ((labels[0] == VOID) == (labels[1] == VOID))[(labels != NOVEL).all(0)].all()
        novel += (labels == NOVEL).any((1, 2))
    assert (novel >= 4).all()


def test_pasted_objects_alone_may_make_the_partner(data: Path) -> None:
    samples = samples_of(
        data,
        partners={'kind': 'pasted_weather', 'weather': False},
        outliers={'kind': 'sample_objects', 'split': 'train'},
        transforms=ZOOM | {'color': 0.0, 'blur': 0.0},
    )
    differ = False
    for epoch in range(6):
        images, labels, *_ = samples.sample(epoch, 5)
        same = (labels != NOVEL).all(0)
        assert (images[0] == images[1])[same].mean() > 0.7  # zoom and fit mix neighbours
        differ |= bool((images[0] != images[1])[~same].any())
    assert differ


def test_rule_aug_partners_are_the_originals_in_other_colors(data: Path) -> None:
    samples = samples_of(
        data,
        partners={'kind': 'rule_aug'},
        outliers={'kind': 'sample_objects', 'split': 'train'},
        transforms={'kind': 'rule_aug', 'crop': [32, 40], 'color': False},
    )
    assert len(samples) == 6
    shades, novel = set(), np.zeros(2, int)
    for epoch in range(20):
        images, labels, *_ = samples.sample(epoch, 5)
        both = (labels != NOVEL).all(0)
        assert (labels[0] == labels[1])[both].all()  # moved alike
        seen = both & (labels[0] != VOID)
        inner = cv2.erode(seen.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        # The original keeps its colours, but for the soft edges of what is pasted.
        assert (images[0][inner] == 100).mean() > 0.9
        shades |= {tuple(color) for color in images[1][inner].tolist()}
        novel += (labels == NOVEL).any((1, 2))
    assert len(shades) > 5
    assert novel[0] > 5 and novel[1] == 0  # nothing is pasted into the partner


def test_what_was_called_rule_based_says_its_new_name(data: Path) -> None:
    with pytest.raises(ValidationError, match=r'rule_based is called pasted_weather.*rule_aug'):
        samples_of(data, partners={'kind': 'rule_based'}, transforms=CROP)


def test_sample_drive_pairs_show_the_same_scene_in_another_light(tmp_path: Path) -> None:
    drive = {'kind': 'sample_drive', 'split': 'train', 'frames': 1, 'seed': 3, 'size': [48, 80]}
    samples = samples_of(
        tmp_path,
        images=drive | {'conditions': ['day']},
        partners=drive | {'conditions': ['night', 'dusk']},
        transforms={'kind': 'multishift_deeplab', 'crop': [48, 80]},
    )
    images, labels, *_ = samples.sample(0, 0)
    assert (labels[0] == labels[1]).mean() > 0.98
    assert images[1].mean() < images[0].mean()


def test_partner_of_another_size_is_named(data: Path) -> None:
    path = (
        data / 'multishift_cityscapes/{}/train/ulm/ulm_000001_000019_snowy_day_Old_town_pot_0.91{}'
    )
    for folder, end, shape in (
        ('leftImg8bit', '_leftImg8bit.png', (10, 12, 3)),
        ('gtFine', '_gtFine_labelTrainIds.png', (10, 12)),
    ):
        Image.fromarray(np.zeros(shape, np.uint8)).save(str(path).format(folder, end))
    samples = samples_of(data, **PAIRED)
    with pytest.raises(MultishiftError, match=r'pot_0\.91_.*\(10, 12\).*ulm_000001_.*\(48, 64\)'):
        for epoch in range(20):
            samples.sample(epoch, 1)


def batches(samples: Samples, epoch: int, **options: Any) -> list[tuple[Bytes, Bytes]]:
    loader = training_loader(samples, epoch, **({'batch_size': 2} | options))
    return [(batch.images.numpy(), batch.labels.numpy()) for batch in loader]


def same(first: list[tuple[Bytes, Bytes]], second: list[tuple[Bytes, Bytes]]) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(a, b)
        for one, two in zip(first, second, strict=True)
        for a, b in zip(one, two, strict=True)
    )


@pytest.fixture
def varied(data: Path) -> Samples:
    return samples_of(
        data,
        **PAIRED,
        mixup=0.3,
        outliers={'kind': 'sample_objects', 'split': 'train'},
        transforms={'kind': 'multishift_mask2former', 'crop': [32, 40]},
    )


def test_batches_do_not_depend_on_workers(varied: Samples) -> None:
    alone = batches(varied, 3)
    assert same(alone, batches(varied, 3))
    assert same(alone, batches(varied, 3, workers=2))
    assert not same(alone, batches(varied, 4))


def test_batch_is_originals_first_then_their_partners(data: Path) -> None:
    samples = samples_of(data, **PAIRED)
    seen = []
    for images, labels, members, *_ in training_loader(samples, 0, batch_size=2):
        assert members == 2
        assert images.shape == (4, 32, 40, 3) and images.dtype == torch.uint8
        assert labels.shape == (4, 32, 40) and labels.dtype == torch.uint8
        assert (images[:2] == 100).all() and (images[2:] > 170).all()
        assert (labels[2:] == NOVEL).any()
        seen += labels[:2, 0, 0].tolist()
    assert len(seen) == len(set(seen)) == 4  # five samples: the last, half a batch, is dropped


def test_processes_share_each_batch(varied: Samples) -> None:
    whole = batches(varied, 1, batch_size=4)
    parts = [batches(varied, 1, batch_size=4, rank=rank, ranks=2) for rank in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        for tensor, one, two in zip(batch, first, second, strict=True):
            # Four originals, four partners; a process gets every second of each.
            assert np.array_equal(one, tensor[[0, 2, 4, 6]])
            assert np.array_equal(two, tensor[[1, 3, 5, 7]])
    with pytest.raises(MultishiftError, match='4 cannot be shared by 3'):
        training_loader(varied, 1, batch_size=4, ranks=3)


def test_a_run_goes_on_within_an_epoch(varied: Samples) -> None:
    assert same(batches(varied, 2)[1:], batches(varied, 2, start=1))


def test_reading_leaves_the_global_random_state(varied: Samples) -> None:
    before = torch.get_rng_state()
    batches(varied, 0)
    assert (torch.get_rng_state() == before).all()


def test_too_few_samples_for_a_batch(data: Path) -> None:
    with pytest.raises(MultishiftError, match=r'5 samples.*lower batch_size \(8\)'):
        training_loader(samples_of(data, **PAIRED), 0, batch_size=8)


@pytest.mark.parametrize('workers', [0, 1])
def test_faults_in_workers_are_one_line(data: Path, workers: int) -> None:
    (data / f'cityscapes/leftImg8bit/train/ulm/{frame_name(2)}_leftImg8bit.png').write_text('no')
    with pytest.raises(MultishiftError) as fault:
        batches(samples_of(data), 0, workers=workers)
    assert '\n' not in str(fault.value)
    assert str(fault.value).startswith(str(data)) and frame_name(2) in str(fault.value)


def out_of_room(sample: Sample, _: object) -> Sample:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    return sample


def killed(sample: Sample, _: object) -> Sample:
    os.kill(os.getpid(), signal.SIGKILL)
    return sample


@pytest.mark.parametrize(
    ('views', 'said'), [(out_of_room, 'do not fit into shared memory'), (killed, 'was killed')]
)
def test_a_worker_that_cannot_hand_over_is_told_of(data: Path, views: Views, said: str) -> None:
    loader = training_loader(samples_of(data), 0, batch_size=2, workers=1, views=views)
    loader.timeout = 20
    with pytest.raises(MultishiftError, match=said):
        next(iter(loader))


@pytest.mark.slow
def test_validation_shows_whole_images(data: Path) -> None:
    config = ValidationData.model_validate({'images': {'kind': 'cityscapes'}})
    native = list(validation_loader(open_validation(config, root=data, cache=data)))
    assert [tuple(i.shape) for i, _ in native] == [(1, 48, 64, 3)] * 6
    assert [int(t[0, 0, 0]) for _, t in native] == [0, 1, 2, 3, 4, 5]
    small = open_validation(config, root=data, cache=data, size=(24, 40))
    fitted = list(validation_loader(small, workers=1))
    assert [tuple(t.shape) for _, t in fitted] == [(1, 24, 40)] * 6


def test_validation_pastes_the_same_objects_every_time(data: Path) -> None:
    images = {'kind': 'camvid', 'split': 'val', 'held_out': ['rider']}
    raw = np.full(SIZE, 3, np.uint8)
    raw[:20] = 10  # bicyclist
    write(data / 'written', 'a', 100, raw)
    for folder, end in (('leftImg8bit', '_leftImg8bit'), ('gtFine', '_gtFine_labelTrainIds')):
        target = data / 'camvid' / ('images' if folder == 'leftImg8bit' else 'labels') / 'val'
        target.mkdir(parents=True)
        (data / f'written/{folder}/train/ulm/a{end}.png').rename(target / 'a.png')
    plain, pasting = (
        open_validation(
            ValidationData.model_validate({'images': images, 'outliers': outliers}),
            root=data,
            cache=data,
        )
        for outliers in (None, make_coco(data))
    )
    assert (plain[0][1][:20] == NOVEL).all()
    once, again = (next(iter(validation_loader(pasting, workers=n)))[1] for n in (0, 1))
    assert (once == again).all()
    # Only what was pasted is novel; the class held out for tests must not calibrate anything.
    assert set(once.unique().tolist()) == {0, NOVEL, VOID}
    assert (once[0, :20] == VOID).any()


def test_class_weights(data: Path) -> None:
    half = np.zeros(SIZE, np.uint8)
    half[:24] = 4
    half[:, 32:] = VOID
    write(data / 'cityscapes', frame_name(5), 100, half)
    images = open_images(CityscapesData(kind='cityscapes'), data, data)
    weights = class_weights([images], 19)
    # Pixels, in quarter images: class 0 has 4 + 1, classes 1 to 3 have 4, class 4 has 4 + 1.
    share = np.array([5, 4, 4, 4, 5, *[0] * 14]) / 22
    raw = 1 / np.log(1.1 + share)
    np.testing.assert_allclose(weights, raw / (raw * share).sum(), rtol=1e-6)
    assert weights.dtype == torch.float32
