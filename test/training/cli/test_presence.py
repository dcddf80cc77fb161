# SPDX-License-Identifier: Apache-2.0
"""A wrong path or a wrong key is said before torch is loaded."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from multishift_perception.errors import MultishiftError
from multishift_training.checkpoints.metadata import Ancestry, read_ancestry, read_origin

CONFIG = Path(__file__).parents[3] / 'config'
DRIVE = 'a: {kind: sample_drive, split: val, frames: 1, seed: 1}'
OBJECTS = 'objects: {kind: sample_objects, split: train}\n'
IMAGES = 'images: {kind: sample_drive, split: train, frames: 1, seed: 1}\n'
TRAINING = """
model: deeplabv3plus_compact
data:
  images: {kind: sample_drive, split: train, frames: 1, seed: 1}
  transforms: {kind: zoom_crop, crop: [64, 64]}
val: {images: {kind: sample_drive, split: val, frames: 1, seed: 1}}
batch_size: 1
stages:
- name: a
  epochs: 1
  trainable: ['*']
  method: {kind: closed_world}
  optimizer: {learning_rate: 0.1}
"""
COMPARISON = f"""
tests: {{t: {{images: {{kind: sample_drive, split: demo, frames: 1, seed: 1}}}}}}
closed_world: &run
{textwrap.indent(TRAINING, '  ')}
ways:
  adapted: {{<<: *run, weights: w.pth}}
"""
# Runs one command after the other, for starting Python takes longer than they do; writes what each
# said, its exit status, and what is heavy and was loaded by then.
PROGRAM = """
import contextlib, io, json, os, sys
from multishift_perception.cli.main import main

found = {}
for folder in sorted(os.listdir()):
    os.chdir(folder)
    said, status = io.StringIO(), 0
    sys.argv = ['multishift', *open('arguments').read().split()]
    with contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as error:
            status = error.code
    heavy = {'torch', 'transformers', 'albumentations', 'lightning_fabric', 'openvino'}
    found[folder] = status, said.getvalue(), sorted(heavy & set(sys.modules))
    os.chdir('..')
