"""From a checkpoint to an engine bundle."""

from __future__ import annotations

from collections.abc import Sequence
import gc
from importlib.metadata import version
from pathlib import Path
import platform
from typing import Literal
import warnings

import numpy as np
from numpy.typing import NDArray
import openvino as ov
import torch
from torch import Tensor

from multishift_perception.classes import CITYSCAPES
from multishift_perception.engine.manifest import (
    Artifact,
    Calibration,
    ClassEntry,
    InputShape,
    Manifest,
    Parity,
    Probe,
    write_manifest,
)
from multishift_perception.engine.openvino_backend import OpenVinoBackend
from multishift_perception.engine.probe import ProbeSet, check_parity
from multishift_perception.engine.torch_backend import TorchBackend
from multishift_perception.engine.types import Backend, EngineOutput
from multishift_perception.files import replacing, sha256
from multishift_training.deploy import DeployGraph
from multishift_training.fusion import optimize

Target = Literal['openvino', 'torch']
TARGETS: tuple[Target, ...] = ('openvino', 'torch')
_OPENVINO, _TORCH = 'openvino.xml', 'torch.pt2'
CITYSCAPES_ENTRIES = tuple(ClassEntry(name=c.name, color=c.color) for c in CITYSCAPES)


def export_bundle(
    out: Path,
    graph: DeployGraph,
    *,
    calibration: Calibration,
    probes: NDArray[np.uint8],
    targets: Sequence[Target],
    model: str,
    method: str,
    classes: Sequence[ClassEntry] = CITYSCAPES_ENTRIES,
    provenance: dict[str, object],
) -> Manifest:
    """Write an engine bundle, atomically, with every artifact verified against the eager graph.

    Args:
        out: directory to write; an old bundle there is replaced as a whole at the end.
        graph: the deploy graph, with ``calibration`` inside.
        calibration: what the manifest says of the calibration.
        probes: RGB frames ``uint8 [K,N,H,W,3]``, whose N, H and W the engine is built for.
        targets: which artifacts to build.
        model: name of the network.
        method: name of the training method.
        classes: the known classes, in order of their label values.
        provenance: where the weights come from; versions are added.

    Raises:
        MultishiftError: an artifact differs from the eager graph by too much; nothing is written.
    """
    _, batch, height, width, _ = probes.shape
    graph.eval()
    with torch.inference_mode():
        expected = [
            EngineOutput(*(t.numpy() for t in graph(torch.from_numpy(frames))))
            for frames in probes
        ]
    probe = ProbeSet.of(probes, expected)
    with replacing(out) as fresh:
        fresh.mkdir()
        probe.save(fresh / 'probe.npz')
        _write_artifacts(graph, torch.from_numpy(probes[0]), targets, fresh)
        # The program has weights of its own, and reference cycles: free it before artifacts load.
        gc.collect()
        describe = {'openvino': _describe_openvino, 'torch': _describe_torch}
        manifest = Manifest(
            schema_version=1,
            model=model,
            method=method,
            classes=list(classes),
            input=InputShape(batch=batch, height=height, width=width),
            calibration=calibration,
            artifacts=[describe[target](fresh, probe) for target in targets],
            probe=Probe(file='probe.npz', sha256=sha256(fresh / 'probe.npz')),
            provenance={**provenance, 'software': _software()},
        )
        write_manifest(fresh, manifest)
    return manifest


def _write_artifacts(
    graph: DeployGraph, frames: Tensor, targets: Sequence[Target], folder: Path
) -> None:
    """Write each target's files."""
    program = optimize(torch.export.export(graph, (frames,), strict=False), frames)
    # Neither the example frames nor source paths of the exporting machine belong in a bundle.
    program.example_inputs = None
    for node in program.graph.nodes:
        node.meta.pop('stack_trace', None)
    if 'openvino' in targets:
        ov.save_model(ov.convert_model(program), folder / _OPENVINO, compress_to_fp16=True)
    if 'torch' in targets:
        with warnings.catch_warnings():
            # Channels-last weights are saved with their strides; the warning is of other devices.
            warnings.filterwarnings('ignore', 'No complete tensor found')
            torch.export.save(program, folder / _TORCH)


def _describe_openvino(folder: Path, probe: ProbeSet) -> Artifact:
    file = folder / _OPENVINO
    weights = file.with_suffix('.bin')
    return Artifact(
        backend='openvino',
        file=file.name,
        sha256=sha256(file),
        companions={weights.name: sha256(weights)},
        precision='fp32',
        needs={'device': 'any CPU', 'openvino': f'>= {version("openvino").rsplit(".", 1)[0]}'},
        parity=_parity(OpenVinoBackend(file), probe, file),
    )


def _describe_torch(folder: Path, probe: ProbeSet) -> Artifact:
    file = folder / _TORCH
    return Artifact(
        backend='torch',
        file=file.name,
        sha256=sha256(file),
        precision='fp32',
        needs={'device': 'any CPU or GPU', 'torch': f'>= {version("torch").split("+")[0]}'},
        parity=_parity(TorchBackend(file, torch.device('cpu')), probe, file),
    )


def _parity(backend: Backend, probe: ProbeSet, file: Path) -> Parity:
    parity = probe.measure(backend)
    backend.close()
    check_parity(probe, parity, file)
    return parity


def _software() -> str:
    packages = ('multishift_perception', 'torch', 'openvino')
    return ', '.join(
        [f'Python {platform.python_version()}'] + [f'{p} {version(p)}' for p in packages]
    )
