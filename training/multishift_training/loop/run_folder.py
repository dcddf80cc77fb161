# SPDX-License-Identifier: Apache-2.0
"""The folder of a training run: what is in it, and how far the run is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
import json
import math
from pathlib import Path
import pickle
import struct
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

from filelock import Timeout
import safetensors.torch
import torch
import yaml

from multishift_perception.destinations import Kind, check_folder
from multishift_perception.errors import MultishiftError, one_line
from multishift_perception.files import (
    file_lock,
    remove_leftovers,
    replacing,
    write_bytes,
    write_text,
)
from multishift_perception.process.signals import waiting_for_block
from multishift_training.checkpoints.metadata import SCHEMA, check_schema
from multishift_training.datasets.batch import Batch
from multishift_training.loop.config import BEST, CONFIG, LAST, Stage, TrainConfig, read_config

# What a file that is no whole state makes its readers raise.
_DAMAGED = (
    BadZipFile,
    EOFError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)


_MEND = 'go on with the version that wrote it, or delete it to start the run anew'
# What a run leaves that fails before it has saved a state.
_SCRAPS = ('cache', 'lock', 'events.out.tfevents.*', 'bad_batch_*.safetensors')


class Epoch(NamedTuple):
    """Where an epoch lies: its number in the run, its stage, and its number in the stage."""

    number: int
    stage: Stage
    in_stage: int


def schedule(config: TrainConfig) -> Iterator[Epoch]:
    """Yield the epochs of a run in order."""
    number = 0
    for stage in config.stages:
        for in_stage in range(stage.epochs):
            yield Epoch(number, stage, in_stage)
            number += 1


@dataclass
class State:
    """How far a run is.

    Attributes:
        epoch: number of the epoch it is in.
        step: batches of that epoch that are done.
        best: largest quality in the stage so far.
        sums: sums of the losses over the epoch so far, by part.
        history: what was found after each epoch that is done.
        model: state dict.
        optimizer: state dict, or None before the first step of a stage.
        methods: state dicts of what only training needs, by kind of method.
        inherited: configurations of the methods that the network of its first weights was adapted
            by.
        credits: whom to name for what those weights learned from; None of a new run, and of one
            that an earlier version saved, which kept no credits.
    """

    epoch: int = 0
    step: int = 0
    best: float = -math.inf
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    model: dict[str, Any] | None = None
    optimizer: dict[str, Any] | None = None
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    inherited: list[dict[str, Any]] = field(default_factory=list)
    credits: list[str] | None = None


class RunFolder:
    """``config.yaml``, ``log.jsonl``, ``last.pt``, ``best.safetensors``, ``cache/``, ``lock``."""

    def __init__(self, path: Path, config: TrainConfig, *, writes: bool) -> None:
        """Open the folder of a run, new or to be resumed; `locked` keeps other runs out.

        The first state that is saved claims it: a run that fails before that leaves it to any
        configuration.

        Args:
            path: the folder.
            config: of the run.
            writes: whether this process is the one that writes; the others read.

        Raises:
            MultishiftError: it holds a run of another configuration.
        """
        self.path = path
        self.best = path / BEST
        self.cache = path / 'cache'
        self._last = path / LAST
        self._log = path / 'log.jsonl'
        self._writes = writes
        self._claimed = path / CONFIG
        self._text = yaml.safe_dump(config.model_dump(mode='json'), sort_keys=False)
        if self._claimed.exists() and read_config(self._claimed) != config:
            raise MultishiftError(
                f'{path} holds a run of another configuration ({self._claimed}): give another '
                'folder with --out'
            )
        if writes:
            for file in (self._claimed, self._log, self._last, self.best):
                remove_leftovers(file)

    def load(self) -> State:
        """Return the newest state, or that of a new run.

        Raises:
            MultishiftError: the file was damaged after it was written, or this version cannot
                read it.
        """
        if not self._last.exists():
            return State()
        try:
            # torch reads wrong bytes without a word: the file's checksums are checked first.
            with ZipFile(self._last) as file:
                if member := file.testzip():
                    raise BadZipFile(f'{member} is damaged')
            saved = torch.load(self._last, map_location='cpu', weights_only=True)
            if not isinstance(saved, dict):
                raise TypeError(f'it holds a {type(saved).__name__}, no dict')
            schema = saved.pop('schema', 1)
            check_schema(self._last, schema, mend=_MEND)
            return State(**saved)
        except MultishiftError:
            raise
        except (*_DAMAGED, OSError) as error:
            # PyTorch would have objects of foreign classes loaded, which may run anything.
            foreign = isinstance(error, pickle.UnpicklingError)
            why = 'it holds what no run saves' if foreign else str(error).partition('\n')[0]
            raise MultishiftError(
                f'{self._last} cannot be read ({why}): delete it to start the run anew'
            ) from error

    @contextmanager
    def taking_up(self, what: str) -> Iterator[None]:
        """Say in one line that something saved does not fit what the block gives it to.

        Args:
            what: of the state, such as ``weights of the network``.

        Raises:
            MultishiftError: it does not, as when what makes it has changed since.
        """
        try:
            yield
        except _DAMAGED as error:
            raise MultishiftError(
                f'{self._last}: its {what} fit no more ({one_line(error)}): {_MEND}'
            ) from error

    def save(self, state: State) -> None:
        """Write the state, atomically: a run killed at any moment finds the last whole one.

        A signal to end waits until it is written: PyTorch's writer, interrupted, ends by a fault
        of its own instead.

        Raises:
            MultishiftError: there is no room; what was written before is whole.
        """
        if not self._writes:
            return
        with waiting_for_block(), self._claiming(), replacing(self._last) as fresh:
            with fresh.open('wb') as file:
                torch.save({'schema': SCHEMA, **vars(state)}, file)

    @contextmanager
    def _claiming(self) -> Iterator[None]:
        """Keep other configurations out from the first state on that the block writes."""
        if self._last.exists():
            write_text(self._claimed, self._text)  # resolved, whatever defaults were left out
            yield
        elif self._claimed.exists():
            yield  # the user's own
        else:
            write_text(self._claimed, self._text)
            try:
                yield
            except BaseException:
                self._claimed.unlink()
                raise

    def write_log(self, history: list[dict[str, Any]]) -> None:
        """Write one line for each epoch."""
        write_text(self._log, ''.join(json.dumps(h) + '\n' for h in history))

    def keep_batch(self, batch: Batch, rank: int) -> Path:
        """Write a batch to be looked into, of a process by its rank; return its path."""
        path = self.path / f'bad_batch_{rank}.safetensors'
        tensors = {**batch.extras, **batch._asdict()}
        tensors = {name: x for name, x in tensors.items() if isinstance(x, torch.Tensor)}
        write_bytes(path, safetensors.torch.save(tensors))
        return path


def check_run_folder(path: Path) -> None:
    """See that a folder can be that of a run.

    Raises:
        MultishiftError: something else is in it, or it cannot be written.
    """
    kind = Kind('a training run', _is_run)
    check_folder(path, kind, option='--out', force=True, scraps=_SCRAPS)


def _is_run(path: Path) -> bool:
    try:
        read_config(path / CONFIG)
    except MultishiftError:
        return False
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes' runs out of a folder, until this process ends in whatever way.

    Raises:
        MultishiftError: another run is in it.
    """
    path.mkdir(parents=True, exist_ok=True)
    try:
        held = file_lock(path / 'lock').acquire(blocking=False)
    except Timeout:
        raise MultishiftError(
            f'{path} is in use by another run: wait for its end, or give another folder with --out'
        ) from None
    with held:
        yield
