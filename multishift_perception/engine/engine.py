"""Loading a bundle: verify it, choose the artifact, prove it, run it."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import SemanticClass
from multishift_perception.engine.manifest import MANIFEST, Artifact, Manifest, read_manifest
from multishift_perception.engine.probe import ProbeSet, check_parity
from multishift_perception.engine.types import Backend, EngineOutput
from multishift_perception.errors import MultishiftError
from multishift_perception.files import sha256

logger = logging.getLogger(__name__)

EMBEDDED_BUNDLE = Path(__file__).parent.parent / 'data' / 'embedded_engine'

# Best first.
BACKENDS = ('tensorrt', 'openvino', 'torch')


class Engine:
    """A verified bundle with one of its artifacts loaded.

    Attributes:
        manifest: the bundle's manifest.
        name: the bundle's directory name.
        digest: SHA-256 of the manifest, which itself holds every other file's hash.
        backend: name of the backend that runs.
    """

    def __init__(self, bundle: Path, manifest: Manifest, backend: str, running: Backend) -> None:
        """Use ``Engine.load``."""
        self.manifest = manifest
        self.name = bundle.name
        self.digest = sha256(bundle / MANIFEST)
        self.backend = backend
        self._running = running

    @classmethod
    def load(cls, bundle: Path | None, *, backend: str = 'auto', device: int = 0) -> Engine:
        """Verify a bundle, load an artifact, and run the probe frames through it.

        Args:
            bundle: directory of the bundle; None takes the embedded engine.
            backend: ``auto`` or one of the bundle's backends.
            device: index of the GPU, where the backend uses one.

        Raises:
            MultishiftError: anything missing, changed, unfit for this machine, or wrong in its
                results; the message names it and the mend.
        """
        bundle = (EMBEDDED_BUNDLE if bundle is None else bundle).resolve()
        manifest = read_manifest(bundle)
        _verify_files(bundle, manifest)
        artifact = _choose(bundle, manifest, backend)
        running = _open(bundle / artifact.file, artifact, device)
        probe = ProbeSet.load(bundle / manifest.probe.file)
        check_parity(probe, probe.measure(running), bundle / artifact.file)
        logger.info('engine %s: backend %s', bundle.name, artifact.backend)
        return cls(bundle, manifest, artifact.backend, running)

    @property
    def classes(self) -> tuple[SemanticClass, ...]:
        """The known classes, in order of their label values."""
        return self.manifest.semantic_classes

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Frames per call, height and width in pixels."""
        shape = self.manifest.input
        return shape.batch, shape.height, shape.width

    def infer(self, frames: NDArray[np.uint8]) -> EngineOutput:
        """Run a batch of RGB frames ``uint8 [N,H,W,3]`` of exactly ``input_shape``."""
        expected = (*self.input_shape, 3)
        if frames.shape != expected or frames.dtype != np.uint8:
            raise ValueError(f'frames are {frames.dtype} {frames.shape}, not uint8 {expected}')
        return self._running.run(frames)

    def close(self) -> None:
        """Free what the artifact holds on its device; the engine cannot run afterwards."""
        self._running.close()

    def __enter__(self) -> Engine:
        """Return the engine itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine."""
        self.close()


def _verify_files(bundle: Path, manifest: Manifest) -> None:
    for name, expected in manifest.hashes.items():
        path = bundle / name
        if not path.is_file():
            raise MultishiftError(f'{path} is missing: copy the whole bundle again')
        found = sha256(path)
        if found != expected:
            raise MultishiftError(
                f'{path} has SHA-256 {found[:12]}..., its manifest says {expected[:12]}...: '
                'copy the whole bundle again, or build it again'
            )


def _choose(bundle: Path, manifest: Manifest, backend: str) -> Artifact:
    """Return the artifact to run; with ``auto`` the best that fits, with the reason in the log."""
    offered = [name for name in BACKENDS if manifest.artifact(name)]
    if backend == 'auto':
        fitting = [name for name in offered if not _obstacle(name)]
        if not fitting:
            obstacles = '; '.join(f'{name}: {_obstacle(name)}' for name in offered)
            raise MultishiftError(f'no artifact of {bundle} runs on this machine ({obstacles})')
        logger.info('of %s, %s is the best that fits this machine', offered, fitting[0])
        backend = fitting[0]
    artifact = manifest.artifact(backend)
    if artifact is None:
        raise MultishiftError(
            f'{bundle} has no artifact for backend {backend!r}: choose auto or one of {offered}, '
            f'or build it with `multishift engine build --target {backend}`'
        )
    if obstacle := _obstacle(backend):
        raise MultishiftError(f'backend {backend!r} cannot run here: {obstacle}')
    return artifact


def _obstacle(backend: str) -> str | None:
    """Say why a backend cannot run on this machine, with the mend; None where it can."""
    if backend == 'tensorrt':
        return 'this version of multishift_perception has no TensorRT runtime: use openvino'
    if importlib.util.find_spec(backend) is None:
        return f'{backend} is not installed: pip install {backend}'
    return None


def _open(file: Path, artifact: Artifact, device: int) -> Backend:
    # Imported here so that a machine needs only the library of the backend it runs.
    if artifact.backend == 'openvino':
        from multishift_perception.engine.openvino_backend import OpenVinoBackend

        return OpenVinoBackend(file)
    import torch

    from multishift_perception.engine.torch_backend import TorchBackend

    cuda = torch.cuda.is_available()
    return TorchBackend(file, torch.device('cuda', device) if cuda else torch.device('cpu'))
