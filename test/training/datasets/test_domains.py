# SPDX-License-Identifier: Apache-2.0
"""Several domains in one run: their shares of a batch, their own keys, their groups of classes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
import pytest
import torch
import yaml

from multishift_perception.classes import CITYSCAPES, NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_perception.schema.yaml_files import read_typed
from multishift_training.datasets import (
    Batch,
    Sample,
    Samples,
    TrainingData,
    class_weights,
    training_loader,
)
from multishift_training.datasets.groups import membership
from multishift_training.datasets.presence import check_data
from multishift_training.losses.noise_aware import pixel_cross_entropy
from multishift_training.methods import Context
from multishift_training.methods.closed_world import ClosedWorld
from multishift_training.methods.multishift import MultiShift
from multishift_training.models import Prediction

Bytes = NDArray[np.uint8]

SIZE = (48, 64)
CROP = {'kind': 'zoom_crop', 'crop': [32, 40], 'flip': 0, 'color': 0, 'blur': 0}
# Pixel values tell the domain and the frame.
FINE, IDD, LUMS = 100, 150, 200


def write(image: Path, labels: Path, shade: int, raw: Bytes | int) -> None:
    for path in (image, labels):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), shade, np.uint8)).save(image)
    Image.fromarray(np.broadcast_to(np.uint8(raw), SIZE).copy()).save(labels)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six finely labelled images, and two data sets of groups with two and three images."""
    for i in range(6):
        name = f'ulm/ulm_{i:06d}_000019'
        write(
            tmp_path / f'cityscapes/leftImg8bit/train/{name}_leftImg8bit.png',
            tmp_path / f'cityscapes/gtFine/train/{name}_gtFine_labelTrainIds.png',
            FINE + i,
            i,
        )
    for i in range(2):
        write(
            tmp_path / f'idd_lite/leftImg8bit/train/7/{i}_image.png',
            tmp_path / f'idd_lite/gtFine/train/7/{i}_label.png',
            IDD + i,
            3,  # vehicle
        )
    for i in range(3):
        raw = np.full(SIZE, 2, np.uint8)
        raw[:24] = 0  # neither road nor sidewalk
        write(
            tmp_path / f'lums_road/images/train_{i}.png',
            tmp_path / f'lums_road/labels/train_{i}.png',
            LUMS + i,
            raw,
        )
    return tmp_path


DOMAINS: list[dict[str, Any]] = [
    {'domain': 'fine', 'kind': 'cityscapes'},
    {'domain': 'idd', 'kind': 'idd_lite'},
    {'domain': 'campus', 'kind': 'lums_road'},
]


def config_of(*domains: dict[str, Any], **description: Any) -> TrainingData:
    return TrainingData.model_validate(
        {'images': list(domains or DOMAINS), 'transforms': CROP} | description
    )


def samples_of(root: Path, *domains: dict[str, Any], seed: int = 0, **more: Any) -> Samples:
    config = config_of(*domains, **more)
    return Samples(config, root=root, cache=root / 'cache', seed=seed)


def shades(batch: Batch) -> list[int]:
    return [int(image.max()) for image in batch.images]


def equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(getattr(a, part), getattr(b, part))
        for a, b in zip(first, second, strict=True)
        for part in ('images', 'labels', 'domains')
    )


