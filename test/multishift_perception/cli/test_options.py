# SPDX-License-Identifier: Apache-2.0
"""What holds for the options of all commands."""

from __future__ import annotations

from collections.abc import Iterator
import logging
from pathlib import Path
import re
import subprocess
import sys

import click
from click.testing import CliRunner, Result
import numpy as np
import pytest

from multishift_perception import bags, progress
from multishift_perception.bags import BagReader, BagWriter, choose_topics
from multishift_perception.cli.main import multishift
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError

FOLDERS = (
    'demo',
    'replay',
    'evaluate',
    'augment',
    'train',
    'compare',
    'engine build',
    'import-checkpoint',
)


def walk(command: click.Command, parent: click.Context | None = None) -> Iterator[click.Context]:
    """Yield the contexts of a command and of all below it."""
    name = 'multishift' if parent is None else str(command.name)
    ctx = click.Context(command, parent, name, **command.context_settings)
    yield ctx
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            assert below is not None
            below.name = name
            yield from walk(below, ctx)


CONTEXTS = {ctx.command_path.partition(' ')[2] or 'itself': ctx for ctx in walk(multishift)}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(multishift, [str(a) for a in arguments])


def options(name: str) -> dict[str, click.Option]:
    ctx = CONTEXTS[name]
    found = [p for p in ctx.command.get_params(ctx) if isinstance(p, click.Option)]
    return {name: option for option in found for name in option.opts}


def test_all_are_found() -> None:
    assert {*FOLDERS, 'itself', 'engine', 'sample-drive', 'make-bag'} < CONTEXTS.keys()
    assert {'engine inspect', 'engine verify', 'engine bench'} < CONTEXTS.keys()


@pytest.mark.parametrize('name', CONTEXTS)
class TestEveryCommand:
    def test_every_option_has_help(self, name: str) -> None:
        assert [o for o, option in options(name).items() if not getattr(option, 'help', '')] == []

    def test_no_default_is_written_by_hand(self, name: str) -> None:
        by_hand = re.compile(r'default|(when|where) left out|if none is given', re.IGNORECASE)
        assert [
            o for o, option in options(name).items() if by_hand.search(option.help or '')
        ] == []

    def test_every_default_is_shown(self, name: str) -> None:
        ctx = CONTEXTS[name]
        for key, option in options(name).items():
            extra = option.get_help_extra(ctx)
            default = option.get_default(ctx)
            if isinstance(default, str | int | float | Path) and not option.is_flag:
                assert 'default' in extra, key

    def test_no_range_lets_nan_pass(self, name: str) -> None:
        types = {o: option.type for o, option in options(name).items()}
        ranges: dict[str, click.ParamType] = {
            o: kind for o, kind in types.items() if isinstance(kind, click.FloatRange)
        }
        for key, kind in ranges.items():
            with pytest.raises(click.BadParameter):
                kind.convert('nan', None, None)
                raise AssertionError(key)

    def test_short_help_and_how_much_is_said(self, name: str) -> None:
        words = [] if name == 'itself' else name.split()
        short, long = invoke(*words, '-h'), invoke(*words, '--help')
        assert short.exit_code == 0
        assert short.output == long.output
        assert '-h, --help' in short.output
        assert '-q, --quiet' in short.output and '-v, --verbose' in short.output


@pytest.mark.parametrize('name', FOLDERS)
def test_the_folder_that_is_written_is_out(name: str) -> None:
    assert '--out' in options(name)
    assert '--report' not in invoke(*name.split(), '--help').output


@pytest.mark.parametrize(
    ('name', 'wanted'),
    {
        'demo': '--backend --device --threshold --cameras --topic --engine',
        'replay': '--report --backend --device --threshold --cameras --topic --engine',
        'evaluate': '--report --backend --device --threshold --engine',
        'engine verify': '--backend --device',
        'engine bench': '--backend --device',
        'engine inspect': '--device',
    }.items(),
)
def test_one_name_for_one_thing(name: str, wanted: str) -> None:
    assert set(wanted.split()) <= options(name).keys()


