# SPDX-License-Identifier: Apache-2.0
"""A GPU for tests where there is none: fakes at the edge, all arithmetic on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from multishift_perception.engine import (
    Engine,
    cuda_runner,
    cuda_slot,
    page_locked,
    selection,
    torch_backend,
)
from multishift_perception.engine.gpu import Gpu


class Tape(TorchDispatchMode):
    """Repeats operations that it has seen, on the same tensors, as a CUDA graph does."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self._seen.append((func, args, kwargs or {}, result))
        return result

    def repeat(self) -> None:
        for func, args, kwargs, result in self._seen:
            fresh = func(*args, **kwargs)
            if isinstance(result, Tensor) and fresh.data_ptr() != result.data_ptr():
                result.copy_(fresh)


class Transfers(TorchDispatchMode):
    """Notes the copies that need not be waited for."""

    def __init__(self, cuda: FakeCuda) -> None:
        super().__init__()
        self._cuda = cuda

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.copy_.default and (*args, False)[2]:
            target, source = args[:2]
            ways = {'upload': source, 'download': target}
            (way,) = (w for w, here in ways.items() if here.data_ptr() in self._cuda.locked)
            self._cuda.log.append((way, tuple(target.shape)))
        return func(*args, **(kwargs or {}))


class FakeCuda:
    """Stands for `torch.cuda`.

    Attributes:
        log: what was done, in order: pairs of a word and what it was done with.
        capture_error: what a capture raises.
        emptied: how often unused memory was given back.
        streams: those that were made, in order.
        used: those that work was put on, in order.
        captured_on: that of each capture.
    """

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self.locked: dict[int, Tensor] = {}
        self.capture_error: Exception | None = None
        self.emptied = 0
        self.streams: list[Any] = []
        self.used: list[Any] = []
        self.captured_on: list[Any] = []

    def Stream(self, device):
        self.streams.append(
            SimpleNamespace(synchronize=lambda: self.log.append(('wait', 'stream')))
        )
        return self.streams[-1]

    def stream(self, stream):
        self.used.append(stream)
        return Transfers(self)

    def device(self, device):
        return nullcontext()

    def synchronize(self, device):
        self.log.append(('wait', 'device'))

    def empty_cache(self):
        self.emptied += 1

    def graph_pool_handle(self):
        return 0, 1

    def CUDAGraph(self):
        tape = Tape()
        return SimpleNamespace(tape=tape, replay=lambda: self._replay(tape))

    @contextmanager
    def graph(self, graph, stream, pool):
        if self.capture_error:
            raise self.capture_error
        with graph.tape:
            yield
        self.log.append(('capture', pool))
        self.captured_on.append(stream)

    def Event(self, enable_timing):
        return SimpleNamespace(record=lambda: None, elapsed_time=lambda end: 2.0)

    def pinned(self, shape, dtype):
        here = torch.empty(shape, dtype=dtype)
        self.locked[here.data_ptr()] = here
        self.log.append(('lock', tuple(shape)))
        return here

    def count(self, word: str) -> int:
        """Return how often something was done."""
        return sum(done == word for done, _ in self.log)

    def _replay(self, tape: Tape) -> None:
        self.log.append(('replay', ''))
        tape.repeat()


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    names = 'Stream stream device synchronize empty_cache graph_pool_handle CUDAGraph graph Event'
    for name in names.split():
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    for module in (page_locked, cuda_runner, cuda_slot):
        monkeypatch.setattr(module, 'pinned', fake.pinned)
    return fake


@pytest.fixture
def load_on_gpu(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Path], Engine]]:
    """Return what loads the `torch` artifact of a bundle to a GPU that is none."""
    runner = cuda_runner.CudaRunner

    def on_cpu(network, shape, device, steps):
        return runner(network, shape, torch.device('cpu'), steps)

    monkeypatch.setattr(selection, 'find_gpu', lambda index: Gpu('NVIDIA L4', '8.9'))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch_backend, 'move_to_device_pass', lambda program, device: program)
    monkeypatch.setattr(cuda_runner, 'CudaRunner', on_cpu)
    loaded: list[Engine] = []

    def load(bundle: Path) -> Engine:
        loaded.append(Engine.load(bundle, backend='torch'))
        return loaded[-1]

    yield load
    for engine in loaded:
        engine.close()
