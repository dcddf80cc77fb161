# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint to an engine in one call, with the network's own score or another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import re
from typing import Any

from click.testing import CliRunner
import numpy as np
import pytest
import torch
import yaml

from multishift_perception.cli.main import multishift
from multishift_perception.engine import Engine, ProbeSet, read_manifest
from multishift_perception.engine.verification import verify
from multishift_perception.errors import MultishiftError
from multishift_training import models
from multishift_training.checkpoints.trained import open_trained, save
from multishift_training.datasets import open_validation, validation_loader
from multishift_training.datasets.descriptions import read_datasets
from multishift_training.export import build, build_published
from multishift_training.inference.fitting import fit_scores
from multishift_training.loop.config import TrainConfig
from multishift_training.models.input_scale import Normalize
from multishift_training.scores.rescored import score_of

DOCUMENT = Path(__file__).parents[3] / 'docs/engines.md'
SIZE = (96, 160)


@pytest.fixture(scope='module')
def checkpoint(
    content: Callable[..., dict[str, Any]],
    stages: dict[str, Any],
    new_folder: Callable[[], Path],
) -> Path:
    """A network that was trained to know classes, and nothing of what it does not know."""
    torch.manual_seed(3)
    model = models.create('deeplabv3plus_compact')
    # New networks give nearly the same logits for all classes; these differ from pixel to pixel.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias)
    config = TrainConfig.model_validate(content(stages=[stages['closed_world']]))
    path = new_folder() / 'best.safetensors'
    save(path, model, config, {'miou': 0.5})
    return path


