# SPDX-License-Identifier: Apache-2.0
"""Which artifact of a bundle this machine runs, and where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import importlib
import importlib.util
import logging
from pathlib import Path
import platform
import sys
from typing import NamedTuple

from multishift_perception.engine.backends import BACKENDS, Place, in_order
from multishift_perception.engine.gpu import Gpu, find_gpu
from multishift_perception.engine.manifest import Artifact, Manifest, TensorRtNeeds
from multishift_perception.errors import MultishiftError, one_line

logger = logging.getLogger(__name__)

_LIBRARY = {'tensorrt': 'TensorRT', 'tensorrt_rtx': 'TensorRT for RTX'}
# Either brings the Python module torch_tensorrt; only one of them can be installed.
_PACKAGE = {'tensorrt': 'torch-tensorrt', 'tensorrt_rtx': 'torch-tensorrt-rtx'}


class Choice(NamedTuple):
    """An artifact and where it runs.

    Attributes:
        artifact: of the bundle.
        device: as PyTorch writes it: ``cpu``, ``cuda:0``.
        obstacles: what came before it in the order, and why it cannot run here.
    """

    artifact: Artifact
    device: str
    obstacles: tuple[str, ...]

    def __str__(self) -> str:
        """Say in words what was chosen, and why."""
        chosen = f'backend {self.artifact.backend} on {self.device} ({self.artifact.file})'
        if not self.obstacles:
            return f'{chosen}, the first in order'
        return f'{chosen}, the first in order that fits; {"; ".join(self.obstacles)}'


def choose(bundle: Path, manifest: Manifest, backend: str = 'auto', device: int = 0) -> Choice:
    """Return the first artifact in the order of `auto` that this machine can run.

    Args:
        bundle: for the error.
        manifest: of the bundle.
        backend: ``auto``, or the one backend to choose among.
        device: index of the GPU.

    Raises:
        MultishiftError: the bundle has no such artifact, or none fits; with every reason.
    """
    check_offered(bundle, manifest, backend)
    obstacles: list[str] = []
    offered = [a for a in manifest.artifacts if backend in ('auto', a.backend)]
    for artifact, where, reason in _tries(offered, device):
        if reason is None:
            return Choice(artifact, where, tuple(obstacles))
        obstacles.append(f'{artifact.file} {reason}')
    what = 'nothing' if backend == 'auto' else f'nothing for backend {backend!r}'
    raise MultishiftError(f'{what} in {bundle} runs on this machine; {"; ".join(obstacles)}')


def place(artifact: Artifact, device: int = 0) -> Choice:
    """Return where one artifact runs best; raises MultishiftError where it cannot run."""
    obstacles: list[str] = []
    for _, where, reason in _tries([artifact], device):
        if reason is None:
            return Choice(artifact, where, tuple(obstacles))
        obstacles.append(reason)
    raise MultishiftError('; '.join(obstacles))


def all_sizes(manifest: Manifest, chosen: Choice, device: int = 0) -> dict[int, Choice]:
    """Return what runs the calls of each size: the chosen artifact, and those beside it.

    Args:
        manifest: of the bundle.
        chosen: of `choose`.
        device: index of the GPU.

    Returns:
        By frames per call, ascending: artifacts of the chosen one's backend and precision that fit
        the same place.
    """
    place: Place = 'cpu' if chosen.device == 'cpu' else 'gpu'
    found = dict.fromkeys(manifest.batches(chosen.artifact), chosen)
    for artifact in manifest.artifacts:
        same = chosen.artifact.backend, chosen.artifact.precision
        if (artifact.backend, artifact.precision) != same or artifact == chosen.artifact:
            continue
        if missing := [n for n in manifest.batches(artifact) if n not in found]:
            if obstacle(artifact, place, device) is None:
                found |= dict.fromkeys(missing, Choice(artifact, chosen.device, ()))
    return dict(sorted(found.items()))


def _tries(
    artifacts: Sequence[Artifact], device: int
) -> Iterator[tuple[Artifact, str, str | None]]:
    """Yield artifacts in the order of `auto`, each with a device and why it cannot run there."""
    for name, place in in_order():
        where = f'cuda:{device}' if place == 'gpu' else 'cpu'
        for artifact in artifacts:
            if artifact.backend == name:
                reason = obstacle(artifact, place, device)
                logger.debug('%s on %s: %s', artifact.file, where, reason or 'fits')
                yield artifact, where, reason and f'cannot run on the {place.upper()}: {reason}'


def check_offered(bundle: Path, manifest: Manifest, backend: str) -> None:
    """Raise MultishiftError where a bundle has no artifact of a backend, which may be ``auto``."""
    offered = sorted({a.backend for a in manifest.artifacts})
    if backend not in ('auto', *offered):
        raise MultishiftError(
            f'{bundle} has no artifact for backend {backend!r}: choose auto or one of {offered}, '
            f'or build it with `multishift engine build CHECKPOINT --target {backend}`'
        )


def obstacle(artifact: Artifact, place: Place, device: int) -> str | None:
    """Say why an artifact cannot run at a place of this machine, with the mend; None if it can."""
    library = BACKENDS[artifact.backend].library
    if place == 'cpu':
        return _missing(library)
    try:
        gpu = find_gpu(device)
    except MultishiftError as error:
        return str(error)
    if reason := _missing(library):
        return reason
    if (needs := artifact.tensorrt) is None:
        return _cuda_fault(gpu)
    return _misfit(needs, gpu) or _cuda_fault(gpu) or _library_fault(needs)


def _missing(library: str) -> str | None:
    if importlib.util.find_spec(library) is None:
        return f'{library} is not installed: pip install {library}'
    return None


def _misfit(needs: TensorRtNeeds, gpu: Gpu) -> str | None:
    """Compare host and GPU."""
    host = f'{sys.platform}_{platform.machine()}'
    if needs.platform != host:
        return f'it is built for {needs.platform}, this machine is {host}: {_build(needs, gpu)}'
    if needs.compute_capability != gpu.compute_capability:
        return (
            f'it is built for compute capability {needs.compute_capability}, {gpu.name} has '
            f'{gpu.compute_capability}: {_build(needs, gpu)}'
        )
    if needs.gpu not in (None, gpu.name):
        return f'it is built for {needs.gpu}, this GPU is {gpu.name}: {_build(needs, gpu)}'
    return None


def _library_fault(needs: TensorRtNeeds) -> str | None:
    """Compare libraries; they load only where host and GPU fit."""
    library = _LIBRARY[needs.flavour]
    try:
        # Each flavour's Python module is named like the flavour.
        version = importlib.import_module(needs.flavour).__version__
        is_rtx = importlib.import_module('torch_tensorrt').ENABLED_FEATURES.tensorrt_rtx
    except (ImportError, OSError) as error:
        reason = one_line(error)
        return f'{library} does not load ({reason}): pip install {_PACKAGE[needs.flavour]}'
    found = '.'.join(version.split('.')[:3])
    if found != needs.version:
        return (
            f'it is built by {library} {needs.version}, this machine has {found}: '
            f'{_build(needs, None)}, or install version {needs.version}'
        )
    if is_rtx != (needs.flavour == 'tensorrt_rtx'):
        other = 'tensorrt_rtx' if is_rtx else 'tensorrt'
        return (
            f'it is built by {library}, the installed torch_tensorrt is for {_LIBRARY[other]}: '
            f'pip uninstall {_PACKAGE[other]}; pip install {_PACKAGE[needs.flavour]}'
        )
    return None


def _build(needs: TensorRtNeeds, gpu: Gpu | None) -> str:
    """Return the command that builds the fitting artifact."""
    if needs.flavour == 'tensorrt':
        return 'on this machine run `multishift engine build CHECKPOINT --target tensorrt`'
    capability = gpu.compute_capability if gpu else needs.compute_capability
    return (
        'run `multishift engine build CHECKPOINT --target tensorrt-rtx '
        f'--compute-capability {capability}`'
    )


def _cuda_fault(gpu: Gpu) -> str | None:
    import torch

    if torch.cuda.is_available():
        return None
    return (
        f'PyTorch {torch.__version__} does not use {gpu.name}: '
        'install a build of torch for the CUDA version of its driver'
    )
