# SPDX-License-Identifier: Apache-2.0
"""Networks of classes of one's own: from a class table to what an engine says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner
import numpy as np
from PIL import Image
import pytest
import simplejpeg
import yaml

from multishift_perception.bags import BagReader
from multishift_perception.classes import CITYSCAPES, NOVEL, VOID, SemanticClass, color_table
from multishift_perception.cli.main import multishift
from multishift_perception.engine import Engine, read_manifest
from multishift_perception.errors import MultishiftError
from multishift_perception.images.class_table import ClassTable, read_class_table
from multishift_perception.message_types import LABEL_INFO
from multishift_perception.prediction import predict
from multishift_perception.view.board import Board
from multishift_perception.view.footage_feed import FootageFeed
from multishift_perception.view.pictures import PictureKind
from multishift_training.augmentation.config import AugmentConfig
from multishift_training.checkpoints.metadata import read_origin
from multishift_training.datasets import Samples, TrainingData
from multishift_training.datasets.descriptions import read_datasets
from multishift_training.datasets.images import LabelledImages, open_images
from multishift_training.datasets.kinds import FolderData
from multishift_training.export import build
from multishift_training.loop.config import TrainConfig, read_config
from multishift_training.loop.train import train
from multishift_training.methods.dcr import Dcr

SIZE = (64, 96)
CLASSES: list[dict[str, Any]] = [
    {'name': 'ground', 'color': [90, 60, 30], 'labels': [7, 8]},
    {'name': 'crop', 'color': [30, 160, 40], 'labels': [11]},
    {'name': 'tractor', 'color': [200, 30, 30], 'labels': [21]},
    {'name': 'sky', 'color': [90, 140, 230], 'labels': [200]},
]
GROUPS = [{'name': 'field', 'classes': ['ground', 'crop'], 'labels': [50]}]
TABLE = {'classes': CLASSES, 'groups': GROUPS, 'novel': [99], 'void': [0]}
NAMES = [c['name'] for c in CLASSES]
KNOWN = [SemanticClass(c['name'], tuple(c['color'])) for c in CLASSES]
RAW = (200, 11, 7, 21)


def write_image(folder: Path, name: str, raw: np.ndarray) -> None:
    """Write a picture in which each class has its own colour, and its labels."""
    look = np.zeros((256, 3), np.uint8)
    for known in CLASSES:
        look[known['labels']] = known['color']
    picture = look[raw].astype(np.int64)
    picture += np.random.default_rng(len(name)).integers(-12, 13, picture.shape)
    for part in ('images', 'labels'):
        (folder / part).mkdir(exist_ok=True)
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / 'images' / f'{name}.png')
    Image.fromarray(raw.astype(np.uint8)).save(folder / 'labels' / f'{name}.png')


def described(**changes: object) -> dict[str, Any]:
    return {
        'kind': 'folder',
        'images': 'images',
        'labels': 'labels',
        'image_suffix': '.png',
        'classes': 'farm.yaml',
        **changes,
    }


def configured(**changes: object) -> dict[str, Any]:
    """A run of a few steps."""
    return {
        'model': 'deeplabv3plus_compact',
        'data': {
            'images': described(),
            'transforms': {'kind': 'zoom_crop', 'crop': list(SIZE), 'flip': 0, 'color': 0},
        },
        'val': {'images': described()},
        'engine_size': list(SIZE),
        'batch_size': 2,
        'workers': 0,
        'monitor': 'miou',
        'stages': [
            {
                'name': 'classes',
                'epochs': 1,
                'trainable': ['*'],
                'init_uncertainty': True,
                'method': {'kind': 'closed_world'},
                'optimizer': {'learning_rate': 1e-2},
            }
        ],
        **changes,
    }


@pytest.fixture(scope='module')
def farm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: pictures, labels with values of their own, a class table and a plan."""
    folder = tmp_path_factory.mktemp('farm')
    for index in range(4):
        raw = np.repeat(np.roll(RAW, index), 16)[:, None].repeat(96, axis=1)
        raw[:2] = 0
        raw[40:44, :20] = 50
        write_image(folder, f'field_{index}', raw)
    (folder / 'farm.yaml').write_text(yaml.safe_dump(TABLE))
    (folder / 'plan.yaml').write_text(yaml.safe_dump(configured()))
    (folder / 'sets.yaml').write_text(yaml.safe_dump({'fields': described()}))
    return folder