def test_a_missing_option_is_called_by_its_newest_name() -> None:
    said = invoke('replay', 'bag.mcap')
    assert said.exit_code == 2
    assert "Missing option '--out'." in said.stderr


@pytest.mark.parametrize(
    ('mistyped', 'meant'),
    [
        (['repaly'], "No such command 'repaly'. Did you mean 'replay'?"),
        (['evalute'], "Did you mean 'evaluate'?"),  # of another package
        (['engine', 'verfy'], "No such command 'verfy'. Did you mean 'verify'?"),
        (['engine', 'biuld'], "Did you mean 'build'?"),
        (['replay', '--treshold', '1'], "(Did you mean one of: '--record', '--threshold'?)"),
        (['--quit'], "Did you mean '--quiet'?"),
        (['replay', '--ot', 'x'], "(Did you mean one of: '--json', '--out'?)"),
    ],
)
def test_a_mistyped_word_is_mended(mistyped: list[str], meant: str) -> None:
    said = invoke(*mistyped)
    assert said.exit_code == 2
    assert meant in said.stderr


@pytest.mark.parametrize(
    ('words', 'meant'),
    {
        'compare c.yaml --table --pictures 2': '--pictures does not go with --table',
        'compare c.yaml --table --time-engines int8': '--time-engines does not go with --table',
        'compare c.yaml --table --max-minutes 1': '--max-minutes does not go with --table',
        'compare c.yaml --pictures 2 --max-minutes 1': 'which --pictures does none of',
        'compare c.yaml --seconds 4': '--seconds goes with --time-engines',
        'demo --bag b.mcap --seed 3': '--seed is of the sample drive',
        'demo --bag b.mcap --seconds 3': '--seconds is of the sample drive',
        'engine build c --out e --precision fp16': '--precision fp16 is for --target tensorrt or',
        'view 0 --rate 3': '--rate is for files',
        'view http://camera/ --once': '--once is for files',
    }.items(),
)
def test_what_would_have_no_effect_is_refused(words: str, meant: str) -> None:
    said = invoke(*words.split())
    assert said.exit_code == 2
    assert meant in said.stderr


