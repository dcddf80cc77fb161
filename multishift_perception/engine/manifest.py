# SPDX-License-Identifier: Apache-2.0
"""The manifest of an engine bundle: its schema, and reading and writing it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationInfo,
    field_validator,
    model_validator,
)
import yaml

from multishift_perception.arrays import Bytes
from multishift_perception.classes import SemanticClass
from multishift_perception.engine.backends import BackendName
from multishift_perception.errors import MultishiftError
from multishift_perception.files import write_text
from multishift_perception.schema.yaml_files import read_document

MANIFEST = 'manifest.yaml'
SCHEMA_VERSION = 1

Sha256 = Annotated[str, Field(pattern='^[0-9a-f]{64}$')]
# A name inside the bundle: no folder, so that no manifest reaches outside its own directory.
FileName = Annotated[str, Field(pattern=r'^[A-Za-z0-9_][A-Za-z0-9_.-]*$')]
Byte = Annotated[int, Field(ge=0, le=255)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra='forbid', frozen=True)


class ClassEntry(_Strict):
    """A known class; its position in the list is its label value."""

    name: str
    color: tuple[Byte, Byte, Byte]


class InputShape(_Strict):
    """Shape of the engine's input.

    Attributes:
        batch: frames of a probe call, and the least that an engine call takes.
        height: rows of a frame.
        width: columns of a frame.
    """

    batch: int = Field(ge=1)
    height: int = Field(ge=8)
    width: int = Field(ge=8)


class Calibration(_Strict):
    """The monotone map from raw score to anomaly (0..255), piecewise linear between its knots.

    Attributes:
        knots: pairs (score, anomaly), both increasing; scores outside are clamped.
        operating_point: the raw score that maps to 128, not outside the knots.
        rule: how the operating point was chosen, in words.
        dataset: what it was fitted on, in words.
    """

    knots: list[tuple[FiniteFloat, FiniteFloat]] = Field(min_length=2)
    operating_point: FiniteFloat
    rule: str
    dataset: str

    @field_validator('operating_point')
    @classmethod
    def _within_the_knots(cls, point: float, info: ValidationInfo) -> float:
        knots = info.data.get('knots')  # absent where they are at fault themselves
        if knots and not knots[0][0] <= point <= knots[-1][0]:
            ends = f'{knots[0][0]:g} to {knots[-1][0]:g}'
            raise ValueError(f'{point:g} lies outside the knots, {ends}')
        return point

    @model_validator(mode='after')
    def _increasing(self) -> Calibration:
        for (score, anomaly), (next_score, next_anomaly) in pairwise(self.knots):
            if next_score <= score or next_anomaly < anomaly:
                raise ValueError('knots must increase')
        if self.knots[0][1] < 0 or self.knots[-1][1] > 255:
            raise ValueError('knots must lie in 0..255')
        return self

    def anomaly(self, score: NDArray[np.float32]) -> Bytes:
        """Return the anomaly ``uint8`` of raw scores of any shape, as the deploy graph does."""
        scores, anomalies = zip(*self.knots, strict=True)
        # The sum is as there: float sums may end a hair below the integer that they stand for.
        return np.asarray(np.interp(score, scores, anomalies) + 1e-3).astype(np.uint8)

    def steps(self) -> NDArray[np.float32]:
        """Return the least score of each anomaly from 1 to 255, ``[255]``, infinite if of none.

        So many of them as a score reaches are its anomaly: what is cheap where `anomaly` is not.
        """
        levels = np.arange(1, 256)
        ends = np.array([self.knots[0][0], self.knots[-1][0]], np.float32)
        # Beyond its ends the map is flat. Between them, by halves, over the floats in order.
        below: NDArray[np.int64]
        reached: NDArray[np.int64]
        below, reached = (
            np.full(255, end, np.int64)
            for end in _rank(np.nextafter(ends, np.array([-np.inf, np.inf], np.float32)))
        )
        first, last = self.anomaly(_float(below[:1])), self.anomaly(_float(reached[:1]))
        while (reached - below > 1).any():
            middle = (below + reached) // 2
            is_reached = self.anomaly(_float(middle)) >= levels
            reached = np.where(is_reached, middle, reached)
            below = np.where(is_reached, below, middle)
        steps = _float(reached)
        steps[levels <= first], steps[levels > last] = -np.inf, np.inf
        return steps


def _rank(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return integers in the order of the floats, next to each other where these are."""
    bits = values.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _float(ranks: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the floats of `_rank`."""
    return np.where(ranks < 0, -ranks | 0x80000000, ranks).astype(np.uint32).view(np.float32)


class Parity(_Strict):
    """Largest difference of an artifact from the eager model on the probe frames.

    Attributes:
        label_agreement: share of pixels with the same label, 0..1.
        score_error: largest absolute difference of the raw score.
    """

    label_agreement: float = Field(ge=0, le=1)
    score_error: float = Field(ge=0)


class TensorRtNeeds(_Strict):
    """The machine that a serialized TensorRT engine runs on, and no other.

    Attributes:
        flavour: which library reads it: TensorRT, or TensorRT for RTX, which takes one engine
            to any GPU of the compute capability.
        version: the library that built it; it must be the very one that loads it.
        compute_capability: of the GPU, for example ``8.9``.
        platform: the host's operating system and processor.
        gpu: name of the GPU, where the engine fits that model only.
    """

    flavour: Literal['tensorrt', 'tensorrt_rtx']
    version: Annotated[str, Field(pattern=r'^\d+\.\d+\.\d+$')]
    compute_capability: Annotated[str, Field(pattern=r'^\d+\.\d$')]
    platform: Literal['linux_x86_64', 'linux_aarch64']
    gpu: str | None = None

    @model_validator(mode='after')
    def _named_gpu(self) -> TensorRtNeeds:
        if (self.flavour == 'tensorrt') != (self.gpu is not None):
            raise ValueError('gpu belongs to flavour tensorrt, and to no other')
        return self


class Artifact(_Strict):
    """One compiled form of the deploy graph.

    Attributes:
        batches: how many frames its calls may take, ascending; ``input.batch`` alone where the
            manifest says nothing.
        companions: further files the artifact consists of, by name, with their SHA-256.
        needs: what the machine must have, in words, for example ``{'device': 'any CPU'}``.
        tensorrt: what it must have, to be compared; of backend ``tensorrt``, and of no other.
        parity: None where the building machine could not run the artifact; `multishift engine
            verify` fills it on one that can.
    """

    backend: BackendName
    file: FileName
    sha256: Sha256
    batches: list[Annotated[int, Field(ge=1)]] = []
    companions: dict[FileName, Sha256] = {}
    precision: Literal['fp32', 'fp16', 'bf16', 'int8', 'fp8']
    needs: dict[str, str]
    tensorrt: TensorRtNeeds | None = None
    parity: Parity | None

    @model_validator(mode='after')
    def _typed_needs(self) -> Artifact:
        if (self.backend == 'tensorrt') != (self.tensorrt is not None):
            raise ValueError('tensorrt belongs to backend tensorrt, and to no other')
        if self.parity is None and self.tensorrt is None:
            raise ValueError(f'parity is missing for backend {self.backend}, which runs anywhere')
        return self


class Probe(_Strict):
    """Stored frames with the eager model's outputs, run after every load."""

    file: FileName
    sha256: Sha256


class LookEntry(_Strict):
    """Statistics of how images look, see `Look`.

    Attributes:
        dataset: what they were fitted on, in words.
    """

    file: FileName
    sha256: Sha256
    dataset: str


class Manifest(_Strict):
    """All that is known of a bundle without running it.

    Attributes:
        calibration: of the anomaly that the engine gives.
        compiled_calibration: that the artifacts hold, where ``calibration`` was set after they
            were built; the engine then computes the anomaly of the raw score, itself.
        look: how the images look that the network knows; None where nothing tells.
        confidence: whether the artifacts give the probability of each label; those of bundles
            that were built before they could do not.
    """

    schema_version: Literal[1]
    model: str
    method: str
    classes: list[ClassEntry] = Field(min_length=1, max_length=254)
    input: InputShape
    calibration: Calibration
    compiled_calibration: Calibration | None = None
    artifacts: list[Artifact] = Field(min_length=1)
    probe: Probe
    look: LookEntry | None = None
    confidence: bool = False
    provenance: dict[str, Any]

    @property
    def semantic_classes(self) -> tuple[SemanticClass, ...]:
        """The known classes, in order of their label values."""
        return tuple(SemanticClass(c.name, c.color) for c in self.classes)

    def batches(self, artifact: Artifact) -> tuple[int, ...]:
        """Return how many frames an artifact's calls may take, ascending."""
        return tuple(sorted(artifact.batches)) or (self.input.batch,)

    @property
    def hashes(self) -> dict[str, str]:
        """Every file of the bundle with the SHA-256 it must have."""
        hashes = {self.probe.file: self.probe.sha256}
        for artifact in self.artifacts:
            hashes[artifact.file] = artifact.sha256
            hashes.update(artifact.companions)
        if self.look is not None:
            hashes[self.look.file] = self.look.sha256
        return hashes

    def artifact(self, backend: str) -> Artifact | None:
        """Return the artifact for a backend, or None where the bundle has none."""
        return next((a for a in self.artifacts if a.backend == backend), None)


def read_manifest(bundle: Path) -> Manifest:
    """Read and validate the manifest of a bundle directory.

    Raises:
        MultishiftError: the directory or its manifest is missing, is no YAML, or breaks the
            schema; the message names the field.
    """
    path = bundle / MANIFEST
    if not bundle.is_dir():
        fault = 'is a file' if bundle.exists() else 'does not exist'
        raise MultishiftError(
            f'engine bundle {bundle} {fault}: give the path of a bundle directory, '
            'or leave it out for the embedded engine'
        )
    if not path.exists():
        raise MultishiftError(
            f'{bundle} is no engine bundle (it has no {MANIFEST}): '
            'build one with `multishift engine build`'
        )
    document = read_document(path, 'an engine manifest', mend='build the bundle again')
    _check_schema_version(path, document.content)
    return document.typed(Manifest)


def _check_schema_version(path: Path, content: dict[str, Any]) -> None:
    version = content.get('schema_version')
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise MultishiftError(
            f'{path} has schema_version {version}, this version reads {SCHEMA_VERSION}: '
            'update multishift_perception, or build the bundle with this version'
        )


def write_manifest(bundle: Path, manifest: Manifest) -> None:
    """Write a bundle's manifest."""
    text = yaml.safe_dump(manifest.model_dump(mode='json'), sort_keys=False, width=99)
    write_text(bundle / MANIFEST, text)
