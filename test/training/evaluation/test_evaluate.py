# SPDX-License-Identifier: Apache-2.0
"""`multishift evaluate`: its figures are those of all pixels pooled, and its report has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
import json
import os
from pathlib import Path
import re
import shutil
import signal
from typing import Any

from click.testing import CliRunner, Result
import numpy as np
from numpy.typing import NDArray
from PIL import Image
import pytest
from safetensors.torch import save_file
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve
import torch
import yaml

from multishift_perception.classes import CITYSCAPES
from multishift_perception.cli.main import multishift
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.images.resizing import fit
from multishift_perception.metrics import OBSTACLE_TRACK, ComponentMetrics
from multishift_perception.metrics import state as metric_state
from multishift_perception.pipeline import Pipeline, anomaly_mask
from multishift_perception.process.signals import ended_by_signals
from multishift_training import models
from multishift_training.checkpoints.trained import save
from multishift_training.evaluation import progress
from multishift_training.evaluation.tally import Tally
from multishift_training.inference.runners import EngineRunner, NetworkRunner, Output
from multishift_training.loop.config import read_config
from multishift_training.models import SegmentationModel
from multishift_training.models.input_scale import IMAGENET, Normalize
from multishift_training.scores.mahalanobis import MahalanobisFit
from multishift_training.scores.rescored import with_score

SIZE = (40, 60)
# Road, sidewalk, building and pedestrian in CamVid's files, and void.
RAW = np.array([3, 4, 1, 9, 11], np.uint8)
OURS = np.array([0, 1, 2, 254, 255], np.uint8)
NAMES = ('0001TP_1', '0001TP_2', '0016E5_1', '0016E5_2', '0016E5_3')
DUSK = ('0001TP_1', '0001TP_2')
DESCRIPTION = {'kind': 'camvid', 'split': 'val', 'held_out': ['person']}

Frame = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def make_frame(seed: int) -> Frame:
    """Blots of random colours, brighter where the truth is novel, and the index of the truth."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(5, (8, 12), p=[0.3, 0.25, 0.2, 0.15, 0.1])
    index = coarse.repeat(5, 0).repeat(5, 1)
    colors = rng.integers(0, 180, (*SIZE, 3))
    colors[index == 0, 0] += 60  # what the color model calls road
    colors[index == 1, 2] += 60
    colors[index == 3] += 50
    return colors.clip(0, 255).astype(np.uint8), index  # type: ignore[return-value]


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with CamVid's layout in it, two images of it at dusk."""
    root = tmp_path_factory.mktemp('data')
    for kind in ('images', 'labels'):
        (root / 'camvid' / kind / 'val').mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        image, index = make_frame(seed)
        Image.fromarray(image).save(root / f'camvid/images/val/{name}.png')
        Image.fromarray(RAW[index]).save(root / f'camvid/labels/val/{name}.png')
    described(root / 'street.yaml', {'street': DESCRIPTION})
    return root


