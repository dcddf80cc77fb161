# SPDX-License-Identifier: Apache-2.0
"""The network of a bundle as a checkpoint again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
import shutil
from typing import Any

from click.testing import CliRunner
import numpy as np
import pytest
from safetensors.numpy import save_file
import torch
import yaml

from multishift_perception.cli.main import multishift
from multishift_perception.engine import EMBEDDED_BUNDLE, Engine, ProbeSet, read_manifest
from multishift_perception.errors import MultishiftError
from multishift_training.checkpoints.trained import open_trained
from multishift_training.export import write_checkpoint
from multishift_training.models.input_scale import Normalize


@pytest.fixture(scope='module')
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the shipped engine."""
    path = tmp_path_factory.mktemp('recovered') / 'embedded.safetensors'
    done = CliRunner().invoke(multishift, ['engine', 'checkpoint', '--out', str(path)])
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.output == f'checkpoint: {path}\n'
    return path


@pytest.mark.slow
@torch.no_grad()
def test_the_network_computes_what_the_engine_does(embedded: Path) -> None:
    network, origin = open_trained(embedded)
    with Engine.load(EMBEDDED_BUNDLE, backend='torch') as engine:
        rows, columns = engine.input_shape[1:]
        rng = np.random.default_rng(0)
        blocks = rng.integers(0, 256, (1, rows // 32, columns // 32, 3), np.uint8)
        frames = blocks.repeat(32, 1).repeat(32, 2)  # not those that it was proven on
        expected = engine.infer(frames)
    found = network(Normalize(network.input_scale)(torch.from_numpy(frames)))
    score = found.score.numpy()
    assert np.abs(score - expected.score).max() < 1e-3 * expected.score.std()
    assert (found.logits.argmax(1).numpy() == expected.label).mean() > 0.999
    manifest = read_manifest(EMBEDDED_BUNDLE)
    assert origin.classes == manifest.semantic_classes
    assert origin.metrics == manifest.provenance['validation']
    assert list(origin.credits) == manifest.provenance['credits'] != []


@pytest.mark.slow
@torch.no_grad()
def test_batch_norms_have_the_statistics_of_what_they_see(embedded: Path) -> None:
    """With those of a batch in their place, the network still says much the same."""
    network = open_trained(embedded).model
    probe = ProbeSet.load(EMBEDDED_BUNDLE / read_manifest(EMBEDDED_BUNDLE).probe.file)
    frames = torch.from_numpy(probe.frames[:, 0])
    image = Normalize(network.input_scale)(frames)
    expected = network(image).logits.argmax(1)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
    # The image pooling has one value a frame: of two, a batch norm leaves nothing but signs.
    network.get_submodule('aspp.image').eval()
    labels = network(image).logits.argmax(1)
    assert (labels == expected).float().mean() > 0.99
    assert all((norm.running_var != 1).all() for norm in norms)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the embedded engine."""
    return Path(shutil.copytree(EMBEDDED_BUNDLE, tmp_path / 'bundle'))


def change(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = bundle / 'manifest.yaml'
    manifest = yaml.safe_load(path.read_text())
    edit(manifest)
    path.write_text(yaml.safe_dump(manifest))


@pytest.mark.parametrize(
    ('edit', 'words'),
    [
        (lambda m: m['artifacts'].pop(), 'bundle has no artifact for torch, which holds the wei'),
        (lambda m: m['provenance'].pop('validation'), r'its provenance has no validation\)'),
        (
            lambda m: m['provenance'].update(validation={'on': date(2026, 1, 1)}),
            'bundle: its provenance is of no run .*date.*: build it again',
        ),
        (
            lambda m: (
                m['provenance'].update({'adapted by': [{'kind': 'ibn'}]}),
                m['provenance']['configuration'].update(model='segformer_b0'),
            ),
            'bundle: method ibn .* segformer_b0',
        ),
        (lambda m: m['provenance'].update(score=['a']), 'bundle: unknown score .*choose among'),
        (lambda m: m['provenance'].update(score='odin'), 'bundle: score odin cannot be exported'),
        (
            lambda m: m['provenance'].update({'score': 'neco', 'fitted on': '{}'}),
            'bundle has a score that was fitted, neco: give the weights',
        ),
        (
            lambda m: m['provenance']['configuration'].update(model='resnet'),
            'bundle, its configuration: model: resnet is no network',
        ),
        (lambda m: m['probe'].update(sha256='0' * 64), 'probe.npz has SHA-256'),
    ],
)
def test_what_cannot_be_had_back(
    edit: Callable[[dict[str, Any]], object], words: str, bundle: Path, tmp_path: Path
) -> None:
    change(bundle, edit)
    with pytest.raises(MultishiftError, match=words):
        write_checkpoint(bundle, tmp_path / 'out.safetensors')
    assert not (tmp_path / 'out.safetensors').exists()


@pytest.mark.slow
def test_a_program_of_another_network(bundle: Path, tmp_path: Path) -> None:
    model = 'deeplabv3plus_efficientnet_lite1'
    change(bundle, lambda m: m['provenance']['configuration'].update(model=model))
    words = rf'another network than {model} is .*\(64 convolutions for \d+\): give the weights'
    with pytest.raises(MultishiftError, match=words):
        write_checkpoint(bundle, tmp_path / 'out.safetensors')
    assert not (tmp_path / 'out.safetensors').exists()


def test_where_it_may_be_written(bundle: Path, tmp_path: Path) -> None:
    foreign = tmp_path / 'mine.safetensors'
    foreign.write_text('mine')
    run = tmp_path / 'best.safetensors'
    save_file({'weight': np.zeros(1)}, run, {'config': '{}', 'metrics': '{}'})
    for out, words in (
        (tmp_path / 'out.pt', r'the name that --out takes must end in \.safetensors'),
        (bundle / 'out.safetensors', 'lies in .*bundle, which is replaced as a whole'),
        (run, 'exists: only a checkpoint that was made of a bundle is replaced'),
        (foreign, 'exists: only a checkpoint that was made of a bundle is replaced'),
    ):
        with pytest.raises(MultishiftError, match=words):
            write_checkpoint(bundle, out, force=True)
    assert foreign.read_text() == 'mine'


@pytest.mark.slow
def test_one_that_is_there_is_replaced_when_asked_to(embedded: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(embedded, tmp_path))
    path.touch()
    with pytest.raises(MultishiftError, match='exists: give --force to replace it'):
        write_checkpoint(EMBEDDED_BUNDLE, path)
