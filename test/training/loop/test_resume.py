# SPDX-License-Identifier: Apache-2.0
"""Runs that were killed end as if they never had been."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import torch
from torch import nn
import yaml

from multishift_perception.errors import MultishiftError
from multishift_training.checkpoints import trained
from multishift_training.loop.config import TrainConfig
from multishift_training.loop.run_folder import RunFolder, State, locked
from multishift_training.loop.train import train
from multishift_training.models import SegmentationModel

Content = dict[str, object]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


@pytest.fixture(autouse=True, scope='module')
def dropout() -> Iterator[None]:
    """Give the network of the runs in this process a layer that is random."""
    new_model = trained.new_model

    def with_dropout(config: TrainConfig, root: Path, num_classes: int) -> SegmentationModel:
        model = new_model(config, root, num_classes)
        model.decoder.append(nn.Dropout(0.2))
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, 'new_model', with_dropout)
        yield


@pytest.fixture(scope='module')
def demanding(content: Callable[..., Content], stages: dict[str, Content]) -> Content:
    """Momentum, accumulation with a rest, a schedule, random pairs, all batch norms moving."""
    closed_world = {
        **stages['closed_world'],
        'accumulate': 3,
        'clip_norm': 1.0,
        'optimizer': {'name': 'sgd', 'learning_rate': 1e-2},
        'schedule': {'kind': 'poly', 'warmup_steps': 3},
    }
    features = {
        **stages['features'],
        'init_uncertainty': True,
        'method': {'kind': 'multishift', 'margins': [10, 5, 5], 'pairs': 'sampled'},
        'schedule': {'kind': 'cosine'},
    }
    return content(batch_size=2, stages=[closed_world, features])


Places = list[tuple[int, int]]


@pytest.fixture(scope='module')
def whole_and_places(demanding: Content, new_folder: Callable[[], Path]) -> tuple[Path, Places]:
    """A run that nothing stopped, and the epoch and step of each state that it saved."""
    folder, save = new_folder(), RunFolder.save
    places: Places = []

    def note(self: RunFolder, state: State) -> None:
        places.append((state.epoch, state.step))
        save(self, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, 'save', note)
        train(TrainConfig.model_validate(demanding), folder, root=Path())
    return folder, places


@pytest.fixture(scope='module')
def whole(whole_and_places: tuple[Path, Places]) -> Path:
    """A run that nothing stopped."""
    return whole_and_places[0]


def same(first: object, second: object) -> bool:
    """Whether two states are equal bit for bit."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        assert isinstance(second, dict)
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        assert isinstance(second, list | tuple)
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def assert_same_runs(first: Path, second: Path) -> None:
    assert (first / 'log.jsonl').read_text() == (second / 'log.jsonl').read_text()
    states = [torch.load(run / 'last.pt', weights_only=True) for run in (first, second)]
    for key in states[0]:
        assert same(states[0][key], states[1][key]), key
    assert same(*(load_file(run / 'best.safetensors') for run in (first, second)))


class KilledError(Exception):
    """Stands for the end of a process."""


# Two optimiser steps in an epoch of 4 batches, accumulated by 3; then one for each batch.
PLACES = [
    *((0, 3), (0, 4), (1, 0)),
    *((1, 3), (1, 4), (2, 0)),
    *((2, 1), (2, 2), (2, 3), (2, 4), (3, 0)),
]


