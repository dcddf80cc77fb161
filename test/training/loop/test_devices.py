# SPDX-License-Identifier: Apache-2.0
"""Several processes do what one does."""

from __future__ import annotations

from collections.abc import Callable
import json
import os
from pathlib import Path
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
import yaml

from multishift_training.checkpoints import trained
from multishift_training.loop.config import TrainConfig
from multishift_training.loop.devices import leave_cores_to, share_gradients
from multishift_training.loop.train import train

Content = dict[str, object]

pytestmark = pytest.mark.usefixtures('one_thread')


# Runs `multishift train` for pairs of a configuration and a folder; one import serves them all.
TRAINER = """
import logging, sys
from multishift_perception.cli.main import main

words = sys.argv[1:]
for config, folder in zip(words[::2], words[1::2], strict=True):
    sys.argv = ['multishift', 'train', config, '--out', folder]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
    logging.disable(logging.NOTSET)
"""


def torchrun(
    script: Path, processes: int, *runs: tuple[Path, Path]
) -> subprocess.CompletedProcess[str]:
    script.write_text(TRAINER)
    launcher = ['-m', 'torch.distributed.run', '--nproc-per-node', str(processes)]
    words = [str(word) for run in runs for word in run]
    return subprocess.run(
        [sys.executable, *launcher, str(script), *words],
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture
def plan(content: Callable[..., Content], stages: dict[str, Content]) -> Content:
    """Both methods, accumulation and clipping; batch norms frozen.

    SGD, since Adam makes full steps of gradients that are nothing but rounding.
    """
    common = {'batch_norm': 'frozen', 'optimizer': {'name': 'sgd', 'learning_rate': 0.02}}
    closed_world = {**stages['closed_world'], **common, 'accumulate': 2, 'clip_norm': 1.0}
    # Each process has one sample of a batch, so that the pixels keep their order and the sampled
    # pairs are the same ones.
    method = {'kind': 'multishift', 'margins': [10, 5, 5], 'pairs': 'sampled'}
    features = {**stages['features'], **common, 'trainable': ['*'], 'clip_norm': 1.0}
    features['method'] = method
    return content(
        batch_size=2,
        stages=[{**closed_world, 'epochs': 1}, {**stages['uncertainty'], **common}, features],
    )


@pytest.fixture
def plan_of_domains(two_domains: Callable[..., Content], plan: Content) -> Content:
    """The same on two domains, one of them of coarse labels; each process has one of each."""
    stages = [{**stage} for stage in plan['stages']]  # type: ignore[attr-defined]
    # Of two samples in a process the order is another than of four in one.
    stages[2]['method'] = {**stages[2]['method'], 'pairs': 'all'}
    return two_domains(batch_size=4, stages=stages)


@pytest.mark.slow
def test_two_processes_do_what_one_does(
    plan: Content, plan_of_domains: Content, new_folder: Callable[[], Path], tmp_path: Path
) -> None:
    plans = [plan, plan_of_domains]
    ones, twos = ([new_folder() for _ in plans] for _ in range(2))
    paths = [tmp_path / f'{number}.yaml' for number in range(2)]
    for one, path, content in zip(ones, paths, plans, strict=True):
        train(TrainConfig.model_validate(content), one, root=Path())
        path.write_text(yaml.safe_dump(content))
    done = torchrun(tmp_path / 'trainer.py', 2, *zip(paths, twos, strict=True))
    assert done.returncode == 0, done.stderr[-3000:]
    for one, two, content in zip(ones, twos, plans, strict=True):
        assert_same_but_for_rounding(one, two, TrainConfig.model_validate(content))
        # One of them writes.
        written = {path.name.partition('.')[0] for path in two.iterdir()}
        assert written == {'best', 'cache', 'config', 'events', 'last', 'lock', 'log'}
        assert len(list(two.glob('events.*'))) == 1
        # And it talks.
        assert done.stdout.count(f'best weights: {two}/') == 1
    for epoch in range(3):
        assert done.stderr.count(f'epoch {epoch} (') == len(plans)


def assert_same_but_for_rounding(one: Path, two: Path, config: TrainConfig) -> None:
    """Compare the logs and the weights of two runs, which learned something in every part."""
    logs = [
        [json.loads(line) for line in (run / 'log.jsonl').read_text().splitlines()]
        for run in (one, two)
    ]
    assert [entry['stage'] for entry in logs[1]] == ['closed_world', 'uncertainty', 'features']
    for first, second in zip(*logs, strict=True):
        assert first.pop('stage') == second.pop('stage')
        assert second == pytest.approx(first, rel=1e-4, abs=1e-6)
    torch.manual_seed(0)
    start = trained.new_model(config, Path()).state_dict()
    first, second = (torch.load(run / 'last.pt', weights_only=True)['model'] for run in (one, two))
    for key in start:
        assert torch.allclose(first[key], second[key], rtol=0, atol=1e-5), key
    for part in ('backbone', 'aspp', 'low', 'decoder', 'classifier', 'uncertainty'):
        weights = [key for key in start if key.startswith(f'{part}.')]
        assert max((first[key] - start[key]).abs().max() for key in weights) > 1e-3


@pytest.mark.parametrize(
    ('cores', 'before', 'loaders', 'after'),
    [(8, 8, 2, 6), (8, 4, 2, 4), (2, 2, 4, 1), (8, 1, 0, 1)],
)
def test_loaders_have_cores_of_their_own(
    monkeypatch: pytest.MonkeyPatch, cores: int, before: int, loaders: int, after: int
) -> None:
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(cores)))
    torch.set_num_threads(before)
    for _ in range(2):
        leave_cores_to(loaders)
        assert torch.get_num_threads() == after


class OneOfTwo:
    """Stands for Fabric in one of two processes, when the gradients of the other are known."""

    world_size = 2

    def __init__(self, other: Tensor) -> None:
        self._other = other

    def all_reduce(self, values: Tensor, *, reduce_op: str) -> Tensor:
        assert reduce_op == 'mean'
        return (values + self._other) / 2


def test_processes_share_gradients_of_what_no_wrapper_sees() -> None:
    state = nn.Linear(2, 1)
    state.weight.grad = torch.tensor([[1.0, 3.0]])  # its bias was not reached here
    share_gradients(OneOfTwo(torch.tensor([3.0, 5.0, 8.0])), state)  # type: ignore[arg-type]
    assert torch.equal(state.weight.grad, torch.tensor([[2.0, 4.0]]))
    assert torch.equal(state.bias.grad, torch.tensor([4.0]))
