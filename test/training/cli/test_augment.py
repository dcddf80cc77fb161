# SPDX-License-Identifier: Apache-2.0
"""`multishift augment` on the command line."""

from __future__ import annotations

from importlib.metadata import entry_points
import json
from pathlib import Path

from click.testing import CliRunner, Result
import pytest
import yaml

from multishift_perception.cli.main import multishift
from multishift_perception.errors import MultishiftError
from multishift_training.augmentation.config import read_config

CONFIG = {
    'images': {
        'kind': 'sample_drive',
        'split': 'train',
        'frames': 2,
        'seed': 5,
        'size': [48, 80],
        'learn_novel': False,
    },
    'objects': {'kind': 'sample_objects', 'split': 'train'},
    'generator': {'kind': 'pasted_weather'},
}


def start(folder: Path, *options: str, **changes: object) -> Result:
    config = folder / 'config.yaml'
    config.write_text(yaml.safe_dump(CONFIG | changes))
    arguments = [str(config), '--out', str(folder / 'run'), *options]
    return CliRunner().invoke(multishift, ['augment', *arguments])


@pytest.mark.slow
def test_counts_and_sheet(tmp_path: Path) -> None:
    said = start(tmp_path)
    assert said.exit_code == 0, said.output
    assert '2 samples of 2 sources accepted' in said.stdout
    assert str(tmp_path / 'run/index.html') in said.stdout
    again = start(tmp_path, '--json')
    assert json.loads(again.stdout) == json.loads((tmp_path / 'run/summary.json').read_text())
    assert json.loads(again.stdout)['accepted'] == 2


@pytest.mark.slow
def test_nothing_accepted_is_an_error(tmp_path: Path) -> None:
    said = start(tmp_path, filters={'present': {'kind': 'grabcut', 'min_iou': 1.0}})
    assert isinstance(said.exception, MultishiftError)
    assert str(said.exception).startswith(f'{tmp_path / "run"}: nothing was accepted')
    assert (
        '0 samples of 2 sources accepted, 8 attempts rejected (8 object not seen)' in said.output
    )


@pytest.mark.slow
def test_one_of_several_processes_leaves_the_totals_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('RANK', '1')
    said = start(tmp_path)
    assert said.exit_code == 0 and said.stdout == ''
    assert '1 of 2 sources are done' in said.stderr
    monkeypatch.setenv('RANK', '0')
    assert '2 samples of 2 sources accepted' in start(tmp_path).stdout


def test_a_wrong_field_is_named(tmp_path: Path) -> None:
    said = start(tmp_path, per_image=0)
    assert isinstance(said.exception, MultishiftError)
    assert 'per_image' in str(said.exception) and not (tmp_path / 'run').exists()


def test_what_was_called_rule_based_says_its_new_name(tmp_path: Path) -> None:
    said = start(tmp_path, generator={'kind': 'rule_based'})
    assert isinstance(said.exception, MultishiftError)
    assert 'generator (line 1): ' in str(said.exception) and '\n' not in str(said.exception)
    assert 'rule_based is called pasted_weather: set that' in str(said.exception)


def test_the_command_is_listed() -> None:
    said = CliRunner().invoke(multishift, ['--help'])
    assert 'augment ' in said.output
    found = {point.value for point in entry_points(group='multishift.commands', name='augment')}
    assert found == {'multishift_training.cli.augment:command'}


def test_cg_aug_filters_as_published() -> None:
    config = read_config(Path(__file__).parents[3] / 'config/augmentation/cityscapes.yaml')
    present, novel = config.filters.present, config.filters.novel
    assert present is not None and (present.kind, present.min_iou) == ('sam', 0.7)
    assert novel is not None
    assert (novel.model, novel.score, novel.least) == ('mask2former_resnet50', 'energy', -3.02)


@pytest.mark.parametrize('name', ['camvid', 'cityscapes', 'sample_drive'])
def test_the_configurations_are_valid(name: str) -> None:
    config = read_config(Path(__file__).parents[3] / f'config/augmentation/{name}.yaml')
    assert config.per_image >= 1
