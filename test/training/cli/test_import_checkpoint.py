# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
import hashlib
from pathlib import Path

from click.testing import CliRunner, Result
import cv2
import numpy as np
import pytest
from safetensors.torch import save_file
import torch
from transformers import (
    SegformerConfig,
    SegformerForImageClassification,
    SegformerForSemanticSegmentation,
)
import yaml

from multishift_perception.cli.main import multishift
from multishift_perception.engine import Engine
from multishift_perception.engine.manifest import Manifest, read_manifest
from multishift_perception.errors import MultishiftError
from multishift_perception.sample_drive import random_frame
from multishift_training import models
from multishift_training.models import SegmentationModel
from multishift_training.models.input_scale import IMAGENET, Normalize

SIZE = (64, 96)


@pytest.fixture(scope='module')
def network() -> SegmentationModel:
    torch.manual_seed(3)
    model = models.create('deeplabv3plus_compact')
    # New networks give nearly the same logits for all classes; these differ from pixel to pixel.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias)
    return model.eval()


@pytest.fixture(scope='module')
def weights(network: SegmentationModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('weights') / 'published.pth'
    state = {f'module.{key}': tensor for key, tensor in network.state_dict().items()}
    torch.save({'state_dict': state, 'epoch': 3}, path)
    return path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(multishift, ['import-checkpoint', *map(str, arguments)])


def options(out: Path, *more: object) -> tuple[object, ...]:
    return '--model', 'deeplabv3plus_compact', '--size', '64x96', '--out', out, *more


@pytest.fixture(scope='module')
def imported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A bundle of both targets, calibrated on the sample drive, and what the command printed."""
    out = tmp_path_factory.mktemp('bundles') / 'engine'
    result = invoke(weights, *options(out))
    assert result.exit_code == 0, result.output
    return out, result


@pytest.mark.slow
@pytest.mark.parametrize('backend', ['openvino', 'torch'])
def test_bundle_gives_the_labels_of_the_network(
    backend: str, imported: tuple[Path, Result], network: SegmentationModel
) -> None:
    frame = random_frame(11, split='val', size=SIZE).image[None]
    with torch.inference_mode():
        prediction = network(Normalize(IMAGENET)(torch.from_numpy(frame)))
    expected = prediction.logits.argmax(1).numpy()
    assert len(np.unique(expected)) > 2
    with Engine.load(imported[0], backend=backend) as engine:
        found = engine.infer(frame)
    assert (found.label == expected).mean() > 0.99
    assert np.allclose(found.score, prediction.score.numpy(), atol=1e-2)


@pytest.mark.slow
def test_command_says_what_it_did(imported: tuple[Path, Result]) -> None:
    out, result = imported
    assert 'layout: multishift' in result.output
    assert 'tensors used' in result.output
    assert 'openvino: ' in result.output
    assert 'torch: ' in result.output
    assert 'not on your roads: fit it on frames of your own with --calibrate' in result.output
    assert result.stdout.endswith(f'next: multishift replay BAG --engine {out} --out report\n')


@pytest.mark.slow
def test_manifest_says_where_it_comes_from(imported: tuple[Path, Result], weights: Path) -> None:
    manifest = read_manifest(imported[0])
    assert manifest.model == 'deeplabv3plus_compact'
    assert manifest.method == 'imported'
    assert (manifest.input.batch, manifest.input.height, manifest.input.width) == (1, *SIZE)
    provenance = manifest.provenance
    # The network's own score needs no name.
    assert 'score' not in provenance
    assert provenance['checkpoint'] == 'published.pth'
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert provenance['sha256'] == {'published.pth': digest}
    assert provenance['layout'] == 'multishift'
    assert provenance['missing'] == provenance['left_over'] == []
    assert provenance['command'] == (
        'multishift import-checkpoint published.pth --model deeplabv3plus_compact --size 64x96'
    )
    assert 'provisional' in manifest.calibration.rule
    assert 'sample drive' in manifest.calibration.dataset
    assert str(weights.parent) not in (imported[0] / 'manifest.yaml').read_text()


@pytest.fixture
def own_frames(tmp_path: Path) -> Path:
    """A data root with three labelled frames and the description of them."""
    for name in ('images', 'labels'):
        (tmp_path / name).mkdir()
    for i in range(3):
        frame = random_frame(50 + i, split='train', size=SIZE)
        cv2.imwrite(str(tmp_path / 'images' / f'{i}.png'), frame.image[..., ::-1])
        cv2.imwrite(str(tmp_path / 'labels' / f'{i}.png'), frame.labels)
    entries: dict[int, object] = {i: i for i in range(19)} | {254: 'novel', 255: 'void'}
    (tmp_path / 'map.yaml').write_text(yaml.safe_dump(entries))
    images = {
        'kind': 'folder',
        'images': 'images',
        'labels': 'labels',
        'image_suffix': '.png',
        'label_map': str(tmp_path / 'map.yaml'),
    }
    description = {'images': images, 'outliers': {'kind': 'sample_objects', 'split': 'val'}}
    (tmp_path / 'own.yaml').write_text(yaml.safe_dump(description))
    return tmp_path


@pytest.mark.slow
def test_calibration_on_own_frames(weights: Path, own_frames: Path, tmp_path: Path) -> None:
    out = tmp_path / 'engine'
    dataset = own_frames / 'own.yaml'
    more = ('--calibrate', dataset, '--data', own_frames, '--target', 'torch', '--batch', 2)
    result = invoke(weights, *options(out, *more))
    assert result.exit_code == 0, result.output
    assert 'sample drive' not in result.output
    manifest: Manifest = read_manifest(out)
    assert 'provisional' not in manifest.calibration.rule
    assert manifest.calibration.dataset.startswith('3 frames ({"images":{"kind":"folder"')
    assert [artifact.backend for artifact in manifest.artifacts] == ['torch']
    assert manifest.input.batch == 2
    assert manifest.provenance['command'].endswith('--calibrate own.yaml')


@pytest.mark.slow
def test_hugging_face_folder(own_frames: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / 'segformer-b0', tmp_path / 'engine'
    SegformerForSemanticSegmentation(SegformerConfig(num_labels=19)).save_pretrained(folder)  # type: ignore[call-arg]
    result = invoke(
        folder,
        *('--model', 'segformer_b0', '--size', '64x96', '--out', out, '--target', 'torch'),
        *('--calibrate', own_frames / 'own.yaml', '--data', own_frames),
        *('--score', 'max_logit'),  # its own is the one that was never trained
    )
    assert result.exit_code == 0, result.output
    assert 'layout: SegFormer of Hugging Face' in result.output
    provenance = read_manifest(out).provenance
    assert provenance['checkpoint'] == 'segformer-b0'
    assert list(provenance['sha256']) == ['model.safetensors']
    assert provenance['missing'] == ['uncertainty.proxy.bias', 'uncertainty.proxy.weight']
    assert provenance['score'] == 'max_logit'
    assert provenance['command'].endswith(' --calibrate own.yaml --score max_logit')


def test_backbone_alone_is_no_engine(tmp_path: Path) -> None:
    folder, out = tmp_path / 'mit-b0', tmp_path / 'engine'
    SegformerForImageClassification(SegformerConfig()).save_pretrained(folder)
    result = invoke(folder, '--model', 'segformer_b0', '--size', '64x96', '--out', out)
    assert isinstance(result.exception, MultishiftError)
    assert 'has no weights for classifier, decoder: it is a start' in str(result.exception)
    assert not out.exists()


@pytest.mark.parametrize(
    'size', ['1024', '1024x', '0x96', '64x8', '64,96', '-64x96', 'x', '1e3x9']
)
def test_size_that_is_none(size: str, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / 'engine'
    result = invoke(weights, '--model', 'deeplabv3plus_compact', '--size', size, '--out', out)
    assert result.exit_code == 2
    assert f'{size!r} is no size: give rows x columns' in result.output
    assert not out.exists()


def test_bad_arguments(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / 'engine'
    unknown = invoke(weights, '--model', 'resnet9', '--out', out)
    assert unknown.exit_code == 2
    assert "'resnet9' is not" in unknown.output
    assert 'deeplabv3plus_compact' in unknown.output
    assert invoke(weights, *options(out, '--batch', 0)).exit_code == 2
    assert invoke(weights, *options(out, '--target', 'tpu')).exit_code == 2
    assert isinstance(invoke(weights, *options(weights)).exception, MultishiftError)
    assert 'out' in invoke(weights, '--model', 'deeplabv3plus_compact').output


def fails(arguments: tuple[object, ...], message: str, out: Path) -> None:
    result = invoke(*arguments, *options(out))
    assert isinstance(result.exception, MultishiftError)
    assert message in str(result.exception)
    assert '\n' not in str(result.exception)
    assert not out.exists()


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, 'cannot be read (No such file'),
        ('a: [', 'is not valid YAML'),
        (
            'images: {kind: folder, images: a, labels: b}',
            'images (line 1): neither is given: give label_map for labels of Cityscapes',
        ),
        (
            'images: {kind: sample_drive, split: val, frames: 0, seed: 1}',
            'images.frames (line 1) is 0',
        ),
        ('images: {kind: video}', 'images.kind (line 1) is video, expected cityscapes'),
        ('kind: cityscapes', 'folder cityscapes/leftImg8bit/train does not exist'),
        ('just text', 'own.yaml holds a single value at top level'),
    ],
)
def test_faulty_data_set(text: str | None, message: str, weights: Path, tmp_path: Path) -> None:
    dataset = tmp_path / 'own.yaml'
    if text is not None:
        dataset.write_text(text)
    fails((weights, '--calibrate', dataset), message, tmp_path / 'engine')


def damaged(path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-500])


CHECKPOINTS: dict[str, tuple[Callable[[Path, dict[str, torch.Tensor]], object], str]] = {
    'absent': (lambda path, state: None, 'cannot be read (No such file'),
    'text': (lambda path, state: path.write_text('no weights'), 'is no checkpoint'),
    'damaged': (damaged, 'is damaged'),
    'folder': (lambda path, state: path.mkdir(), 'is no Hugging Face folder'),
    'other': (lambda path, state: save_file({'a.b': torch.ones(1)}, path), 'none of the layouts'),
    'nan': (
        lambda path, state: save_file(
            state | {'classifier.weight': torch.nan * state['classifier.weight']}, path
        ),
        'NaN or infinite weights in 1 tensors: classifier.weight',
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize('kind', CHECKPOINTS)
def test_faulty_checkpoint(kind: str, network: SegmentationModel, tmp_path: Path) -> None:
    write, message = CHECKPOINTS[kind]
    write(tmp_path / 'file', network.state_dict())
    fails((tmp_path / 'file',), message, tmp_path / 'engine')
