# SPDX-License-Identifier: Apache-2.0
"""From an engine bundle back to a checkpoint, to train on from or to build other engines of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from multishift_perception.destinations import Kind, check_file, holds
from multishift_perception.engine import Manifest, ProbeSet, read_manifest
from multishift_perception.engine.engine import file_faults
from multishift_perception.errors import MultishiftError
from multishift_perception.files import remove_leftovers
from multishift_training.checkpoints.metadata import metadata_of, origin_of
from multishift_training.checkpoints.presence import check_weights
from multishift_training.scores import UNCERTAINTY, find_score

_BACKEND = 'torch'
_SUFFIX = '.safetensors'
# In a checkpoint's metadata: a run's own, which took hours, is not replaced.
_MADE_OF = 'bundle'
_MEND = 'give the weights that it was made of themselves'


def write_checkpoint(
    bundle: Path, out: Path, *, force: bool = False, data: Path = Path()
) -> Sequence[str]:
    """Write the network of a bundle as a checkpoint, as if `multishift train` had left it.

    The weights are those of the PyTorch artifact, in float32. It is proven on the bundle's probe
    frames that the network computes with them what the bundle does.

    Args:
        bundle: of `multishift engine build`, with an artifact for PyTorch.
        out: the checkpoint, ``.safetensors``.
        force: replace one that is there.
        data: folder that relative paths of the run's configuration start from.

    Returns:
        Names of the weights and buffers that no output of the bundle depends on: they are those
        of a new network.

    Raises:
        MultishiftError: the bundle is damaged, has no such artifact, or was not made by a run of
            `multishift train`; or the checkpoint may not be written there.
    """
    manifest = read_manifest(bundle)
    if out.suffix != _SUFFIX:
        raise MultishiftError(f'{out}: the name that --out takes must end in {_SUFFIX}')
    if holds(bundle, out):
        raise MultishiftError(
            f'{out} lies in {bundle}, which is replaced as a whole: name another file'
        )
    check_file(out, _CHECKPOINT, force=force)
    metadata = _metadata(bundle, manifest)
    origin, score = origin_of(bundle, metadata), _score(bundle, manifest)
    artifact = manifest.artifact(_BACKEND)
    if artifact is None:
        raise MultishiftError(
            f'{bundle} has no artifact for {_BACKEND}, which holds the weights: {_MEND}'
        )
    for fault in file_faults(bundle, manifest.hashes):
        raise MultishiftError(fault)
    if origin.run.folder is not None:
        check_weights(data / origin.run.folder, key=f'{bundle}, its folder')
    # What is wrong is said by now: torch takes seconds.
    from multishift_perception.engine.torch_backend import load_program
    from multishift_training.checkpoints.trained import adapted, new_model, write
    from multishift_training.export.deploy_graph import DeployGraph
    from multishift_training.export.unfolding import unfold
    from multishift_training.scores.rescored import with_score

    plain = new_model(origin.run, data, len(origin.classes))
    try:
        for method in origin.adapting:
            method.check_network(plain, origin.run.model)
    except MultishiftError as error:
        raise MultishiftError(f'{bundle}: {error}') from None
    network = adapted(plain, origin.adapting)
    graph = DeployGraph(
        with_score(network, score), manifest.compiled_calibration or manifest.calibration
    )
    probes = ProbeSet.load(bundle / manifest.probe.file)
    try:
        left = unfold(load_program(bundle / artifact.file), graph, probes.frames)
    except ValueError as error:
        raise MultishiftError(
            f'{bundle} holds another network than {origin.run.model} is in this version '
            f'({error}): {_MEND}'
        ) from None
    remove_leftovers(out)
    write(out, network, {**metadata, _MADE_OF: bundle.resolve().name})
    prefix = next(f'{name}.' for name, part in graph.named_modules() if part is network)
    return [key.removeprefix(prefix) for key in left if key.startswith(prefix)]


def _metadata(bundle: Path, manifest: Manifest) -> dict[str, str]:
    """Return what a checkpoint of the bundle's network says of itself."""
    known = manifest.provenance
    for key in ('configuration', 'validation'):
        if key not in known:
            raise MultishiftError(
                f'{bundle} is not of a run of `multishift train` (its provenance has no {key}): '
                f'{_MEND}'
            )
    try:
        return metadata_of(
            known['configuration'],
            known['validation'],
            classes=manifest.semantic_classes,
            inherited=known.get('adapted by', []),
            credits=known.get('credits', []),
        )
    except TypeError as error:  # YAML has dates and more, a run's checkpoint none
        raise MultishiftError(
            f'{bundle}: its provenance is of no run ({error}): build it again'
        ) from None


def _score(bundle: Path, manifest: Manifest) -> str:
    """Return the name of the bundle's score, one that the network alone computes."""
    name = str(manifest.provenance.get('score', UNCERTAINTY))
    try:
        score = find_score(name)
        score.check_exportable()
    except MultishiftError as error:
        raise MultishiftError(f'{bundle}: {error}') from None
    if score.is_fitted:
        raise MultishiftError(f'{bundle} has a score that was fitted, {name}: {_MEND}')
    return name


def _is_own(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework='np') as file:
            return _MADE_OF in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


_CHECKPOINT = Kind('a checkpoint that was made of a bundle', _is_own)
