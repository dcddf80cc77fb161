# SPDX-License-Identifier: Apache-2.0
"""Loading a bundle: verify it, choose the artifact, prove it, run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
import logging
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import SemanticClass
from multishift_perception.engine.backends import load, set_threads
from multishift_perception.engine.look import Look
from multishift_perception.engine.manifest import MANIFEST, Manifest, read_manifest
from multishift_perception.engine.probe import ProbeSet, Proof
from multishift_perception.engine.recalibrated import Recalibrated
from multishift_perception.engine.selection import Choice, all_sizes, choose
from multishift_perception.engine.types import (
    Backend,
    EngineOutput,
    Parts,
    PictureCall,
    takes_pictures,
)
from multishift_perception.errors import MultishiftError
from multishift_perception.files import sha256

logger = logging.getLogger(__name__)

EMBEDDED_BUNDLE = Path(__file__).parent.parent / 'data' / 'embedded_engine'


class Engine:
    """A verified bundle with one of its artifacts loaded, or one for each size of a call.

    Attributes:
        manifest: the bundle's manifest.
        name: the bundle's directory name.
        digest: SHA-256 of the manifest, which itself holds every other file's hash.
        backend: name of the backend that runs.
        device: where it runs, as PyTorch writes it: ``cpu``, ``cuda:0``.
        batches: how many frames a call may have, ascending.
        look: how the images look that the network knows; None where the bundle does not tell.
        takes_pictures: whether pictures are shrunk and outputs enlarged where the network runs, on
            a GPU.
        around_call: makes the context that every call runs in, for who measures them.
    """

    def __init__(
        self, bundle: Path, manifest: Manifest, choice: Choice, running: Mapping[int, Backend]
    ) -> None:
        """Use ``Engine.load``."""
        self.manifest = manifest
        self.name = bundle.name
        self.digest = sha256(bundle / MANIFEST)
        self.backend = choice.artifact.backend
        self.device = choice.device
        self.batches = tuple(running)
        entry = manifest.look
        self.look = None if entry is None else Look.load(bundle / entry.file)
        self.around_call: Callable[[], AbstractContextManager[object]] = nullcontext
        self.takes_pictures = all(takes_pictures(backend) for backend in running.values())
        self._running = running

    @classmethod
    def load(
        cls,
        bundle: Path | str | None,
        *,
        backend: str = 'auto',
        device: int = 0,
        threads: int = 0,
    ) -> Engine:
        """Verify a bundle, load an artifact, warm it up, and run the probe frames through it.

        Args:
            bundle: directory of the bundle; None takes the embedded engine.
            backend: ``auto`` or one of the bundle's backends.
            device: index of the GPU, where the backend uses one.
            threads: how many compute on the CPU; 0: as many as the backend's library takes.

        Raises:
            MultishiftError: anything missing, changed, unfit for this machine, or wrong in its
                results; the message names it and the mend.
        """
        # Of a link that leads to itself, pathlib raises before Python 3.13.
        bundle = Path(os.path.realpath(EMBEDDED_BUNDLE if bundle is None else bundle))
        manifest = read_manifest(bundle)
        for fault in file_faults(bundle, manifest.hashes):
            raise MultishiftError(fault)
        choice = choose(bundle, manifest, backend, device)
        set_threads(choice.artifact.backend, threads)
        running: dict[int, Backend] = {}
        opened: dict[str, Backend] = {}
        try:
            for batch, sized in all_sizes(manifest, choice, device).items():
                file = sized.artifact.file
                if file not in opened:
                    opened[file] = open_artifact(bundle, manifest, sized)
                    prove(bundle, manifest, sized, opened[file])
                running[batch] = opened[file]
        except BaseException:
            for backend_of_file in opened.values():
                backend_of_file.close()
            raise
        engine = cls(bundle, manifest, choice, running)
        logger.info(
            'engine %s: %s; pictures are shrunk on %s', bundle.name, choice, engine.shrinks_on
        )
        return engine

    @property
    def classes(self) -> tuple[SemanticClass, ...]:
        """The known classes, in order of their label values."""
        return self.manifest.semantic_classes

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Frames of the largest call, height and width in pixels."""
        shape = self.manifest.input
        return self.batches[-1], shape.height, shape.width

    def call_size(self, waiting: int) -> int:
        """Return how many frames the next call has where so many wait: the most that fill it.

        It is more than wait only where the engine takes no fewer.
        """
        return max((n for n in self.batches if n <= waiting), default=self.batches[0])

    def infer(self, frames: NDArray[np.uint8]) -> EngineOutput:
        """Run RGB frames ``uint8 [N,H,W,3]``, N any of ``batches``, of the engine's size."""
        _, height, width = self.input_shape
        running = self._running.get(len(frames))
        if running is None or frames.shape[1:] != (height, width, 3) or frames.dtype != np.uint8:
            batches = ' or '.join(map(str, self.batches))
            raise ValueError(
                f'frames are {frames.dtype} {frames.shape}, not uint8 '
                f'({batches}, {height}, {width}, 3)'
            )
        with self.around_call():
            return running.run(frames)

    @property
    def shrinks_on(self) -> str:
        """Where pictures are shrunk and outputs enlarged, as PyTorch writes it."""
        return self.device if self.takes_pictures else 'cpu'

    def run_pictures(
        self,
        calls: Sequence[PictureCall],
        batch: int,
        stages: dict[str, float] | None = None,
    ) -> list[Parts]:
        """Run pictures of any size, where the engine ``takes_pictures``.

        Args:
            calls: the pictures, at most ``batch``, and what is wanted of each.
            batch: frames of the call, any of ``batches``.
            stages: gets the seconds of each stage of the call.

        Returns:
            Of each picture what is wanted: see `PictureBackend`.
        """
        running = self._running[batch]
        assert takes_pictures(running)
        _, height, width = self.input_shape
        with self.around_call():
            return running.run_pictures(calls, (batch, height, width), stages)

    def close(self) -> None:
        """Free what the artifact holds on its device, once; the engine cannot run afterwards."""
        held, self._running = self._running, {}
        for running in {id(backend): backend for backend in held.values()}.values():
            running.close()

    def __enter__(self) -> Engine:
        """Return the engine itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine."""
        self.close()