@pytest.fixture(scope='module')
def fit(content: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled images to fit a score on."""
    path = tmp_path_factory.mktemp('fit') / 'fit.yaml'
    path.write_text(yaml.safe_dump(content()['val']['images']))
    return path


@torch.no_grad()
def eager(checkpoint: Path, score: str, frames: np.ndarray, fit: Path | None) -> np.ndarray:
    model = open_trained(checkpoint).model
    cache = checkpoint.parent / 'cache'
    described = [] if fit is None else read_datasets([fit]).values()
    batches = [
        batch
        for description in described
        for batch in validation_loader(
            open_validation(description, root=Path(), cache=cache, size=SIZE)
        )
    ]
    fitted = fit_scores(model, [score], batches).get(score)
    prediction = model(Normalize(model.input_scale)(torch.from_numpy(frames)))
    return score_of(score, fitted=fitted)(prediction).numpy()


@pytest.mark.slow
@pytest.mark.parametrize('score', ['energy', 'mahalanobis'])
def test_closed_world_network_with_a_post_hoc_score(
    score: str, checkpoint: Path, fit: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'engine'
    fit_on = fit if score == 'mahalanobis' else None
    more = () if fit_on is None else ('--fit', fit_on)
    command = ['engine', 'build', checkpoint, '--out', out, '--score', score, *more]
    done = CliRunner().invoke(multishift, [str(word) for word in command])
    assert done.exit_code == 0, (done.output, done.exception)
    assert [verdict.state for verdict in verify(out)] == ['right', 'right']
    probe = ProbeSet.load(out / 'probe.npz')
    frames = probe.frames[0]
    expected = eager(checkpoint, score, frames, fit_on)
    # OpenVINO stores weights in 16 bits, and distances are squares of features.
    for backend, share in (('torch', 1e-4), ('openvino', 0.1)):
        with Engine.load(out, backend=backend) as engine:
            found = engine.infer(frames).score
        assert np.abs(found - expected).max() <= share * probe.spread
    # Calibrated on that score, which is on another scale than the head's.
    manifest = read_manifest(out)
    knots = [knot for knot, _ in manifest.calibration.knots]
    assert expected.min() < manifest.calibration.operating_point < expected.max()
    assert knots[-1] - knots[0] < 3 * np.ptp(expected)
    assert manifest.provenance['score'] == score
    assert manifest.provenance['command'].endswith(
        f' --score {score}{" --fit fit.yaml" if fit_on else ""}'
    )
    again = tmp_path / 'again.safetensors'
    command = ['engine', 'checkpoint', str(out), '--out', str(again)]
    done = CliRunner().invoke(multishift, command)
    if fit_on is None:
        assert done.exit_code == 0, (done.output, done.exception)
        assert 'makes no use of them: uncertainty.proxy.weight\n' in done.output
        recovered = eager(again, score, frames, None)
        assert np.abs(recovered - expected).max() <= 1e-4 * probe.spread
    else:
        assert 'a score that was fitted' in str(done.exception)
    shown = CliRunner().invoke(multishift, ['engine', 'inspect', str(out)]).stdout
    assert re.search(rf'^score +{score}$', shown, re.MULTILINE)
    assert ('\nfitted on ' in shown) == (fit_on is not None)


@pytest.mark.slow
def test_the_example_of_the_documents(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / 'runs').mkdir()
    (tmp_path / 'runs/mine').symlink_to(checkpoint.parent)
    monkeypatch.chdir(tmp_path)
    section = DOCUMENT.read_text().split('### From Python')[1]
    found = re.search(r'```python\n(.*?)```', section, re.DOTALL)
    assert found is not None
    exec(found[1], {})
    assert capsys.readouterr().out.endswith('(1, 96, 160)\n')
    manifest = read_manifest(tmp_path / 'my_engine')
    assert [artifact.backend for artifact in manifest.artifacts] == ['openvino']
    assert manifest.method == 'closed_world'
    assert manifest.calibration.dataset.startswith('4 validation frames ({"images"')


@pytest.mark.parametrize('command', [build, build_published], ids=['build', 'published'])
@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (
            {'score': 'odin'},
            'score odin cannot be exported, as it needs gradients: choose another',
        ),
        (
            {'score': 'oddin'},
            "unknown score 'oddin' (did you mean odin?): choose among unc",
        ),
        (
            {'score': 'mahalanobis'},
            '--score mahalanobis and --fit DATASET.yaml, which it is fitted on, go together',
        ),
        ({'fit': Path('fit.yaml')}, '--score mahalanobis or neco or knn and --fit'),
        ({'score': 'mahalanobis', 'fit': Path('fit.yaml')}, 'fit.yaml cannot be read'),
    ],
)
def test_score_is_refused_before_any_work(
    command: Callable[..., Any], options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    more = {} if command is build else {'model': 'deeplabv3plus_compact'}
    with pytest.raises(MultishiftError) as fault:
        command(tmp_path / 'absent', tmp_path / 'engine', **more, **options)
    assert str(fault.value).startswith(words) and '\n' not in str(fault.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('command', [build, build_published], ids=['build', 'published'])
def test_onnx_link_that_leads_to_itself(command: Callable[..., Any], tmp_path: Path) -> None:
    link = tmp_path / 'network.onnx'
    link.symlink_to(link)
    more = {} if command is build else {'model': 'deeplabv3plus_compact'}
    with pytest.raises(MultishiftError) as fault:
        command(tmp_path / 'absent', tmp_path / 'engine', **more, onnx=link)
    assert str(fault.value).startswith(f'{link} exists: only an ONNX model of ours is replaced; ')
    assert '\n' not in str(fault.value)


@pytest.mark.slow
def test_what_a_score_is_fitted_on_is_looked_for(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / 'fit.yaml').write_text('kind: camvid\nsplit: val\n')
    with pytest.raises(MultishiftError, match='camvid: camvid does not hold'):
        build(checkpoint, tmp_path / 'engine', score='mahalanobis', fit=tmp_path / 'fit.yaml')
    assert not (tmp_path / 'engine').exists()


@pytest.mark.slow
def test_nothing_but_a_bundle_is_replaced(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / 'paper.pdf').write_bytes(b'of months')
    with pytest.raises(MultishiftError, match='only an engine bundle'):
        build(checkpoint, tmp_path)
