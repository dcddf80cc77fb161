# SPDX-License-Identifier: Apache-2.0
"""From a deploy graph to an engine bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
import gc
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
import platform

import numpy as np
from numpy.typing import NDArray
import torch

from multishift_perception.classes import CITYSCAPES
from multishift_perception.engine import (
    Artifact,
    Calibration,
    ClassEntry,
    EngineOutput,
    InputShape,
    Look,
    LookEntry,
    Manifest,
    Parity,
    Probe,
    ProbeSet,
    write_manifest,
)
from multishift_perception.engine.backends import load
from multishift_perception.files import remove_leftovers, replacing, sha256, write_bytes
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.network import Network
from multishift_training.export.plan import Plan
from multishift_training.export.program import export_program
from multishift_training.export.targets import TARGETS, check_plan, chosen, target_module
from multishift_training.export.to_onnx import to_onnx
from multishift_training.export.written import Written

CITYSCAPES_ENTRIES = tuple(ClassEntry(name=c.name, color=c.color) for c in CITYSCAPES)
_PROBES = 'probe.npz'
_LOOK = 'look.npz'
# Of an artifact that does not compute what was trained.
_ROUNDED = ('int8', 'fp8', 'fp16', 'bf16')
_TOO_COARSE = 'build it with --precision fp32, which rounds less, or train the network longer'
_OTHER_TARGET = 'build for another target'


def export_bundle(
    out: Path,
    graph: DeployGraph,
    *,
    calibration: Calibration,
    probes: NDArray[np.uint8],
    targets: Sequence[str] | Plan,
    samples: Sequence[NDArray[np.uint8]] = (),
    look: tuple[Look, str] | None = None,
    model: str,
    method: str,
    classes: Sequence[ClassEntry] = CITYSCAPES_ENTRIES,
    provenance: dict[str, object],
) -> Manifest:
    """Write an engine bundle, atomically.

    Each artifact that this machine can run is verified against the eager graph.

    Args:
        out: directory to write; an old bundle there is replaced as a whole at the end.
        graph: the deploy graph, with ``calibration`` inside.
        calibration: what the manifest says of the calibration.
        probes: RGB frames ``uint8 [K,N,H,W,3]``, of the engine's H and W, N the fewest
            frames of a call.
        targets: which artifacts to build, or all there is to say of it.
        samples: frames ``uint8 [N,H,W,3]`` each, to quantise with; for int8 and fp8.
        look: how the frames look that the network knows, and what they are, in words.
        model: name of the network.
        method: name of the training method.
        classes: the known classes, in order of their label values.
        provenance: where the weights come from; versions are added.

    Raises:
        MultishiftError: this machine cannot build what is wanted, or an artifact differs from the
            eager graph by too much; nothing is written.
    """
    _, batch, height, width, _ = probes.shape
    plan = targets if isinstance(targets, Plan) else Plan(targets, batches=(batch,))
    check_plan(plan)
    if plan.least != batch:
        raise ValueError(f'probes are calls of {batch} frames, the least call has {plan.least}')
    probe = ProbeSet.of(probes, _expected(graph, probes))
    remove_leftovers(out)
    with replacing(out) as fresh:
        fresh.mkdir()
        probe.save(fresh / _PROBES)
        entry = None
        if look is not None:
            look[0].save(fresh / _LOOK)
            entry = LookEntry(file=_LOOK, sha256=sha256(fresh / _LOOK), dataset=look[1])
        written = list(_write(graph, torch.from_numpy(probes[0]), plan, fresh, samples))
        # The program has weights of its own, and reference cycles: free it before artifacts load.
        gc.collect()
        manifest = Manifest(
            schema_version=1,
            model=model,
            method=method,
            classes=list(classes),
            input=InputShape(batch=batch, height=height, width=width),
            calibration=calibration,
            artifacts=[_proven(artifact, probe, calibration, out) for artifact in written],
            probe=Probe(file=_PROBES, sha256=sha256(fresh / _PROBES)),
            look=entry,
            confidence=True,
            provenance={**provenance, 'software': _software()},
        )
        write_manifest(fresh, manifest)
    return manifest


@torch.inference_mode()
def _expected(graph: DeployGraph, probes: NDArray[np.uint8]) -> list[EngineOutput]:
    graph.eval()
    return [
        EngineOutput(*(t.numpy() for t in graph(torch.from_numpy(frames)))) for frames in probes
    ]


def _write(
    graph: DeployGraph,
    frames: torch.Tensor,
    plan: Plan,
    folder: Path,
    samples: Sequence[NDArray[np.uint8]],
) -> Iterator[Written]:
    """Write the files of each target."""
    export = partial(export_program, graph)
    network = Network(export(frames), frames, samples, export)
    if plan.onnx is not None:
        write_bytes(plan.onnx, to_onnx(network.typed('fp32')))
    for name in chosen(plan):
        yield from target_module(name).write(network, plan, folder)


def _proven(written: Written, probe: ProbeSet, calibration: Calibration, out: Path) -> Artifact:
    """Return the manifest's entry of an artifact, proven where this machine can run it."""
    return Artifact(
        backend=written.backend,
        file=written.file.name,
        sha256=sha256(written.file),
        batches=list(written.batches or (probe.frames.shape[1],)),
        companions={path.name: sha256(path) for path in written.companions},
        precision=written.precision,
        needs=dict(written.needs),
        tensorrt=written.tensorrt,
        parity=_parity(written, probe, calibration, out),
    )


def _parity(
    written: Written, probe: ProbeSet, calibration: Calibration, out: Path
) -> Parity | None:
    """Return the difference of an artifact from the eager graph; None where it cannot run here.

    Raises:
        MultishiftError: it is too large; the artifact has the name that it would have had.
    """
    if written.device is None:
        return None
    with closing(load(written.backend, written.file, written.device)) as backend:
        return probe.prove(
            backend,
            calibration,
            out / written.file.name,
            written.precision,
            written.batches or (probe.frames.shape[1],),
            mend=_TOO_COARSE if written.precision in _ROUNDED else _OTHER_TARGET,
        ).parity


def _software() -> str:
    """Return the versions of what made the bundle, as far as it is installed."""
    found = [f'Python {platform.python_version()}']
    packages = (package for entry in TARGETS.values() for package in entry.packages)
    for package in dict.fromkeys(('multishift_perception', 'torch', *packages)):
        try:
            found.append(f'{package} {version(package)}')
        except PackageNotFoundError:
            continue
    return ', '.join(found)