print(json.dumps(found))
"""

# Content of the configuration, arguments, what is said.
CASES = {
    'train, no file': (None, 'train absent.yaml', 'absent.yaml cannot be read'),
    'train, a key': (f'{TRAINING}\nworker: 1', 'train c.yaml', 'worker (line 15) is no key, '),
    'train, data': (
        TRAINING.replace('kind: sample_drive, split: val, frames: 1, seed: 1', 'kind: muad'),
        'train c.yaml',
        'muad: MUAD_challenge/test_sets/test_OOD does not hold',
    ),
    'train, partners': (
        TRAINING.replace('  transforms', '  partners: {kind: cityscapes}\n  transforms'),
        'train c.yaml',
        'cityscapes: folder cityscapes/leftImg8bit/train does not exist',
    ),
    'train, outliers': (
        TRAINING.replace('  transforms', '  outliers: {kind: coco_objects}\n  transforms'),
        'train c.yaml',
        'coco_objects: no mask',
    ),
    'train, batch_size': (
        TRAINING.replace('batch_size: 1', 'batch_size: 2'),
        'train c.yaml',
        'sample_drive gives 1 sample, fewer than one batch: lower batch_size (2)',
    ),
    'train, weights': (f'{TRAINING}\nweights: w.pth', 'train c.yaml', 'weights: w.pth cannot be'),
    'compare, weights of a way': (COMPARISON, 'compare c.yaml', 'adapted: weights: w.pth cannot'),
    'train, folder': (
        f'{TRAINING}\nfolder: f'.replace('deeplabv3plus_compact', 'mask2former'),
        'train c.yaml',
        'folder: f cannot be read',
    ),
    'augment, images': (
        f'images: {{kind: camvid, split: val}}\n{OBJECTS}generator: {{kind: procedural}}',
        'augment c.yaml',
        'camvid: camvid does not hold',
    ),
    'augment, objects': (
        f'{IMAGES}objects: {{kind: cutouts, root: o}}\ngenerator: {{kind: procedural}}',
        'augment c.yaml',
        'cutouts: folder o does not exist',
    ),
    'augment, generator': (
        f'{IMAGES}{OBJECTS}generator: {{kind: controlnet, base: b, controlnet: c}}',
        'augment c.yaml',
        'base: folder b does not exist',
    ),
    'augment, a judge': (
        f'{IMAGES}{OBJECTS}generator: {{kind: procedural}}\n'
        'filters: {novel: {network: n.safetensors, least: 0.5}}',
        'augment c.yaml',
        'checkpoint n.safetensors does not exist',
    ),
    'augment, segmenter': (
        f'{IMAGES}{OBJECTS}generator: {{kind: procedural}}\n'
        'filters: {present: {kind: sam, folder: s}}',
        'augment c.yaml',
        'present: folder s does not exist',
    ),
    'evaluate, engine': (DRIVE, 'evaluate c.yaml --engine e --out r', 'engine bundle e does'),
    'evaluate, checkpoint': (
        DRIVE,
        'evaluate c.yaml --checkpoint w.safetensors --out r',
        'checkpoint w.safetensors does not exist',
    ),
    'evaluate, published': (
        DRIVE,
        'evaluate c.yaml --checkpoint w.pth --model segformer_b0 --out r',
        'w.pth cannot be read',
    ),
    'evaluate, label map': (
        'a: {kind: folder, images: ., labels: ., label_map: m.yaml, image_suffix: .yaml, '
        'label_suffix: .yaml}',
        'evaluate c.yaml --out r',
        'the label map m.yaml does not exist: mend `label_map`, which starts from the data root',
    ),
    'evaluate, fit': (
        DRIVE,
        'evaluate c.yaml --fit f.yaml --score mahalanobis --checkpoint w --out r',
        'f.yaml cannot be read',
    ),
    'build': (None, 'engine build w.safetensors --out e', 'checkpoint w.safetensors does not'),
    'build, int8': (
        None,
        'engine build w.safetensors --out e --precision int8',
        'checkpoint w.safetensors does not',
    ),
    'import, ONNX': (
        None,
        'import-checkpoint w.pth --model segformer_b0 --out e --onnx o.onnx',
        'w.pth cannot be',
    ),
    'import': (None, 'import-checkpoint w.pth --model segformer_b0 --out e', 'w.pth cannot be'),
    'import, data': (
        'kind: muad',
        'import-checkpoint c.yaml --model segformer_b0 --calibrate c.yaml --out e',
        'muad: MUAD_challenge/test_sets/test_OOD does not hold',
    ),
    'replay': (None, 'replay b.mcap --out r', 'b.mcap: no such bag'),
    'replay, engine': (None, 'engine inspect e', 'engine bundle e does not exist'),
    'make-bag': (None, 'make-bag i o.mcap', 'i: no such folder of images'),
    'make-bag, label map': (
        None,
        'make-bag . o.mcap --labels . --label-map m.yaml',
        'm.yaml cannot be read',
    ),
}


@pytest.fixture(scope='module')
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder in which each case has one of its own, and what became of them."""
    root = tmp_path_factory.mktemp('runs')
    for name, (content, arguments, _) in CASES.items():
        folder = root / name
        folder.mkdir()
        (folder / 'arguments').write_text(arguments)
        if content is not None:
            (folder / 'c.yaml').write_text(content)
    command = [sys.executable, '-c', PROGRAM]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return root, json.loads(done.stdout)


@pytest.mark.parametrize('name', CASES)
def test_refused_before_torch_is_loaded(name: str, runs: tuple[Path, dict[str, Any]]) -> None:
    root, found = runs
    status, said, loaded = found[name]
    assert CASES[name][2] in said and said.count('\n') == 1
    assert status == 1
    assert loaded == []
    assert {path.name for path in (root / name).iterdir()} <= {'arguments', 'c.yaml'}