@pytest.fixture(scope='module')
def best(farm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a short training."""
    config = read_config(farm / 'plan.yaml')
    path = train(config, tmp_path_factory.mktemp('runs') / 'farm', root=farm)
    assert path is not None
    return path


@pytest.fixture(scope='module')
def bundle(best: Path, farm: Path) -> Path:
    """The engine of that checkpoint, built after the class table is gone."""
    out = best.parent / 'engine'
    table = farm / 'farm.yaml'
    text = table.read_text()
    table.unlink()
    try:
        build(best, out, targets=['torch'], data=farm)
    finally:
        table.write_text(text)
    return out


def invoke(*words: object) -> str:
    done = CliRunner().invoke(multishift, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.mark.slow
def test_a_run_learns_and_keeps_the_classes_of_the_table(best: Path, bundle: Path) -> None:
    assert list(read_origin(best).classes) == KNOWN
    assert list(read_manifest(bundle).semantic_classes) == KNOWN
    with Engine.load(bundle) as engine:
        assert list(engine.classes) == KNOWN
        assert engine.infer(np.zeros((1, *SIZE, 3), np.uint8)).label.max() < len(KNOWN)


@pytest.mark.slow
def test_what_is_predicted_has_their_labels_and_colours(
    farm: Path, bundle: Path, tmp_path: Path
) -> None:
    picture = farm / 'images/field_0.png'
    invoke('predict', picture, '--out', tmp_path / 'out', '--engine', bundle)
    with Image.open(tmp_path / 'out/labels/field_0.png') as image:
        labels = np.array(image)
    content = json.loads((tmp_path / 'out/metrics.json').read_text())
    assert content['classes'] == [{k: c[k] for k in ('name', 'color')} for c in CLASSES]
    with Engine.load(bundle) as engine:
        prediction = predict(picture, engine, threshold=1)
    assert [c.name for c in prediction.classes] == NAMES
    np.testing.assert_array_equal(labels, prediction.labels)
    # All but the outlines of anomalies.
    assert (prediction.overlay(1.0) == color_table(KNOWN)[labels]).all(-1).mean() > 0.9


@pytest.mark.slow
def test_it_is_evaluated_by_their_names(farm: Path, bundle: Path, tmp_path: Path) -> None:
    options = ('--engine', bundle, '--data', farm)
    report = tmp_path / 'report'
    invoke('evaluate', farm / 'sets.yaml', '--out', report, *options)
    page = (report / 'report.html').read_text()
    assert 'tractor' in page and 'field' in page and 'sidewalk' not in page
    assert 'tractor' in invoke('engine', 'inspect', bundle)
    # In another order, and of other values: what counts is the name.
    mixed = {'classes': [{**c, 'labels': [i]} for i, c in enumerate(CLASSES[::-1])]}
    sets = tmp_path / 'sets.yaml'
    sets.write_text(yaml.safe_dump(described(classes=mixed)))
    images = opened(sets, farm).in_classes(KNOWN)
    assert [c.name for c in images.classes] == NAMES


@pytest.mark.slow
def test_a_bag_of_theirs_is_replayed(farm: Path, bundle: Path, tmp_path: Path) -> None:
    bag, report = tmp_path / 'fields.mcap', tmp_path / 'report'
    tables = ('--labels', farm / 'labels', '--classes', farm / 'farm.yaml')
    invoke('make-bag', farm / 'images', bag, *tables)
    recorded = tmp_path / 'outputs.mcap'
    invoke('replay', bag, '--engine', bundle, '--out', report, '--record', recorded)
    page = (report / 'report.html').read_text()
    for known in KNOWN:
        swatch = 'background: rgb({}, {}, {})"></span><span>{}<'.format(*known.color, known.name)
        assert swatch in page
    assert json.loads((report / 'metrics.json').read_text())['classes'] == NAMES
    with BagReader(recorded) as reader:
        topic = next(topic for topic, kind in reader.topics.items() if kind == LABEL_INFO)
        [(_, message, _)] = reader.messages([topic])
    assert [known.class_name for known in message.class_map] == NAMES


@pytest.mark.slow
def test_the_page_shows_their_colours(farm: Path, bundle: Path) -> None:
    picture, board = farm / 'images/field_0.png', Board()

    async def shown() -> bytes:
        async with asyncio.timeout(20):
            with board.watching('field_0', PictureKind.LABELS) as viewer:
                return await viewer.next()

    with Engine.load(bundle) as engine:
        feed = FootageFeed(str(picture), ['field_0'], engine, board)
        feed.start()
        try:
            tile = simplejpeg.decode_jpeg(asyncio.run(shown()), 'RGB').astype(int)
        finally:
            # What is just drawn may take longer than its patience.
            assert any(feed.close() for _ in range(100))
        expected = color_table(KNOWN)[predict(picture, engine).labels]
    # JPEG blurs the borders of classes.
    assert np.median(np.abs(tile - expected)) < 8


def opened(sets: Path, root: Path) -> LabelledImages:
    [found] = read_datasets([sets]).values()
    return open_images(found.images, root, root)


def test_labels_are_told_by_the_table_and_by_name(farm: Path, tmp_path: Path) -> None:
    own = opened(farm / 'sets.yaml', farm)
    labels = own.read(0)[1]
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4, VOID}
    turned = own.in_classes(KNOWN[::-1])
    assert [turned.classes[i].name for i in (0, 3)] == ['sky', 'ground']
    np.testing.assert_array_equal(turned.read(0)[1] == 0, labels == 3)
    np.testing.assert_array_equal(turned.read(0)[1] == 4, labels == 4)
    np.testing.assert_array_equal(turned.read_labels(0), turned.read(0)[1])


def test_classes_that_a_network_does_not_know(farm: Path) -> None:
    own = opened(farm / 'sets.yaml', farm)
    with pytest.raises(MultishiftError) as caught:
        own.in_classes(KNOWN[1:3]).read(0)
    assert str(caught.value) == (
        f'{farm}/labels/field_0.png has labels of ground, sky, which the network does not '
        'know: its classes are crop, tractor: take other images, or name the classes alike in a '
        'class table'
    )
    with pytest.raises(MultishiftError, match='labels of ground, crop, tractor, which'):
        own.in_classes(CITYSCAPES).read_labels(0)
    with pytest.raises(MultishiftError, match='crop, tractor, sky, none of which the network kn'):
        own.in_classes(CITYSCAPES[:5])


def test_a_value_that_the_table_does_not_know(farm: Path, tmp_path: Path) -> None:
    write_image(tmp_path, 'strange', np.array([[7, 77], [78, 200]]))
    with pytest.raises(MultishiftError) as caught:
        opened(farm / 'sets.yaml', tmp_path).read(0)
    fault = 'strange.png: label values 77..78 are none of those folder uses (0, 7..8, 11, 21, '
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ('changes', 'fault'),
    [
        ({'classes': [*CLASSES, CLASSES[0]]}, 'classes: two are called ground: rename one'),
        (
            {'classes': [*CLASSES, {**CLASSES[0], 'name': 'mud', 'labels': [1]}]},
            r'classes: ground and mud have the colour \[90, 60, 30\]: give one another',
        ),
        ({'classes': [{**CLASSES[0], 'color': [0, 0, 0]}, *CLASSES[1:]]}, 'ground is black'),
        ({'novel': [21]}, 'label value 21 is given twice'),
        ({'novel': [256]}, r'novel\[0\] .* is 256, expected a whole number from 0 to 255'),
        ({'classes': [*CLASSES, {'name': 'x', 'color': [1, 2, 3]}]}, 'x has no labels'),
        ({'classes': [{**CLASSES[0], 'name': 'void'}]}, 'void is no class: list its label values'),
        ({'groups': [{**GROUPS[0], 'classes': ['crops']}]}, r'no class \(did you mean crop\?\)'),
        ({'groups': [*GROUPS, {**GROUPS[0], 'name': 'b', 'labels': [1]}]}, 'is in two groups'),
        (
            {'classes': [{'name': f'{i}', 'color': [i, 1, 0]} for i in range(254)]},
            'classes .* expected a list',
        ),
    ],
)
def test_faults_of_a_table(changes: dict[str, Any], fault: str, tmp_path: Path) -> None:
    path = tmp_path / 'table.yaml'
    path.write_text(yaml.safe_dump({**TABLE, **changes}))
    with pytest.raises(MultishiftError, match=fault) as caught:
        read_class_table(path)
    assert str(caught.value).startswith(f'{path}: ')


def test_a_table_without_values_counts_from_0() -> None:
    bare = [{k: c[k] for k in ('name', 'color')} for c in CLASSES]
    table = ClassTable.model_validate({'classes': bare}).look_up_table()
    assert table[:4].tolist() == [0, 1, 2, 3] and table[VOID] == VOID
    assert (color_table(KNOWN)[table[2]] == CLASSES[2]['color']).all()


def test_a_folder_says_its_classes_once(farm: Path) -> None:
    plain = described(classes=TABLE)
    with pytest.raises(ValueError, match='both are given: give label_map'):
        FolderData.model_validate({**plain, 'label_map': 'map.yaml'})
    with pytest.raises(ValueError, match='neither is given'):
        FolderData.model_validate({**plain, 'classes': None})
    with pytest.raises(ValueError, match=r'tracto is no class \(did you mean tractor\?\)'):
        FolderData.model_validate({**plain, 'held_out': ['tracto']})
    held_out = FolderData.model_validate({**plain, 'held_out': ['tractor']})
    assert (open_images(held_out, farm, farm).read(0)[1] == NOVEL).any()


def test_a_table_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / 'plan.yaml'
    path.write_text(yaml.safe_dump(configured()))
    with pytest.raises(MultishiftError, match=rf'{tmp_path}/farm.yaml cannot be read'):
        read_config(path)


def test_data_of_one_run_have_the_same_classes(farm: Path) -> None:
    own = described(classes=TABLE)
    city = {'kind': 'camvid', 'split': 'train'}
    with pytest.raises(ValueError, match='camvid has the classes road, .* does not learn'):
        TrainConfig.model_validate(configured(data=_data(own), val={'images': city}))
    with pytest.raises(ValueError, match='folder has the classes ground, crop, tractor'):
        TrainingData.model_validate(_data([{**city, 'domain': 'city'}, {**own, 'domain': 'farm'}]))


def _data(images: Any) -> dict[str, Any]:
    return {'images': images, 'transforms': {'kind': 'zoom_crop', 'crop': list(SIZE)}}


def test_samples_know_how_many_classes_there_are(farm: Path) -> None:
    data = TrainingData.model_validate(_data(described(classes=TABLE)))
    sample = Samples(data, root=farm, cache=farm, seed=0).sample(0, 0)
    assert sample.num_classes == 4


@pytest.mark.slow
def test_weights_of_other_classes(best: Path, farm: Path, tmp_path: Path) -> None:
    other = {**TABLE, 'classes': [*CLASSES[:3], {**CLASSES[3], 'name': 'barn'}]}
    images = described(classes=other)
    config = TrainConfig.model_validate(
        configured(data=_data(images), val={'images': images}, weights=str(best))
    )
    with pytest.raises(MultishiftError) as caught:
        train(config, tmp_path / 'run', root=farm)
    assert str(caught.value) == (
        f'weights: {best} were trained for other classes than those of data.images (they alone '
        'know sky; the data alone have barn): start from weights of the same classes, or from '
        'imagenet'
    )


def test_what_needs_the_classes_of_cityscapes_says_so(farm: Path) -> None:
    data = TrainingData.model_validate(_data(described(classes=TABLE)))
    with pytest.raises(MultishiftError, match='list the class road first'):
        Dcr(kind='dcr').check_data(data)
    with pytest.raises(ValueError, match='among which ground, crop, tractor are none'):
        AugmentConfig.model_validate(
            {
                'images': described(classes=TABLE),
                'objects': {'kind': 'sample_objects', 'split': 'train'},
                'generator': {'kind': 'procedural'},
            }
        )
