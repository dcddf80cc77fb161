"""The backends by name: where each runs, when `auto` tries it, and what loads it.

Importing it loads none of their libraries: a machine needs only that of the backend it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Literal

from multishift_perception.engine.types import Backend

Place = Literal['gpu', 'cpu']


@dataclass(frozen=True)
class BackendEntry:
    """What is known of a backend before it is loaded.

    Attributes:
        loader: ``MODULE:CLASS`` of this package. The class takes the artifact's file and the
            device as PyTorch writes it (``cpu``, ``cuda:0``), and is a `Backend`.
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

BACKENDS: Mapping[str, BackendEntry] = MappingProxyType(
    {
        'tensorrt': BackendEntry('tensorrt_backend:TensorRtBackend', library='torch', gpu=1),
        'torch': BackendEntry('torch_backend:TorchBackend', library='torch', gpu=2, cpu=2),
        'openvino': BackendEntry('openvino_backend:OpenVinoBackend', library='openvino', cpu=1),
    }
)


def in_order() -> Iterator[tuple[str, Place]]:
    """Yield names of backends and where they run, in the order of `auto`, best first."""
    for place in _PLACES:
        ranks = {name: getattr(entry, place) for name, entry in BACKENDS.items()}
        found = [name for name, rank in ranks.items() if rank is not None]
        yield from ((name, place) for name in sorted(found, key=ranks.__getitem__))


def load(name: str, file: Path, device: str) -> Backend:
    """Load an artifact.

    Args:
        name: of the backend.
        file: the artifact.
        device: where it shall run, as PyTorch writes it: ``cpu``, ``cuda:0``.

    Raises:
        MultishiftError: the artifact is broken, or the device cannot run it.
    """
    loader = resolve_name(f'{__package__}.{BACKENDS[name].loader}')
    backend: Backend = loader(file, device)
    return backend
