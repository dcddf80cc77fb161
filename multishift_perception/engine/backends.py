# SPDX-License-Identifier: Apache-2.0
"""The backends by name: where each runs, when `auto` tries it, and what loads it.

Importing it loads none of their libraries: a machine needs only that of the backend it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Literal

from pydantic import AfterValidator

from multishift_perception.engine.types import Backend
from multishift_perception.registry import Registry
from multishift_perception.schema.words import Words, check_name, one_of

Place = Literal['gpu', 'cpu']


@dataclass(frozen=True)
class BackendEntry:
    """What is known of a backend before it is loaded.

    Attributes:
        loader: ``MODULE:CLASS``, imported when an artifact is loaded. The class takes the
            artifact's file and the device as PyTorch writes it (``cpu``, ``cuda:0``), and is a
            `Backend`.
        library: Python module that it needs, which pip knows by the same name.
        gpu: its rank among the backends that run on a GPU, the lowest is tried first; None where
            it runs on none.
        cpu: the same of those that run on the CPU.
    """

    loader: str
    library: str
    gpu: int | None = None
    cpu: int | None = None


# A GPU that fits is faster than the CPU, whatever the backend: all that run on one come first.
_PLACES: tuple[Place, ...] = ('gpu', 'cpu')


def register(name: str, entry: BackendEntry) -> None:
    """Let bundles hold artifacts of a backend from now on.

    Raises:
        TypeError: its name is taken, or the entry lacks something.
    """
    if not isinstance(entry, BackendEntry):
        raise TypeError(f'backend {name} is {entry!r}, no BackendEntry')
    if ':' not in entry.loader:
        raise TypeError(f'backend {name}: its loader is {entry.loader!r}, not MODULE:CLASS')
    if entry.gpu is None and entry.cpu is None:
        raise TypeError(f'backend {name} runs nowhere: give it a rank, gpu or cpu')
    BACKENDS.add(name, entry)


BACKENDS: Registry[BackendEntry] = Registry('backend', 'multishift.backends', register)
_ROOM = __package__
register('tensorrt', BackendEntry(f'{_ROOM}.tensorrt_backend:TensorRtBackend', 'torch', gpu=1))
register('torch', BackendEntry(f'{_ROOM}.torch_backend:TorchBackend', 'torch', gpu=2, cpu=2))
register('openvino', BackendEntry(f'{_ROOM}.openvino_backend:OpenVinoBackend', 'openvino', cpu=1))


BackendName = Annotated[
    str,
    AfterValidator(lambda name: check_name(name, 'backend', BACKENDS)),
    Words(lambda: one_of(list(BACKENDS))),
]


def in_order() -> Iterator[tuple[str, Place]]:
    """Yield names of backends and where they run, in the order of `auto`, best first."""
    for place in _PLACES:
        ranks = {name: getattr(entry, place) for name, entry in BACKENDS.items()}
        found = [name for name, rank in ranks.items() if rank is not None]
        yield from ((name, place) for name in sorted(found, key=ranks.__getitem__))


def set_threads(name: str, count: int) -> None:
    """Have a backend's library compute on the CPU with so many threads, in the whole process.

    Backends without a ``set_threads`` of their own are left as they are.

    Args:
        name: of the backend.
        count: of threads; 0: as many as the library takes by itself.
    """
    setter = getattr(resolve_name(BACKENDS[name].loader), 'set_threads', None)
    if setter is not None:
        setter(count)


def load(name: str, file: Path, device: str) -> Backend:
    """Load an artifact.

    Args:
        name: of the backend.
        file: the artifact.
        device: where it shall run, as PyTorch writes it: ``cpu``, ``cuda:0``.

    Raises:
        MultishiftError: the artifact is broken, or the device cannot run it.
    """
    loader = resolve_name(BACKENDS[name].loader)
    backend: Backend = loader(file, device)
    return backend