def test_stopped_after_every_saved_state(
    whole: Path, demanding: Content, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process saves one more state and ends: in epochs, between them, between stages."""
    config = TrainConfig.model_validate(demanding)
    save = RunFolder.save
    places: Places = []

    def save_and_end(self: RunFolder, state: State) -> None:
        save(self, state)
        if (state.epoch, state.step) not in places:
            places.append((state.epoch, state.step))
            raise KilledError

    monkeypatch.setattr(RunFolder, 'save', save_and_end)
    for _ in range(20):  # more than are needed
        with contextlib.suppress(KilledError):
            train(config, folder, root=Path())
    assert places == PLACES
    assert_same_runs(whole, folder)


def test_stopped_within_an_epoch_of_two_domains(
    two_domains: Callable[..., Content],
    stages: dict[str, Content],
    new_folder: Callable[[], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features = {**stages['features'], 'init_uncertainty': True}
    config = TrainConfig.model_validate(two_domains(batch_size=4, stages=[features]))
    whole, stopped = new_folder(), new_folder()
    train(config, whole, root=Path())
    save = RunFolder.save

    def save_and_end(self: RunFolder, state: State) -> None:
        save(self, state)
        if state.step == 2:
            raise KilledError

    monkeypatch.setattr(RunFolder, 'save', save_and_end)
    with pytest.raises(KilledError):
        train(config, stopped, root=Path())
    train(config, stopped, root=Path())
    assert_same_runs(whole, stopped)


def test_each_state_is_saved_once(whole_and_places: tuple[Path, Places]) -> None:
    assert whole_and_places[1] == PLACES


def test_stopped_by_time_after_every_step(
    whole: Path,
    demanding: Content,
    folder: Path,
    train_in_parts: Callable[[TrainConfig, Path], int],
) -> None:
    # In each epoch one after each step of the optimiser; the last one's validation ends the run.
    assert train_in_parts(TrainConfig.model_validate(demanding), folder) == 2 * 2 + 4
    assert_same_runs(whole, folder)


def test_stopped_while_an_epoch_is_recorded(
    whole: Path, demanding: Content, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice at each of what an epoch leaves, in one run."""
    config = TrainConfig.model_validate(demanding)
    calls = 0

    def end(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        raise KilledError

    for name in ('trained.save', 'RunFolder.write_log', 'Board.add'):
        for _ in range(2):
            with monkeypatch.context() as patch, pytest.raises(KilledError):
                patch.setattr(f'multishift_training.loop.train.{name}', end)
                train(config, folder, root=Path())
    assert calls == 6

    save = RunFolder.save

    def end_after_curves(self: RunFolder, state: State) -> None:
        if state.epoch == 2 and state.step == 0:
            raise KilledError
        save(self, state)

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(RunFolder, 'save', end_after_curves)
        train(config, folder, root=Path())
    ended = int(time.time())
    while int(time.time()) == ended:  # files of events are read in the order of their seconds
        time.sleep(0.01)
    train(config, folder, root=Path())
    assert_same_runs(whole, folder)
    # Curves have no second value of an epoch.
    events = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars('miou')] == [0, 1, 2]


# Starts a run again and again, each time in a new process that ends as by SIGKILL a while after
# the run has saved some more states; then lets it end. One import serves them all. A timer of the
# process's own ends it, which counts the time that it computes: it never comes to its end before,
# however late the other process is scheduled, and however fast the machine is.
KILLER = """
import os, random, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from multishift_training.loop.config import read_config
from multishift_training.loop.run_folder import RunFolder
from multishift_training.loop.train import train

config, whole, folder, kills = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), 3
chance, save = random.Random(0), RunFolder.save
SAVED = 100  # the exit code with no state

def start(folder, states=0, seconds=0.0):
    child = os.fork()
    if child == 0:
        saved = 0
        def count(self, state):
            nonlocal saved
            save(self, state)
            saved += 1
            if saved == states:
                signal.setitimer(signal.ITIMER_PROF, seconds)
        RunFolder.save = count
        train(read_config(config), folder, root=Path())
        os._exit(SAVED + saved)
    return child

def finish(folder):
    _, status, used = os.wait4(start(folder), 0)
    saved = os.waitstatus_to_exitcode(status) - SAVED
    assert saved > 0, status
    return (used.ru_utime + used.ru_stime) / saved

step = finish(whole)
for _ in range(kills):
    _, status = os.waitpid(start(folder, chance.choice((1, 1, 2)), chance.uniform(1e-3, step)), 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF, status
    state = torch.load(folder / 'last.pt', weights_only=True)
    print(state['epoch'], state['step'])
finish(folder)
"""


def test_killed_at_any_moment(
    demanding: Content, new_folder: Callable[[], Path], tmp_path: Path
) -> None:
    path = tmp_path / 'config.yaml'
    path.write_text(yaml.safe_dump(demanding))
    expected, folder = new_folder(), new_folder()
    done = subprocess.run(
        [sys.executable, '-c', KILLER, str(path), str(expected), str(folder)],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    places = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(places) == 3
    assert any(step for _, step in places)
    assert_same_runs(expected, folder)
    assert len((folder / 'log.jsonl').read_text().splitlines()) == 3
    # What writers were at when they were killed is gone.
    assert not list(folder.glob('.*'))


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_are_one_line(
    number: signal.Signals,
    content: Callable[..., Content],
    stages: dict[str, Content],
    folder: Path,
    tmp_path: Path,
) -> None:
    """Also where a process that loads data hears them too, as of a terminal."""
    path = tmp_path / 'config.yaml'
    endless = {**stages['closed_world'], 'epochs': 10_000}  # however late the signal is sent
    path.write_text(yaml.safe_dump(content(workers=1, stages=[endless])))
    with subprocess.Popen(
        [sys.executable, '-m', 'multishift_perception.cli.main', 'train', path, '--out', folder],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not (folder / 'last.pt').exists():
            assert process.poll() is None
            time.sleep(0.001)
        os.killpg(process.pid, number)
        _, errors = process.communicate()
    assert process.returncode == 128 + number
    assert 'Traceback' not in errors
    name = {signal.SIGINT: 'Ctrl-C'}.get(number, number.name)
    assert errors.replace('\r', '\n').splitlines()[-1] == (
        f'multishift: train was stopped by {name}: start it again, and it goes on after the last '
        'step that it saved'
    )
    assert not list(folder.glob('.*'))


def test_state_is_resumed_by_the_same_configuration_only(
    whole: Path, content: Callable[..., Content]
) -> None:
    other = content(seed=5)
    before = (whole / 'config.yaml').read_bytes()
    with pytest.raises(MultishiftError, match='another configuration') as caught:
        train(TrainConfig.model_validate(other), whole, root=Path())
    assert str(whole / 'config.yaml') in str(caught.value)
    assert (whole / 'config.yaml').read_bytes() == before


def test_configuration_that_leaves_defaults_out_is_the_same(
    whole: Path, demanding: Content, tmp_path: Path
) -> None:
    resolved = yaml.safe_load((whole / 'config.yaml').read_text())
    del resolved['precision']
    (tmp_path / 'config.yaml').write_text(yaml.safe_dump(resolved))
    folder = RunFolder(tmp_path, TrainConfig.model_validate(demanding), writes=True)
    shutil.copy(whole / 'last.pt', tmp_path)
    folder.save(folder.load())
    assert (tmp_path / 'config.yaml').read_text() == (whole / 'config.yaml').read_text()


# Holds the folder, as does a forked process, as those are that read data; says so, and waits.
HOLDER = """
import os, sys
from pathlib import Path
from multishift_training.loop.run_folder import locked
with locked(Path(sys.argv[1])):
    if os.fork() != 0:
        print('held', flush=True)
    sys.stdin.read()
"""


def test_folder_is_one_run_s_until_its_process_ends(
    demanding: Content, whole: Path, folder: Path
) -> None:
    config = TrainConfig.model_validate(demanding)
    with subprocess.Popen(
        [sys.executable, '-c', HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == 'held\n'
        with pytest.raises(MultishiftError) as caught:
            train(config, folder, root=Path())
        assert str(caught.value) == (
            f'{folder} is in use by another run: wait for its end, or give another folder with '
            '--out'
        )
        assert not (folder / 'config.yaml').exists()
        holder.kill()
        holder.wait()
        with locked(folder):  # though the process that was forked lives until its input ends
            pass


def test_log_is_that_of_the_state(whole: Path) -> None:
    history = torch.load(whole / 'last.pt', weights_only=True)['history']
    lines = (whole / 'log.jsonl').read_text().splitlines()
    assert [json.loads(line) for line in lines] == history