def described(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def frames(names: Sequence[str] = NAMES) -> list[Frame]:
    """Images with their labels in our encoding."""
    made = [make_frame(NAMES.index(name)) for name in names]
    return [(image, OURS[index]) for image, index in made]


def bundle_of(tiny: Path, path: Path, names: Sequence[str]) -> Path:
    """A copy of a bundle whose classes have other names."""
    shutil.copytree(tiny, path)
    manifest = yaml.safe_load((path / 'manifest.yaml').read_text())
    for entry, name in zip(manifest['classes'], names, strict=True):
        entry['name'] = name
    (path / 'manifest.yaml').write_text(yaml.safe_dump(manifest))
    return path


@pytest.fixture(scope='module')
def bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [c.name for c in CITYSCAPES[:3]]
    return bundle_of(tiny_bundle, tmp_path_factory.mktemp('bundles') / 'colors', names)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(multishift, ['evaluate', *map(str, arguments)])


def evaluated(*arguments: object, out: Path) -> dict[str, Any]:
    result = invoke(*arguments, '--out', out, '--json')
    assert result.exit_code == 0, (result.output, result.exception)
    assert json.loads((out / 'metrics.json').read_text()) == json.loads(result.stdout)
    content: dict[str, Any] = json.loads(result.stdout)
    return content


@pytest.fixture(scope='module')
def street(data: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on the engine."""
    out = tmp_path_factory.mktemp('reports') / 'engine'
    evaluated(
        data / 'street.yaml',
        *('--engine', bundle, '--backend', 'torch', '--data', data, '--components', 'obstacle'),
        out=out,
    )
    return out


def results(folder: Path, name: str = 'street', score: str = 'uncertainty') -> dict[str, Any]:
    content = json.loads((folder / 'metrics.json').read_text())
    found: dict[str, Any] = content['datasets'][name]['results'][score]
    return found


def assert_ranks(
    found: dict[str, Any], scores: Sequence[NDArray[Any]], truths: Sequence[NDArray[Any]]
) -> None:
    """The figures are those of scikit-learn on all pixels pooled."""
    truth = np.concatenate([t.ravel() for t in truths])
    score = np.concatenate([s.ravel() for s in scores])[truth != 255]
    novel = truth[truth != 255] == 254
    fpr, tpr, _ = roc_curve(novel, score, drop_intermediate=False)
    assert found['auroc'] == pytest.approx(roc_auc_score(novel, score), abs=1e-5)
    assert found['ap'] == pytest.approx(average_precision_score(novel, score), abs=1e-5)
    assert found['fpr95'] == pytest.approx(fpr[np.argmax(tpr >= 0.95)], abs=1e-5)
    assert found['novel_pixels'] == novel.sum()
    assert found['known_pixels'] == (~novel).sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('condition', 'names'), [('dusk', DUSK), ('day', NAMES[2:]), ('all', NAMES)]
)
def test_figures_of_an_engine_are_those_of_pooled_pixels(
    condition: str, names: Sequence[str], street: Path, bundle: Path
) -> None:
    found = results(street)[condition]
    images, truths = zip(*frames(names), strict=True)
    with Engine.load(bundle, backend='torch') as engine:
        outputs = Pipeline(engine).run(images)
    assert found['images'] == len(names)
    assert_ranks(found['anomaly'], [output.score for output in outputs], truths)

    truth = np.concatenate([t.ravel() for t in truths])
    labels = np.concatenate([output.labels.ravel() for output in outputs])
    known = truth < 254
    confusion = confusion_matrix(truth[known], labels[known], labels=range(3))
    hits = np.diag(confusion)
    iou = hits / (confusion.sum(0) + confusion.sum(1) - hits)
    segmentation = found['segmentation']
    assert segmentation['miou'] == pytest.approx(iou.mean())
    assert segmentation['mean_class_accuracy'] == pytest.approx((hits / confusion.sum(1)).mean())
    assert segmentation['pixel_accuracy'] == pytest.approx(hits.sum() / confusion.sum())

    masks = [anomaly_mask(output.anomaly, 0.5) for output in outputs]
    mask = np.concatenate([m.ravel() for m in masks]) != 0
    assert 0 < found['operating']['tpr'] == pytest.approx(mask[truth == 254].mean())
    assert 0 < found['operating']['fpr'] == pytest.approx(mask[known].mean())


def test_components_are_at_the_threshold_of_the_best_f1(street: Path, bundle: Path) -> None:
    images, truths = zip(*frames(), strict=True)
    with Engine.load(bundle, backend='torch') as engine:
        scores = [output.score for output in Pipeline(engine).run(images)]
    flat = np.concatenate([t.ravel() for t in truths])
    score = np.concatenate([s.ravel() for s in scores])[flat != 255]
    novel = flat[flat != 255] == 254
    f1 = {t: 2 * (novel & (score >= t)).sum() / (novel.sum() + (score >= t).sum()) for t in score}
    threshold = max(f1, key=lambda t: f1[t])
    expected = ComponentMetrics(OBSTACLE_TRACK)
    for part, truth in zip(scores, truths, strict=True):
        expected.update(part >= threshold, truth)
    found = results(street)
    assert found['all']['components']['siou'] == pytest.approx(expected.result().siou, abs=1e-6)
    assert found['all']['components']['f1'] == pytest.approx(expected.result().f1, abs=1e-6)
    assert found['all']['components']['truths'] == expected.result().truths > 5
    parts = [found[condition]['components']['truths'] for condition in ('dusk', 'day')]
    assert sum(parts) == expected.result().truths


def test_page_shows_it_all(street: Path) -> None:
    page = (street / 'report.html').read_text()
    for text in ('Evaluation report', 'street', 'colors (torch)', 'FPR95', 'F1*', 'dusk', 'day'):
        assert text in page
    figure = results(street)['all']['anomaly']['ap']
    assert f'<td>{100 * figure:.2f}</td>' in page
    assert page.count('<svg') == 3  # curves, histograms by condition and by class
    for text in ('Precision and recall', 'ROC', '>sidewalk</text>', '>novel object</text>'):
        assert text in page
    # Three best images, and the two others as the worst: image, truth, prediction, score.
    assert page.count('data:image/jpeg') == 5 * 4
    content = json.loads((street / 'metrics.json').read_text())['datasets']['street']
    shown = content['best_images'] + content['worst_images']
    assert {image['name'] for image in shown} == set(NAMES)
    best = [image['AP'] for image in content['best_images']]
    worst = [image['AP'] for image in content['worst_images']]
    assert best == sorted(best, reverse=True)
    assert worst == sorted(worst)
    assert worst[-1] <= best[-1]
    assert 'http' not in page.replace('http://www.w3.org', '')


@pytest.mark.slow
def test_terminal_shows_a_table_per_data_set(data: Path, bundle: Path, tmp_path: Path) -> None:
    sets = described(tmp_path / 'two.yaml', {'a': DESCRIPTION, 'b': DESCRIPTION})
    result = invoke(sets, '--engine', bundle, '--data', data, '--out', tmp_path / 'out')
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines if line] == [
        *('a', 'condition', 'dusk', 'day', 'all'),
        *('b', 'condition', 'dusk', 'day', 'all'),
        str(tmp_path / 'out/report.html'),
    ]
    ap = results(tmp_path / 'out', 'a')['dusk']['anomaly']['ap']
    assert lines[2].split()[:4:3] == ['dusk', f'{100 * ap:.2f}']
    assert 'sIoU' not in lines[1]


@pytest.mark.slow
def test_engine_for_two_frames_gives_the_same(
    data: Path, tiny_bundle_of_two: Path, street: Path, tmp_path: Path
) -> None:
    names = [c.name for c in CITYSCAPES[:3]]
    two = bundle_of(tiny_bundle_of_two, tmp_path / 'two', names)
    options = ('--engine', two, '--backend', 'torch', '--data', data)
    evaluated(data / 'street.yaml', *options, out=tmp_path / 'out')
    for condition, expected in results(street).items():
        found = results(tmp_path / 'out')[condition]
        assert found['anomaly'] == expected['anomaly']
        assert found['segmentation'] == expected['segmentation']


@pytest.fixture(scope='module')
def network() -> Iterator[SegmentationModel]:
    torch.manual_seed(3)
    model = models.create('deeplabv3plus_compact')
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small images: threads would only wait for each other
    yield model.eval()
    torch.set_num_threads(threads)


@pytest.fixture(scope='module')
def weights(network: SegmentationModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('weights') / 'published.safetensors'
    save_file(network.state_dict(), path)
    return path


@pytest.mark.slow
def test_scores_of_a_checkpoint_are_those_of_pooled_pixels(
    data: Path, weights: Path, network: SegmentationModel, tmp_path: Path
) -> None:
    scores = ('energy', 'uncertainty', 'odin', 'mahalanobis')
    options = [word for score in scores for word in ('--score', score)]
    content = evaluated(
        data / 'street.yaml',
        *('--checkpoint', weights, '--model', 'deeplabv3plus_compact', '--data', data),
        *(*options, '--fit', data / 'street.yaml'),
        out=tmp_path / 'out',
    )
    assert content['scores'] == list(scores)
    fitting = MahalanobisFit()
    inputs = [Normalize(IMAGENET)(torch.from_numpy(image)[None]) for image, _ in frames()]
    truths = [truth for _, truth in frames()]
    with torch.no_grad():
        for pixels, truth in zip(inputs, truths, strict=True):
            fitting.update(network(pixels), torch.from_numpy(truth)[None])
    for score in scores:
        fitted = fitting.result() if score == 'mahalanobis' else None
        scored = with_score(network, score, fitted=fitted).eval()
        with torch.no_grad():
            expected = [scored(pixels).score.numpy() for pixels in inputs]
        found = results(tmp_path / 'out', score=score)['all']
        assert_ranks(found['anomaly'], expected, truths)
        assert found['operating'] is None
    page = (tmp_path / 'out/report.html').read_text()
    assert 'curves of all images, by score' in page
    assert page.count('<svg') == 1 + len(scores) * 3


def test_interrupted_evaluation_keeps_what_was_fitted(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(data, tmp_path / 'data')
    options = (
        *(root / 'street.yaml', '--fit', root / 'street.yaml', '--data', root),
        *('--checkpoint', weights, '--model', 'deeplabv3plus_compact', '--score', 'mahalanobis'),
        *('--size', '32x48', '--out', tmp_path / 'out'),
    )
    fits = []
    update = MahalanobisFit.update

    def update_and_count(self: MahalanobisFit, *batch: Any) -> None:
        fits.append(len(batch))
        update(self, *batch)

    monkeypatch.setattr(MahalanobisFit, 'update', update_and_count)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def interrupt_and_count() -> int:
        fits.clear()
        with monkeypatch.context() as patch:
            patch.setattr(NetworkRunner, 'run', interrupted)
            assert invoke(*options).exit_code == 130
        return len(fits)

    assert interrupt_and_count() == len(frames())
    assert interrupt_and_count() == 0
    # Other labels make other statistics.
    labels = next((root / 'camvid/labels').rglob('*.png'))
    os.utime(labels, ns=(0, 0))
    assert interrupt_and_count() == len(frames())
    fits.clear()
    assert invoke(*options).exit_code == 0
    assert not fits
    found = {path.name for path in (tmp_path / 'out').iterdir()}
    assert found == {'report.html', 'metrics.json'}


@pytest.mark.slow
def test_checkpoint_of_a_training_run_needs_no_name(
    data: Path, weights: Path, network: SegmentationModel, tmp_path: Path
) -> None:
    config = read_config(Path(__file__).parents[3] / 'config/training/sample.yaml')
    assert config.model == 'deeplabv3plus_compact'
    save(tmp_path / 'best.safetensors', network, config, {})
    options = (data / 'street.yaml', '--data', data, '--size', '32x48')
    evaluated(*options, '--checkpoint', tmp_path / 'best.safetensors', out=tmp_path / 'own')
    published = ('--checkpoint', weights, '--model', 'deeplabv3plus_compact')
    evaluated(*options, *published, out=tmp_path / 'published')
    assert results(tmp_path / 'own') == results(tmp_path / 'published')
    message = 'published.safetensors was not written by `multishift train`: name its network with'
    fails(message, *options, '--checkpoint', weights, out=tmp_path / 'out')
    (tmp_path / 'published.pth').write_bytes(b'')
    message = message.replace('safetensors', 'pth')
    fails(message, *options, '--checkpoint', tmp_path / 'published.pth', out=tmp_path / 'out')


def test_outputs_come_back_to_the_size_of_the_image(network: SegmentationModel) -> None:
    image = make_frame(1)[0]
    seen = fit(image, (64, 96))
    [output] = NetworkRunner(network, ['max_logit'], size=(64, 96)).run([image])
    assert output.labels.shape == output.scores['max_logit'].shape == SIZE
    with torch.no_grad():
        score = -network(Normalize(IMAGENET)(torch.from_numpy(seen)[None])).logits.amax(1)[0]
    expected = torch.nn.functional.interpolate(score[None, None], SIZE, mode='bilinear')[0, 0]
    assert np.allclose(output.scores['max_logit'], expected.numpy(), atol=1e-4)
    [native] = NetworkRunner(network, ['max_logit']).run([image])
    assert not np.allclose(native.scores['max_logit'], output.scores['max_logit'], atol=1e-2)


def test_several_scores_take_one_forward_pass(network: SegmentationModel) -> None:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    handle = network.register_forward_hook(count)
    NetworkRunner(network, ['energy', 'entropy', 'max_softmax']).run([make_frame(0)[0]])
    handle.remove()
    assert calls == 1


@pytest.fixture
def road_anomaly(tmp_path: Path) -> Path:
    """RoadAnomaly, whose known pixels have no class."""
    for folder in ('original', 'labels'):
        (tmp_path / 'road_anomaly' / folder).mkdir(parents=True)
    for seed in range(2):
        image, index = make_frame(seed)
        Image.fromarray(image).save(tmp_path / f'road_anomaly/original/{seed}.png')
        raw = np.where(index == 3, 1, 0).astype(np.uint8)
        Image.fromarray(raw).save(tmp_path / f'road_anomaly/labels/{seed}.png')
    return described(tmp_path / 'road.yaml', {'kind': 'road_anomaly'})


def test_classes_are_left_out_where_the_data_set_has_none(
    road_anomaly: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    # The bundle's second class is sky: no matter here.
    options = (road_anomaly, '--engine', tiny_bundle, '--data', tmp_path)
    result = invoke(*options, '--out', tmp_path / 'out')
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith('road (figures in %)\ncondition')
    assert 'mIoU' not in result.stdout
    found = results(tmp_path / 'out', 'road')
    assert list(found) == ['all']
    assert found['all']['segmentation'] is None
    assert 0 < found['all']['anomaly']['ap'] < 1
    page = (tmp_path / 'out/report.html').read_text()
    assert 'road: classes' not in page
    assert page.count('<svg') == 2


def test_coarse_labels_are_measured_by_groups_of_classes(
    data: Path, bundle: Path, tmp_path: Path
) -> None:
    # The frames of the street, with road, sidewalk and building as IDD-Lite has them, and sky.
    raw = np.array([0, 1, 5, 6, 255], np.uint8)
    truths, predicted = [], []
    with Engine.load(bundle, backend='torch') as engine:
        for seed in range(len(NAMES)):
            image, index = make_frame(seed)
            for part, name, array in (
                ('leftImg8bit', f'{seed}_image.png', image),
                ('gtFine', f'{seed}_label.png', raw[index]),
            ):
                folder = tmp_path / 'idd_lite' / part / 'val/7'
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(folder / name)
            truths.append(raw[index].ravel())
            [output] = EngineRunner(engine, 0.5).run([image])
            predicted.append(output.labels.ravel())
    sets = described(tmp_path / 'one.yaml', {'lite': {'kind': 'idd_lite', 'split': 'val'}})
    options = (sets, '--engine', bundle, '--backend', 'torch', '--data', tmp_path)
    content = evaluated(*options, out=tmp_path / 'out')
    truth, found = np.concatenate(truths), np.concatenate(predicted)
    known = truth != 255
    matrix = confusion_matrix(
        truth[known], np.array([0, 1, 5])[found[known]], labels=[0, 1, 2, 3, 4, 5, 6]
    )
    whole = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    expected = [h / w if w else None for h, w in zip(matrix.diagonal(), whole, strict=True)]
    figures = results(tmp_path / 'out', 'lite')['all']['segmentation']
    assert figures['iou'] == pytest.approx(expected)
    assert figures['iou'][6] == 0  # sky, which this engine does not know
    lite = content['datasets']['lite']
    assert lite['groups']['non-drivable'] == ['sidewalk', 'terrain']
    assert lite['iou_of'][:3] == ['drivable', 'non-drivable', 'living thing']
    page = (tmp_path / 'out/report.html').read_text()
    for text in ('lite: classes', '<span>far object</span>', 'vehicle (car, truck, bus, train'):
        assert text in page


def test_without_novel_pixels_figures_are_dashes(data: Path, bundle: Path, tmp_path: Path) -> None:
    # As a class the engine does not have, pedestrians would be an error: they are void here.
    root = tmp_path / 'known'
    shutil.copytree(data / 'camvid/images', root / 'camvid/images')
    (root / 'camvid/labels/val').mkdir(parents=True)
    for name, (_, truth) in zip(NAMES, frames(), strict=True):
        raw = RAW[np.searchsorted(OURS, np.where(truth == 254, 255, truth))]
        Image.fromarray(raw).save(root / f'camvid/labels/val/{name}.png')
    options = (data / 'street.yaml', '--engine', bundle, '--data', root)
    result = invoke(*options, '--components', 'anomaly', '--out', tmp_path / 'out')
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout.splitlines()[-3].split()[2:6] == ['–'] * 4
    found = results(tmp_path / 'out')['all']
    assert found['anomaly']['ap'] is None
    assert found['components']['f1'] is None
    assert found['segmentation']['miou'] > 0
    content = json.loads((tmp_path / 'out/metrics.json').read_text())['datasets']['street']
    assert all(image['mIoU'] > 0 for image in content['best_images'])
    page = (tmp_path / 'out/report.html').read_text()
    assert 'no pixel is novel' in page
    assert page.count('<svg') == 2


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int, *, by: type[BaseException]) -> None:
    """Have the engine raise instead of running for the ``at``-th time, once."""
    run, calls = EngineRunner.run, iter(range(1, 1000))

    def run_or_raise(self: EngineRunner, images: Sequence[NDArray[np.uint8]]) -> list[Output]:
        if next(calls) == at:
            raise by
        return run(self, images)

    monkeypatch.setattr(EngineRunner, 'run', run_or_raise)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have every run of the engine put down how many images it got."""
    run, sizes = EngineRunner.run, []

    def run_and_count(self: EngineRunner, images: Sequence[NDArray[np.uint8]]) -> list[Output]:
        sizes.append(len(images))
        return run(self, images)

    monkeypatch.setattr(EngineRunner, 'run', run_and_count)
    return sizes


@pytest.fixture
def saving_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, '_INTERVAL', 0.0)
    monkeypatch.setattr(progress, '_SHARE', 0)


def assert_same_datasets(found: Path, expected: Path) -> None:
    """All figures are the same, to the last digit."""
    ours, theirs = (json.loads((f / 'metrics.json').read_text()) for f in (found, expected))
    assert ours['datasets'] == theirs['datasets']


def street_options(data: Path, bundle: Path) -> tuple[object, ...]:
    """What the report of ``street`` is of."""
    options = ('--engine', bundle, '--backend', 'torch', '--data', data)
    return (data / 'street.yaml', *options, '--components', 'obstacle')


@pytest.mark.slow
@pytest.mark.usefixtures('saving_often')
@pytest.mark.parametrize('at', [3, 6, 9])  # 6: the first of the second pass
def test_interrupted_evaluation_goes_on_to_the_same_figures(
    at: int,
    data: Path,
    bundle: Path,
    street: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = street_options(data, bundle)
    with monkeypatch.context() as patch:
        interrupt(patch, at, by=KeyboardInterrupt)
        assert invoke(*options, '--out', tmp_path).exit_code == 130
    assert not (tmp_path / 'report.html').exists()
    runs = counted(monkeypatch)
    evaluated(*options, out=tmp_path)
    assert len(runs) == 10 - (at - 1)
    assert {path.name for path in tmp_path.iterdir()} == {'report.html', 'metrics.json'}
    expected, found = (
        json.loads((out / 'metrics.json').read_text()) for out in (street, tmp_path)
    )
    assert found['datasets'] == expected['datasets']
    pictures, others = ((out / 'report.html').read_text() for out in (street, tmp_path))
    assert re.findall('data:image/jpeg[^"]*', others) == re.findall(
        'data:image/jpeg[^"]*', pictures
    )


@pytest.mark.slow
@pytest.mark.parametrize('at', [4, 8])  # in the first pass and in the second, within a minute
def test_interrupt_between_two_saves_loses_nothing(
    at: int,
    data: Path,
    bundle: Path,
    street: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = street_options(data, bundle)
    with monkeypatch.context() as patch:
        interrupt(patch, at, by=KeyboardInterrupt)
        assert invoke(*options, '--out', tmp_path).exit_code == 130
    runs = counted(monkeypatch)
    evaluated(*options, out=tmp_path)
    assert len(runs) == 10 - (at - 1)
    assert_same_datasets(tmp_path, street)


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('again', [False, True])
def test_signal_while_an_image_is_counted(
    again: bool,
    number: signal.Signals,
    data: Path,
    bundle: Path,
    street: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The image is counted whole, not in part and then once more."""
    options, calls = street_options(data, bundle), iter(range(1, 1000))
    name = 'add_components' if again else 'add'
    count = getattr(Tally, name)

    def count_and_signal(self: Tally, *arguments: Any) -> None:
        count(self, *arguments)
        if next(calls) == 3:
            signal.raise_signal(number)

    with monkeypatch.context() as patch, ended_by_signals():
        patch.setattr(Tally, name, count_and_signal)
        assert invoke(*options, '--out', tmp_path).exit_code == 128 + number
    runs = counted(monkeypatch)
    evaluated(*options, out=tmp_path)
    assert len(runs) == (2 if again else 7)
    assert_same_datasets(tmp_path, street)


@pytest.mark.slow
def test_interrupt_while_a_damaged_image_waits_for_its_batch(
    data: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found of images that the saved ones do not reach is not saved."""
    start = EngineRunner.__init__

    def start_with_pairs(self: EngineRunner, engine: Engine, threshold: float) -> None:
        start(self, engine, threshold)
        self.batch = 2

    monkeypatch.setattr(EngineRunner, '__init__', start_with_pairs)
    root = shutil.copytree(data, tmp_path / 'data')
    victim = root / f'camvid/images/val/{NAMES[2]}.png'
    victim.write_bytes(b'')
    with monkeypatch.context() as patch:
        interrupt(patch, 2, by=KeyboardInterrupt)
        invoke(*street_options(root, bundle), '--out', tmp_path / 'out')
    (file,) = (tmp_path / 'out/cache/unfinished').iterdir()
    state = file.read_bytes().partition(b'\n')[2]
    about = json.loads(str(metric_state.unpack('evaluation', state)['about']))
    assert about == {'done': 2, 'done_again': 0, 'damaged': []}
    evaluated(*street_options(root, bundle), out=tmp_path / 'out')
    evaluated(*street_options(root, bundle), out=tmp_path / 'expected')
    assert_same_datasets(tmp_path / 'out', tmp_path / 'expected')


@pytest.mark.slow
def test_data_sets_that_are_done_are_not_judged_anew(
    data: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the process is killed, and has no time to save anything."""
    sets = described(tmp_path / 'two.yaml', {'a': DESCRIPTION, 'b': DESCRIPTION})
    options = (sets, '--engine', bundle, '--backend', 'torch', '--data', data)
    evaluated(*options, '--components', 'obstacle', out=tmp_path / 'expected')
    # In the second pass of the first set, and in the first of the second.
    for at, left in ((8, 15), (13, 10)):
        out = tmp_path / str(at)
        with monkeypatch.context() as patch:
            interrupt(patch, at, by=SystemExit)
            invoke(*options, '--components', 'obstacle', '--out', out)
        with monkeypatch.context() as patch:
            runs = counted(patch)
            evaluated(*options, '--components', 'obstacle', out=out)
        assert len(runs) == left
        assert_same_datasets(out, tmp_path / 'expected')


@pytest.mark.slow
def test_files_of_others_beside_what_was_judged_stay(
    data: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, out = street_options(data, bundle), tmp_path / 'out'
    with monkeypatch.context() as patch:
        interrupt(patch, 3, by=KeyboardInterrupt)
        invoke(*options, '--out', out)
    unfinished = out / 'cache/unfinished'
    for name in ('notes.txt', 'my.state'):
        (unfinished / name).write_text('mine')
    evaluated(*options, out=out)
    assert {path.name for path in unfinished.iterdir()} == {'notes.txt', 'my.state'}


@pytest.mark.slow
@pytest.mark.usefixtures('saving_often')
def test_what_was_judged_of_something_else_is_not_taken_up(
    data: Path,
    bundle: Path,
    street: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = shutil.copytree(data, tmp_path / 'data')
    report, expected = tmp_path / 'report', results(street)
    with monkeypatch.context() as patch:
        interrupt(patch, 3, by=KeyboardInterrupt)
        invoke(*street_options(root, bundle), '--out', report)
    images = root / 'camvid/images/val'
    shutil.copy(images / f'{NAMES[1]}.png', images / f'{NAMES[2]}.png')
    runs = counted(monkeypatch)
    evaluated(*street_options(root, bundle), out=report)
    assert len(runs) == 10
    assert 'street: an evaluation of something else was interrupted here' in caplog.text
    for condition, same in (('dusk', True), ('day', False)):
        found = results(report)[condition]['anomaly']
        assert (found == expected[condition]['anomaly']) is same


@pytest.mark.usefixtures('saving_often')
def test_what_was_judged_must_be_whole(
    data: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, 3, by=KeyboardInterrupt)
        invoke(*street_options(data, bundle), '--out', tmp_path)
    (state,) = (tmp_path / 'cache/unfinished').iterdir()
    state.write_bytes(state.read_bytes()[:-100])
    message = f'{state.parent} does not hold what was judged so far (no state of evaluation'
    fails(message, *street_options(data, bundle), out=tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures('saving_often')
def test_damaged_images_are_left_out_counted_and_named(
    data: Path,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole, root = tmp_path / 'whole', tmp_path / 'damaged'
    for folder in (whole, root):
        shutil.copytree(data, folder)
    images, labels = root / 'camvid/images/val', root / 'camvid/labels/val'
    for path in (images / f'{NAMES[1]}.png', labels / f'{NAMES[3]}.png'):
        path.write_bytes(path.read_bytes()[:60])
        for kind in ('images', 'labels'):
            (whole / 'camvid' / kind / 'val' / path.name).unlink()
    evaluated(*street_options(whole, bundle), out=tmp_path / 'expected')
    caplog.clear()
    with monkeypatch.context() as patch:
        interrupt(patch, 3, by=KeyboardInterrupt)
        invoke(*street_options(root, bundle), '--out', tmp_path / 'out')
    content = evaluated(*street_options(root, bundle), out=tmp_path / 'out')

    assert results(tmp_path / 'out') == results(tmp_path / 'expected')
    assert content['datasets']['street']['images'] == 5
    damaged = content['datasets']['street']['damaged_images']
    assert list(damaged) == [NAMES[1], NAMES[3]]
    assert f'{NAMES[1]}.png is no readable image' in damaged[NAMES[1]]
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == 'WARNING']
    named = f'street: of 5 images 2 ({NAMES[1]}, {NAMES[3]}) cannot be read and are left out: '
    assert warning == f'{named}{damaged[NAMES[1]]}; {damaged[NAMES[3]]}'
    page = (tmp_path / 'out/report.html').read_text()
    assert f'2 of 5 images cannot be read and are left out:</b> {NAMES[1]}, {NAMES[3]}.' in page


def test_of_many_damaged_images_a_few_are_named(
    data: Path, bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = shutil.copytree(data, tmp_path / 'data')
    for name in NAMES[:4]:
        (root / f'camvid/images/val/{name}.png').write_bytes(b'')
    content = evaluated(*street_options(root, bundle), out=tmp_path / 'out')
    damaged = content['datasets']['street']['damaged_images']
    assert list(damaged) == list(NAMES[:4])
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == 'WARNING']
    reasons = '; '.join(damaged[name] for name in NAMES[:3])
    assert warning == (
        f'street: of 5 images 4 ({", ".join(NAMES[:3])}, ...) cannot be read and are left out: '
        f'{reasons}; ...'
    )


def test_without_a_readable_image_there_is_no_report(
    data: Path, bundle: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(data, tmp_path / 'data')
    for path in (root / 'camvid/images/val').iterdir():
        path.write_bytes(b'')
    message = (
        f'street: none of 5 images can be read: {root}/camvid/images/val/{NAMES[0]}.png is no'
    )
    fails(message, *street_options(root, bundle), out=tmp_path / 'out')


def test_labels_of_another_kind_are_no_damage(data: Path, bundle: Path, tmp_path: Path) -> None:
    root = shutil.copytree(data, tmp_path / 'data')
    Image.fromarray(np.full(SIZE, 77, np.uint8)).save(root / f'camvid/labels/val/{NAMES[2]}.png')
    message = f'{NAMES[2]}.png: label value 77 is none of those camvid uses'
    fails(message, *street_options(root, bundle), out=tmp_path / 'out')


def test_image_that_gets_lost_between_the_passes(
    data: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(data, tmp_path / 'data')
    victim = root / f'camvid/images/val/{NAMES[0]}.png'
    run = EngineRunner.run

    def run_and_lose(self: EngineRunner, images: Sequence[NDArray[np.uint8]]) -> list[Output]:
        victim.write_bytes(b'')
        return run(self, images)

    monkeypatch.setattr(EngineRunner, 'run', run_and_lose)
    message = f'{NAMES[0]}.png is no readable image'
    fails(message, *street_options(root, bundle), out=tmp_path / 'out')


def fails(message: str, *arguments: object, out: Path) -> None:
    result = invoke(*arguments, '--out', out)
    assert isinstance(result.exception, MultishiftError), (result.output, result.exception)
    assert message in str(result.exception)
    assert '\n' not in str(result.exception)
    assert not (out / 'report.html').exists()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            ('--score', 'energi', '--checkpoint', 'w'),
            "unknown score 'energi' (did you mean energy?)",
        ),
        (('--score', 'odin', '--score', 'odin', '--checkpoint', 'w'), 'odin is named twice'),
        (('--score', 'energy'), '--score goes with --checkpoint'),
        (('--size', '64x96'), '--size goes with --checkpoint'),
        (('--engine', 'e', '--checkpoint', 'w'), 'do not go with --checkpoint'),
        (('--score', 'mahalanobis', '--checkpoint', 'w'), '--fit DATASET.yaml'),
        (('--fit', 'x.yaml', '--checkpoint', 'w'), '--score mahalanobis or neco or knn and --fit'),
        (('--checkpoint', 'absent'), 'absent'),
        (('--engine', 'absent'), 'absent does not exist'),
    ],
)
def test_options_that_do_not_go_together(
    options: tuple[str, ...], message: str, data: Path, tmp_path: Path
) -> None:
    sets = data / 'street.yaml'
    fails(message, sets, '--data', data, *options, out=tmp_path / 'out')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, 'sets.yaml cannot be read (No such file'),
        ('a: [', 'sets.yaml is not valid YAML'),
        ('', 'sets.yaml is empty: give a file that describes data sets, in lines such as'),
        ('a: camvid', 'sets.yaml: a is no description'),
        (
            'a: {kind: camvid, split: dev}',
            'sets.yaml: a.split (line 1) is dev, expected train, val or test',
        ),
        (
            'a: {kind: camvid, split: val, colour: 1}',
            'a.colour (line 1) is no key of camvid, expected kind, root',
        ),
        ('a: {kind: camvib}', 'a.kind (line 1) is camvib, expected cityscapes'),
        ('a: {kind: camvid, split: test}', 'does not hold images/test/ with labels/test/'),
    ],
)
def test_faulty_descriptions(
    text: str | None, message: str, data: Path, bundle: Path, tmp_path: Path
) -> None:
    sets = tmp_path / 'sets.yaml'
    if text is not None:
        sets.write_text(text)
    fails(message, sets, '--engine', bundle, '--data', data, out=tmp_path / 'out')


def test_one_name_for_two_data_sets(data: Path, bundle: Path, tmp_path: Path) -> None:
    sets = data / 'street.yaml'
    message = 'street is described twice: rename one of them'
    fails(message, sets, sets, '--engine', bundle, '--data', data, out=tmp_path / 'out')


def test_other_classes(data: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    message = 'which the network does not know: its classes are road, sky, car'
    options = ('--engine', tiny_bundle, '--data', data)
    fails(message, data / 'street.yaml', *options, out=tmp_path / 'out')


def test_class_that_the_engine_does_not_have(data: Path, bundle: Path, tmp_path: Path) -> None:
    sets = described(tmp_path / 'sets.yaml', {'a': {'kind': 'camvid', 'split': 'val'}})
    message = 'which the network does not know: its classes are road, sidewalk, building'
    fails(message, sets, '--engine', bundle, '--data', data, out=tmp_path / 'out')


def test_report_is_replaced_by_force_only(
    data: Path, bundle: Path, street: Path, tmp_path: Path
) -> None:
    report = shutil.copytree(street, tmp_path / 'report')
    before = (report / 'report.html').read_bytes()
    options = (data / 'street.yaml', '--engine', bundle, '--data', data)
    result = invoke(*options, '--out', report)
    assert 'give --force to replace it' in str(result.exception)
    assert (report / 'report.html').read_bytes() == before
    demo = tmp_path / 'demo-report'
    demo.mkdir()
    (demo / 'metrics.json').write_text('{"command": "multishift demo"}')
    for out in (demo, data, bundle):
        fails('give another folder with --out', *options, '--force', out=out)
    assert json.loads((report / 'metrics.json').read_text())['command'] == 'multishift evaluate'


def test_full_disk(
    data: Path,
    bundle: Path,
    tmp_path: Path,
    small_files: Callable[[int], AbstractContextManager[None]],
) -> None:
    options = (data / 'street.yaml', '--engine', bundle, '--data', data, '--backend', 'torch')
    with small_files(20_000):
        fails('out cannot be written: no room on the disk', *options, out=tmp_path / 'out')
    assert {path.name for path in (tmp_path / 'out').glob('*')} <= {'metrics.json', 'cache'}


def test_report_that_cannot_be_written(data: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    options = ('--engine', bundle, '--data', data)
    message = 'give another folder with --out'
    fails(message, data / 'street.yaml', *options, out=tmp_path / 'file' / 'out')