def test_a_batch_holds_equally_many_of_each_domain(data: Path) -> None:
    samples = samples_of(data)
    assert len(samples) == 18
    batches = list(training_loader(samples, 0, batch_size=6))
    assert len(batches) == 3
    for batch in batches:
        assert batch.domains.tolist() == [0, 0, 1, 1, 2, 2]
        assert [shade // 50 * 50 for shade in shades(batch)] == [FINE] * 2 + [IDD] * 2 + [LUMS] * 2
    seen = Counter(shade for batch in batches for shade in shades(batch))
    # The longest is seen once, the others in whole rounds.
    assert [seen[FINE + i] for i in range(6)] == [1] * 6
    assert [seen[IDD + i] for i in range(2)] == [3] * 2
    assert [seen[LUMS + i] for i in range(3)] == [2] * 3


def test_a_shorter_domain_is_repeated_in_a_new_order_with_new_changes(data: Path) -> None:
    samples = samples_of(data)
    orders = [samples.order(epoch)[1].tolist() for epoch in range(20)]
    places = [[index // 3 % 2 for index in order] for order in orders]
    rounds = {tuple(order[n : n + 2]) for order in places for n in (0, 2, 4)}
    assert rounds == {(0, 1), (1, 0)}
    assert any(order[:2] != order[2:4] for order in places)
    assert all(len(set(order)) == 6 for order in orders)
    varied = samples_of(data, transforms={**CROP, 'color': 1.0})
    first, again = (varied.sample(0, index) for index in (1, 1 + 3 * 2))
    assert first.domain == again.domain == 1
    assert not np.array_equal(first.images, again.images)


def test_domains_do_not_draw_alike(data: Path) -> None:
    twice = [{'domain': name, 'kind': 'cityscapes'} for name in 'ab']
    samples = samples_of(data, *twice, transforms={**CROP, 'color': 1.0})
    assert not np.array_equal(samples.sample(0, 4).images, samples.sample(0, 5).images)
    first, second = samples.order(0) // 2
    assert not np.array_equal(first, second)


def test_one_domain_is_what_a_single_description_is(data: Path) -> None:
    alone = samples_of(data, images={'kind': 'cityscapes'}, transforms={**CROP, 'color': 1.0})
    listed = samples_of(data, DOMAINS[0], transforms={**CROP, 'color': 1.0})
    first, second = (list(training_loader(s, 2, batch_size=2)) for s in (alone, listed))
    assert equal(first, second)
    assert all((batch.domains == 0).all() for batch in first)
    # As runs that began with one data set drew it.
    order = np.random.default_rng((0, 2)).permutation(6)
    assert [shade for batch in training_loader(samples_of(data, DOMAINS[0]), 2, batch_size=2)
            for shade in shades(batch)] == (FINE + order).tolist()  # fmt: skip


def test_batches_depend_on_seed_and_epoch_alone(data: Path) -> None:
    samples = samples_of(data, transforms={**CROP, 'color': 1.0})
    whole = list(training_loader(samples, 1, batch_size=6))
    assert equal(whole, list(training_loader(samples, 1, batch_size=6, workers=2)))
    assert equal(whole[1:], list(training_loader(samples, 1, batch_size=6, start=1)))
    parts = [
        list(training_loader(samples, 1, batch_size=6, rank=rank, ranks=2)) for rank in (0, 1)
    ]
    for batch, first, second in zip(whole, *parts, strict=True):
        for part in ('images', 'labels', 'domains'):
            assert torch.equal(getattr(first, part), getattr(batch, part)[::2])
            assert torch.equal(getattr(second, part), getattr(batch, part)[1::2])
        assert first.domains.tolist() == [0, 1, 2]


def test_a_batch_that_domains_and_processes_cannot_share(data: Path) -> None:
    samples = samples_of(data)
    with pytest.raises(MultishiftError) as fault:
        training_loader(samples, 0, batch_size=6, ranks=4)
    assert str(fault.value) == (
        'batch_size 6 cannot be shared by 3 domains in 4 processes: give a multiple of 12'
    )
    with pytest.raises(MultishiftError, match='by 3 domains in 1 process: give a multiple of 3'):
        training_loader(samples, 0, batch_size=4)


def test_samples_that_a_method_makes_keep_their_domain(data: Path) -> None:
    def views(sample: Sample, _: np.random.Generator) -> Sample:
        return Sample(sample.images.repeat(2, 0), sample.labels.repeat(2, 0))

    (batch, *_) = training_loader(samples_of(data), 0, batch_size=3, views=views)
    assert batch.members == 2
    assert batch.domains.tolist() == [0, 1, 2, 0, 1, 2]


def test_a_domain_has_keys_of_its_own(data: Path) -> None:
    own = {'partners': {'kind': 'rule_aug'}, 'transforms': {**CROP, 'size': [64, 80]}}
    config = config_of(DOMAINS[0], {**DOMAINS[1], **own}, partners={'kind': 'pasted_weather'})
    first, second = config.domains
    assert (first.name, second.name) == ('fine', 'idd')
    assert (first.partners.kind, second.partners.kind) == ('pasted_weather', 'rule_aug')
    assert (first.transforms.size, second.transforms.size) == (None, (64, 80))
    assert config.members == 2
    check_data(config, data)
    for path in (data / 'idd_lite').rglob('*_image.png'):
        path.unlink()
    with pytest.raises(MultishiftError, match='idd_lite'):
        check_data(config, data)


def test_description_is_written_as_it_is_read() -> None:
    config = config_of({'domain': 'a', 'kind': 'camvid', 'split': 'train'}, DOMAINS[2])
    written = config.model_dump(mode='json')
    assert written['images'][0]['kind'] == 'camvid' and written['images'][0]['domain'] == 'a'
    assert TrainingData.model_validate(written) == config


@pytest.mark.parametrize(
    ('domains', 'fault'),
    [
        ([DOMAINS[0], DOMAINS[0]], 'two domains are called fine: rename one of them'),
        (
            [DOMAINS[0], {**DOMAINS[1], 'partners': {'kind': 'rule_aug'}}],
            'domain idd has partners, fine has none: give them to all, or to none',
        ),
        (
            [DOMAINS[0], {**DOMAINS[1], 'transforms': {**CROP, 'crop': [16, 16]}}],
            r'domain fine is cropped to \[32, 40\], idd to \[16, 16\]: set `crop`',
        ),
        (
            [DOMAINS[0], {'kind': 'camvid', 'split': 'train'}],
            r'images\[1\].domain is missing in the block of line 4, expected text',
        ),
        ([{'domain': 'a', 'split': 'val'}], r'images\[0\].kind is missing.*expected cityscapes'),
        (
            [{**DOMAINS[1], 'splt': 'train'}],
            r'images\[0\].splt \(line 4\) is no key of idd_lite, expected .*did you mean split',
        ),
        (
            [{**DOMAINS[1], 'partner': {'kind': 'rule_aug'}}],
            r'images\[0\].partner \(line 4\) is no key of idd_lite, .*did you mean partners',
        ),
        (
            [{**DOMAINS[1], 'split': 'tran'}],
            r'images\[0\].split \(line 4\) is tran, expected one of train or val|train or val',
        ),
        ([{**DOMAINS[0], 'transforms': {'kind': 'zoom_crop'}}], r'images\[0\].transforms.crop is'),
        ([], r'images \(line 1\) is \[\], expected .* or a list of 1 or more'),
    ],
)
def test_faults_of_a_list_are_one_line(
    domains: list[dict[str, Any]], fault: str, tmp_path: Path
) -> None:
    path = tmp_path / 'data.yaml'
    content = {'images': domains, 'transforms': CROP}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(MultishiftError, match=fault) as found:
        read_typed(path, TrainingData, 'data')
    assert '\n' not in str(found.value)


def test_groups_of_one_batch_are_not_confused(data: Path) -> None:
    samples = samples_of(data)
    (batch, *_) = training_loader(samples, 0, batch_size=3)
    names = [group.name for group in samples.groups]
    assert names.index('vehicle') == 3 and names.index('neither road nor sidewalk') == 7
    assert batch.labels[1].unique().tolist() == [19 + 3]
    assert set(batch.labels[2].unique().tolist()) <= {0, 19 + 7}
    # By hand: where a label is a group, its classes' shares are added.
    logits = torch.randn(3, 19, 32, 40, dtype=torch.float64)
    groups = torch.from_numpy(membership(samples.groups))
    losses = pixel_cross_entropy(logits, batch.labels.long(), groups=groups)
    shares = logits.softmax(1)
    of_fine = -shares[0, int(batch.labels[0, 0, 0])].log()
    of_vehicle = -shares[1, [13, 14, 15, 16, 17, 18]].sum(0).log()
    of_rest = -(1 - shares[2, :2].sum(0)).log()
    of_campus = torch.where(batch.labels[2] == 0, -shares[2, 0].log(), of_rest)
    for found, expected in zip(losses, (of_fine, of_vehicle, of_campus), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('pairs', ['all', 'sampled'])
def test_methods_learn_from_coarse_images_with_pasted_objects(data: Path, pairs: str) -> None:
    samples = samples_of(
        data,
        partners={'kind': 'pasted_weather'},
        outliers={'kind': 'sample_objects', 'split': 'train'},
    )
    batch = next(b for b in training_loader(samples, 0, batch_size=6) if (b.labels == NOVEL).any())
    batch = batch._replace(labels=batch.labels.long())
    assert batch.domains.tolist() == [0, 0, 1, 1, 2, 2] * 2
    groups = torch.from_numpy(membership(samples.groups))
    logits = torch.randn(12, 19, 32, 40, requires_grad=True)
    score = torch.randn(12, 32, 40, requires_grad=True)
    context = Context(None, None, None, groups, lambda values: values)
    options: dict[str, Any] = {'kind': 'multishift', 'margins': (1, 1, 1), 'pairs': pairs}
    for method in (ClosedWorld(kind='closed_world'), MultiShift(**options, trusted_ratio=1.0)):
        parts = method.losses(Prediction(logits, score, logits), batch, context)
        total = torch.stack(list(parts.values())).sum()
        assert total.isfinite()
        logits.grad = None
        total.backward()
        assert logits.grad is not None and logits.grad.isfinite().all()
        known = batch.labels < NOVEL
        assert (logits.grad.abs().sum(1)[known] > 0).all()
        assert (logits.grad.abs().sum(1)[~known] == 0).all()


def test_class_weights_count_domains_alike(data: Path) -> None:
    samples = samples_of(data, DOMAINS[0], DOMAINS[2])
    originals = [domain.originals for domain in samples.domains]
    weights = class_weights(originals, len(CITYSCAPES) + len(samples.groups))
    # Half the pixels are of classes 0 to 5; of the other half, one half each road and the group.
    share = np.zeros(20)
    share[:6] = 1 / 12
    share[0] += 1 / 4
    share[19] = 1 / 4
    rarity = 1 / np.log(1.1 + share)
    np.testing.assert_allclose(weights, rarity / (rarity * share).sum(), rtol=1e-6)


def test_void_is_no_part_of_a_domain_s_weight(data: Path) -> None:
    for path in (data / 'lums_road/labels').iterdir():
        raw = np.full(SIZE, 1, np.uint8)  # obstacles, which are void
        raw[:12] = 2
        Image.fromarray(raw).save(path)
    samples = samples_of(data, DOMAINS[0], DOMAINS[2])
    assert VOID in samples.sample(0, 1).labels
    weights = class_weights([domain.originals for domain in samples.domains], 19)
    share = np.zeros(19)
    share[:6] = 1 / 6
    share[0] += 1 / 4
    share /= share.sum()
    rarity = 1 / np.log(1.1 + share)
    np.testing.assert_allclose(weights, rarity / (rarity * share).sum(), rtol=1e-6)
