# SPDX-License-Identifier: Apache-2.0
"""What becomes of an engine where the GPU's memory is full, and where the GPU is lost.

Each fault has a process of its own: a GPU whose context is spoiled answers that process no more.
"""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch

from multishift_perception.engine import EMBEDDED_BUNDLE, Engine
from multishift_perception.engine.probe import ProbeSet
from multishift_perception.errors import MultishiftError
from proof.settings import Note, Settings

_MIB = 2**20


def run(settings: Settings, note: Note) -> None:
    """Cause both, and see that a new engine runs afterwards."""
    memory = _in_process(_fill_memory, settings)
    note('memory full', memory)
    if settings.on_gpu:
        assert 'too little free memory' in memory['engine says'], memory
        assert memory['memory free again'] == 'runs', memory
    lost = _in_process(_lose_device, settings)
    note('GPU lost', lost)
    if settings.on_gpu:
        assert lost['a call after it'] != 'runs', lost
    with Engine.load(EMBEDDED_BUNDLE, backend='torch') as engine:
        note('new process after both', f'runs on {engine.device}')


def _in_process(work: Callable[[Connection, str], None], settings: Settings) -> dict[str, str]:
    """Return what some work in a new process answers."""
    context = get_context('spawn')
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, settings.device.type), daemon=True)
    process.start()
    theirs.close()
    try:
        return _answers(ours, settings)
    finally:
        process.kill()
        process.join()


def _answers(ours: Connection, settings: Settings) -> dict[str, str]:
    """Return what comes until the process ends, by itself or by what the fault does to it."""
    found: dict[str, str] = {}
    while ours.poll(max(1.0, settings.left)):
        try:
            found.update([ours.recv()])
        except EOFError:
            return found
    raise TimeoutError(f'the process with the fault hangs; before, it said: {found}')


def _fill_memory(connection: Connection, device: str) -> None:
    """Take the GPU's memory, load, free it, load again."""
    held = _held() if device == 'cuda' else []
    connection.send(('engine says', _word(_load)))
    held.clear()
    if device == 'cuda':
        torch.cuda.empty_cache()
        connection.send(('memory free again', _word(_load)))


def _held() -> list[torch.Tensor]:
    """Take all memory but a little, in plain allocations."""
    held: list[torch.Tensor] = []
    for size in (1024 * _MIB, 64 * _MIB, 8 * _MIB, 2 * _MIB):
        try:
            while len(held) < 1000:
                held.append(torch.empty(size, dtype=torch.uint8, device='cuda'))
        except torch.OutOfMemoryError:
            continue
    return held


def _load() -> None:
    Engine.load(EMBEDDED_BUNDLE, backend='torch').close()


def _word(work: Callable[[], object]) -> str:
    """Return ``runs``, or the one line that a user would read."""
    try:
        work()
    except MultishiftError as error:
        return str(error)
    except Exception as error:
        return f'NOT IN WORDS: {type(error).__name__}: {" ".join(str(error).split())[:200]}'
    return 'runs'


def _lose_device(connection: Connection, device: str) -> None:
    """Spoil the context as a GPU that falls off the bus does: every later call fails."""
    engine = Engine.load(EMBEDDED_BUNDLE, backend='torch')
    frames = ProbeSet.load(EMBEDDED_BUNDLE / 'probe.npz').frames[0]
    for name, work in {
        'a call before': lambda: engine.infer(frames),
        'the fault': lambda: _spoil(device),
        'a call after it': lambda: engine.infer(frames),
        'closing the engine': engine.close,
        'loading again in that process': _load,
    }.items():
        connection.send((name, _word(work)))


def _spoil(device: str) -> None:
    beyond = torch.tensor([10**6], device=device)
    torch.zeros(4, device=device).index_select(0, beyond)  # an assertion on the GPU
    if device == 'cuda':
        torch.cuda.synchronize()