def file_faults(bundle: Path, hashes: Mapping[str, str]) -> Iterator[str]:
    """Yield what is missing or changed of a bundle's files, one line each."""
    for name, expected in hashes.items():
        path = bundle / name
        if not path.is_file():
            yield f'{path} is missing: copy the whole bundle again'
        elif (found := sha256(path)) != expected:
            yield (
                f'{path} has SHA-256 {found[:12]}..., its manifest says {expected[:12]}...: '
                'copy the whole bundle again, or build it again'
            )


def open_artifact(bundle: Path, manifest: Manifest, choice: Choice) -> Backend:
    """Load the chosen artifact, calibrated as the manifest says.

    Raises:
        MultishiftError: it is broken.
    """
    running = load(choice.artifact.backend, bundle / choice.artifact.file, choice.device)
    if manifest.compiled_calibration is None:
        return running
    if takes_pictures(running):
        running.recalibrate(manifest.calibration.steps())
        return running
    return Recalibrated(running, manifest.calibration)


def prove(bundle: Path, manifest: Manifest, choice: Choice, running: Backend) -> Proof:
    """Run the probe frames in calls of each size, which warms them up, and compare the outputs.

    Raises:
        MultishiftError: the outputs differ by more than the bounds, or the manifest speaks of
            others.
    """
    probe = ProbeSet.load(bundle / manifest.probe.file)
    shape = manifest.input
    stated, found = (shape.batch, shape.height, shape.width, 3), probe.frames.shape[1:]
    if stated != found:
        raise MultishiftError(
            f'{bundle / MANIFEST} has an input of {_by(stated)}, and its probe frames are of '
            f'{_by(found)}: build the bundle again'
        )
    if manifest.confidence != bool(probe.confidence.size):
        said, gives = ('true', 'none') if manifest.confidence else ('false', 'one')
        raise MultishiftError(
            f'{bundle / MANIFEST} has confidence: {said}, and the graph that its probe frames '
            f'were run through gives {gives}: build the bundle again'
        )
    artifact = choice.artifact
    file = bundle / artifact.file
    batches = manifest.batches(artifact)
    return probe.prove(running, manifest.calibration, file, artifact.precision, batches)


def _by(shape: Sequence[int]) -> str:
    return ' x '.join(map(str, shape))