RUN = {
    'model': 'segformer_b0',
    'val': {'images': {'kind': 'sample_drive', 'split': 'val', 'frames': 1, 'seed': 1}},
    'stages': [{'name': 'a', 'method': {'kind': 'closed_world'}}],
}


def checkpoint(path: Path, **metadata: str) -> Path:
    save_file({'a': np.zeros(1, np.float32)}, path, metadata)
    return path


@pytest.mark.parametrize(
    ('metadata', 'message'),
    [
        ({}, r'was not written by `multishift train` \(it has no `config`\)'),
        ({'config': '{}'}, r'it has no `metrics`'),
        ({'config': '{', 'metrics': '{}'}, r'w\.safetensors, its configuration is damaged'),
        ({'config': '{}', 'metrics': '{'}, r'w\.safetensors, its metrics is damaged'),
        (
            {'config': json.dumps(RUN | {'model': 'segformer_b7'}), 'metrics': '{}'},
            r'configuration: model: segformer_b7 is no network \(did you mean segformer_b.*: open '
            'it with the version and the packages that wrote it, or train again$',
        ),
        (
            {'config': json.dumps(RUN), 'metrics': '{}', 'schema': '9'},
            r'^[^\n]*w\.safetensors: its schema is version 9, this program reads 1 or 2: open it '
            'with the version and the packages that wrote it, or train again$',
        ),
        (
            {
                'config': json.dumps(
                    RUN | {'stages': [{'name': 'a', 'method': {'kind': 'closed_wrld'}}]}
                ),
                'metrics': '{}',
            },
            r'configuration: stages\[0\]\.method\.kind is closed_wrld, expected closed_world, .* '
            r'or \w+ \(did you mean closed_world\?\): open it with the version and the packages',
        ),
        (
            {
                'config': json.dumps(RUN | {'stages': [{'name': 'a', 'method': {'kind': ['a']}}]}),
                'metrics': '{}',
            },
            r"configuration: stages\[0\]\.method\.kind is \['a'\], expected closed_world, ",
        ),
        (
            {'config': json.dumps(RUN | {'folder': 'absent'}), 'metrics': '{}'},
            r'configuration: folder goes with model eomt or mask2former, and only with these: ',
        ),
    ],
)
def test_a_checkpoint_of_another_version(
    metadata: dict[str, str], message: str, tmp_path: Path
) -> None:
    path = checkpoint(tmp_path / 'w.safetensors', **metadata)
    with pytest.raises(MultishiftError, match=message):
        read_origin(path)


def test_a_checkpoint_of_the_first_version_whose_other_keys_are_gone(tmp_path: Path) -> None:
    """Neither the optimiser's keys nor those of a plain method stop anybody."""
    method = {'kind': 'multishift', 'margin': 3}
    stage = {'name': 'a', 'method': method, 'optimizer': {'rate': 1}}
    stored = RUN | {'stages': [stage], 'batch_sise': 1}
    path = checkpoint(tmp_path / 'w.safetensors', config=json.dumps(stored), metrics='{"ap": 0.5}')
    found = read_origin(path)
    assert found.run.model == 'segformer_b0' and found.run.engine_size is None
    assert [stage.name for stage in found.run.stages] == ['a']
    assert found.adapting == ()
    assert found.configuration == stored
    assert found.metrics == {'ap': 0.5}
    # To start from, no more than its methods need be known.
    config = json.dumps({'stages': stored['stages']})
    start = checkpoint(tmp_path / 's.safetensors', config=config, metrics='{}')
    assert read_ancestry(start).adapting == ()
    assert read_ancestry(checkpoint(tmp_path / 'other.safetensors', config='{}')) == Ancestry()
    assert read_ancestry(tmp_path / 'absent.safetensors') == Ancestry()
