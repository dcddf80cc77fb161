"""From a deploy graph to an engine bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
import gc
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
import platform

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from multishift_perception.classes import CITYSCAPES
from multishift_perception.engine.manifest import (
    Calibration,
    ClassEntry,
    InputShape,
    Manifest,
    Parity,
    Probe,
    write_manifest,
)
from multishift_perception.engine.probe import ProbeSet
from multishift_perception.engine.types import Backend, EngineOutput
from multishift_perception.files import remove_leftovers, replacing, sha256, write_bytes
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.precision import typed
from multishift_training.export.program import export_program
from multishift_training.export.targets import Describe, Plan, Target
from multishift_training.export.to_onnx import to_onnx

CITYSCAPES_ENTRIES = tuple(ClassEntry(name=c.name, color=c.color) for c in CITYSCAPES)
_PROBES = 'probe.npz'
_SOFTWARE = (
    'multishift_perception',
    'torch',
    'openvino',
    'nncf',
    'onnx',
    'onnxscript',
    'torch_tensorrt',
    'tensorrt-rtx-cu13',
)


def export_bundle(
    out: Path,
    graph: DeployGraph,
    *,
    calibration: Calibration,
    probes: NDArray[np.uint8],
    targets: Sequence[Target] | Plan,
    samples: Sequence[NDArray[np.uint8]] = (),
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
        probes: RGB frames ``uint8 [K,N,H,W,3]``, whose N, H and W the engine is built for.
        targets: which artifacts to build, or all there is to say of it.
        samples: frames ``uint8 [N,H,W,3]`` each, to quantise with; for int8.
        model: name of the network.
        method: name of the training method.
        classes: the known classes, in order of their label values.
        provenance: where the weights come from; versions are added.

    Raises:
        MultishiftError: this machine cannot build what is wanted, or an artifact differs from the
            eager graph by too much; nothing is written.
    """
    plan = targets if isinstance(targets, Plan) else Plan(targets)
    plan.check()
    _, batch, height, width, _ = probes.shape
    probe = ProbeSet.of(probes, _expected(graph, probes))
    remove_leftovers(out)
    with replacing(out) as fresh:
        fresh.mkdir()
        probe.save(fresh / _PROBES)
        written = list(_write_artifacts(graph, torch.from_numpy(probes[0]), plan, fresh, samples))
        # The program has weights of its own, and reference cycles: free it before artifacts load.
        gc.collect()

        def prove(backend: Backend, file: Path, precision: str) -> Parity:
            with closing(backend):
                return probe.prove(backend, calibration, file, precision).parity

        manifest = Manifest(
            schema_version=1,
            model=model,
            method=method,
            classes=list(classes),
            input=InputShape(batch=batch, height=height, width=width),
            calibration=calibration,
            artifacts=[describe(prove) for describe in written],
            probe=Probe(file=_PROBES, sha256=sha256(fresh / _PROBES)),
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


def _write_artifacts(
    graph: DeployGraph,
    frames: Tensor,
    plan: Plan,
    folder: Path,
    samples: Sequence[NDArray[np.uint8]],
) -> Iterator[Describe]:
    """Write the files of each target; what is yielded proves them."""
    program = export_program(graph, frames)
    if plan.onnx is not None:
        write_bytes(plan.onnx, to_onnx(typed(program, frames, 'fp32')))
    # Imported here so that a machine needs only the libraries of the targets it builds.
    if 'openvino' in plan.targets:
        from multishift_training.export.to_openvino import write_openvino

        to_quantize = samples if plan.precision == 'int8' else None
        yield from write_openvino(program, frames.shape, folder, samples=to_quantize)
    if 'torch' in plan.targets:
        from multishift_training.export.to_torch import write_torch

        yield from write_torch(program, folder)
    if not {'tensorrt', 'tensorrt-rtx'} & set(plan.targets):
        return
    program = typed(program, frames, plan.precision)
    if 'tensorrt-rtx' in plan.targets:
        from multishift_training.export.to_tensorrt_rtx import write_tensorrt_rtx

        yield from write_tensorrt_rtx(
            to_onnx(program), folder, capabilities=plan.capabilities, precision=plan.precision
        )
    if 'tensorrt' in plan.targets:
        from multishift_training.export.to_tensorrt import write_tensorrt

        yield from write_tensorrt(program, frames, folder, precision=plan.precision)


def _software() -> str:
    """Return the versions of what made the bundle, as far as it is installed."""
    found = [f'Python {platform.python_version()}']
    for package in _SOFTWARE:
        try:
            found.append(f'{package} {version(package)}')
        except PackageNotFoundError:
            continue
    return ', '.join(found)