def test_the_bag_of_a_demo_is_looked_at_before_the_engine_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('rclpy')
    monkeypatch.setattr(Engine, 'load', lambda *_, **__: pytest.fail('the engine is loaded'))
    said = invoke('demo', '--bag', tmp_path / 'none.mcap', '--out', tmp_path / 'out')
    assert 'none.mcap: no such bag' in str(said.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """A bag of three cameras, and two topics of a fourth."""
    path = tmp_path / 'bag.mcap'
    with BagWriter(path) as writer:
        for topic in ('/front/image_raw', '/left/image_raw', '/rig/rear/image_raw'):
            writer.image(topic, bags.EPOCH_NS, 'frame', np.zeros((64, 96, 3), np.uint8))
        for topic in ('/twice/image_raw', '/twice/image_rect'):
            writer.image(topic, bags.EPOCH_NS, 'frame', np.zeros((64, 96, 3), np.uint8))
    return path


class TestSources:
    def test_cameras(self, bag: Path) -> None:
        with BagReader(bag) as reader:
            assert list(choose_topics(reader, cameras=['front', 'rig_rear'])) == [
                '/front/image_raw',
                '/rig/rear/image_raw',
            ]
            assert len(choose_topics(reader, cameras=['twice'])) == 2
            assert len(choose_topics(reader)) == 5

    def test_unknown(self, bag: Path) -> None:
        with BagReader(bag) as reader:
            message = "no camera 'rear'; it has: front, left, rig_rear, twice"
            with pytest.raises(MultishiftError, match=message):
                choose_topics(reader, cameras=['front', 'rear'])
            with pytest.raises(MultishiftError, match="no image topic '/up'; the bag has: /front"):
                choose_topics(reader, topics=['/up'])

    @pytest.mark.parametrize('command', [['replay', 'bag.mcap', '--out', 'o'], ['demo']])
    def test_not_both(self, command: list[str]) -> None:
        said = invoke(*command, '--topic', '/a', '--cameras', 'front')
        assert said.exit_code == 2
        assert 'do not go together: give one' in said.stderr

    @pytest.mark.slow
    @pytest.mark.parametrize(
        'choice', [['--cameras', 'left, front'], ['--topic', '/front/image_raw']]
    )
    def test_replay(self, choice: list[str], bag: Path, tiny_bundle: Path, tmp_path: Path) -> None:
        out = tmp_path / 'out'
        words = ['--engine', tiny_bundle, '--report', out, '--jobs', 2]
        said = invoke('replay', bag, *words, *choice, '--json')
        assert said.exit_code == 0, said.exception
        assert 'one bag takes one process' in said.stderr
        assert ('/front/image_raw' in said.stdout) and ('/rig' not in said.stdout)
        assert ('/left/image_raw' in said.stdout) == ('--cameras' in choice)

    def test_replay_without_such_a_camera(self, bag: Path, tmp_path: Path) -> None:
        said = invoke('replay', bag, '--out', tmp_path / 'out', '--cameras', 'up')
        assert isinstance(said.exception, MultishiftError)
        assert "no camera 'up'; it has: front, left" in str(said.exception)


class TestHowMuchIsSaid:
    @pytest.mark.slow
    @pytest.mark.parametrize('before', [True, False])
    def test_quiet(self, before: bool, tmp_path: Path) -> None:
        words = ['sample-drive', str(tmp_path / 'd.mcap'), '--seconds', '0.2']
        words += ['--height', '96', '--width', '96']
        words.insert(0 if before else len(words), '--quiet')
        said = invoke(*words)
        assert said.exit_code == 0
        assert said.stdout and not said.stderr
        assert not progress._quiet  # afterwards

    def test_quiet_and_verbose(self) -> None:
        for words in (['-q', 'replay', 'b', '-v'], ['engine', '-v', 'verify', '-q']):
            said = invoke(*words)
            assert said.exit_code == 2
            assert '--quiet and --verbose do not go together' in said.stderr

    def test_levels_of_our_packages(self, caplog: pytest.LogCaptureFixture) -> None:
        level = logging.getLogger('multishift_perception').level
        invoke('engine', 'bench', 'nowhere', '--verbose')
        assert logging.getLogger('multishift_perception').level == level

    @pytest.mark.slow
    @pytest.mark.parametrize('word', ['', '--verbose', '--quiet'])
    def test_engine(self, word: str, bag: Path, tiny_bundle: Path, tmp_path: Path) -> None:
        words = ['replay', bag, '--engine', tiny_bundle, '--out', tmp_path / 'out', word]
        done = subprocess.run(
            [
                sys.executable,
                '-m',
                'multishift_perception.cli.main',
                *map(str, filter(None, words)),
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert ('openvino.xml on cpu: fits' in done.stderr) == (word == '--verbose')
        assert ('the first in order' in done.stderr) == (word != '--quiet')
        assert ('replay: 100%, 5 of 5' in done.stderr) == (word != '--quiet')
        assert not (word == '--quiet' and done.stderr)
        assert 'report.html' in done.stdout

    def test_origin_of_an_error(self, tmp_path: Path) -> None:
        (tmp_path / 'manifest.yaml').write_text('a: [')
        plain = invoke('engine', 'verify', tmp_path)
        assert 'Traceback' not in plain.stderr
        told = invoke('engine', 'verify', tmp_path, '-v')
        assert 'Traceback' in told.stderr and 'MultishiftError' in told.stderr


@pytest.mark.parametrize('value', ['nan', '-0.1', '1.5', 'x'])
def test_a_threshold_is_from_0_to_1(value: str, tmp_path: Path) -> None:
    words = ['replay', 'a.mcap', '--out', str(tmp_path / 'report'), '--threshold', value]
    result = CliRunner().invoke(multishift, words)
    assert result.exit_code == 2
    assert "'--threshold'" in result.output
