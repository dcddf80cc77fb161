# SPDX-License-Identifier: Apache-2.0
"""Every artifact of a bundle that this machine can run, against the eager model's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from multishift_perception.engine.engine import file_faults, open_artifact, prove
from multishift_perception.engine.manifest import (
    MANIFEST,
    Artifact,
    Manifest,
    Parity,
    read_manifest,
)
from multishift_perception.engine.probe import Proof
from multishift_perception.engine.selection import check_offered, place
from multishift_perception.errors import MultishiftError
from multishift_perception.files import write_text
from multishift_perception.progress import track


@dataclass(frozen=True)
class Verdict:
    """What became of one artifact.

    Attributes:
        artifact: as the manifest has it.
        state: ``skipped`` where this machine cannot run it.
        reason: why it is skipped or at fault.
        device: where it ran.
        proof: how far it is from the eager model; None unless it is right.
    """

    artifact: Artifact
    state: Literal['right', 'skipped', 'fault']
    reason: str = ''
    device: str = ''
    proof: Proof | None = None


def verify(bundle: Path, *, backends: Sequence[str] = (), device: int = 0) -> list[Verdict]:
    """Check the files of a bundle and run all artifacts that fit this machine.

    Parities that the manifest lacks are written into it, if nothing is at fault.

    Args:
        bundle: directory of the bundle.
        backends: whose artifacts to check; none for those of all.
        device: index of the GPU.

    Raises:
        MultishiftError: manifest or probe frames are broken, the manifest cannot be written, or
            no artifact fits.
    """
    manifest = read_manifest(bundle)
    for fault in file_faults(bundle, {manifest.probe.file: manifest.probe.sha256}):
        raise MultishiftError(fault)
    for backend in backends:
        check_offered(bundle, manifest, backend)
    chosen = [a for a in manifest.artifacts if a.backend in backends or not backends]
    artifacts = track(chosen, 'verify', unit='artifact', leave=False)
    verdicts = [_judge(bundle, manifest, artifact, device) for artifact in artifacts]
    if all(verdict.state == 'skipped' for verdict in verdicts):
        reasons = '; '.join(f'{v.artifact.file} {v.reason}' for v in verdicts)
        raise MultishiftError(f'nothing in {bundle} runs on this machine; {reasons}')
    if not any(verdict.state == 'fault' for verdict in verdicts):
        _write_parities(bundle, manifest, verdicts)
    return verdicts


def _judge(bundle: Path, manifest: Manifest, artifact: Artifact, device: int) -> Verdict:
    hashes = {artifact.file: artifact.sha256, **artifact.companions}
    for fault in file_faults(bundle, hashes):
        return Verdict(artifact, 'fault', fault)
    try:
        choice = place(artifact, device)
    except MultishiftError as error:
        return Verdict(artifact, 'skipped', str(error))
    try:
        running = open_artifact(bundle, manifest, choice)
        try:
            proof = prove(bundle, manifest, choice, running)
        finally:
            running.close()
    except MultishiftError as error:
        return Verdict(artifact, 'fault', str(error), choice.device)
    return Verdict(artifact, 'right', '', choice.device, proof)


def _write_parities(bundle: Path, manifest: Manifest, verdicts: list[Verdict]) -> None:
    """Fill in the manifest's missing parities; every other byte of it stays."""
    missing = {
        manifest.artifacts.index(verdict.artifact): verdict.proof.parity
        for verdict in verdicts
        if verdict.proof and verdict.artifact.parity is None
    }
    if not missing:
        return
    path = bundle / MANIFEST
    text = path.read_text()
    # From the last to the first, so that positions of those before stay right.
    for index, parity in sorted(missing.items(), reverse=True):
        start, end = _parity_span(text, index)
        text = f'{text[:start].rstrip(" ")} {_flow(parity)}{text[end:]}'
    try:
        write_text(path, text)
    except OSError as error:
        raise MultishiftError(
            f'{path} cannot be written ({error.strerror}): the parity stays unrecorded; '
            'make the bundle writable, or verify a copy of it'
        ) from None


def _flow(parity: Parity) -> str:
    return yaml.safe_dump(parity.model_dump(), default_flow_style=True, sort_keys=False).strip()


def _parity_span(text: str, index: int) -> tuple[int, int]:
    """Return where in the manifest's text the parity of an artifact begins and ends."""
    artifact = _value(yaml.compose(text, yaml.SafeLoader), 'artifacts').value[index]
    parity = _value(artifact, 'parity')
    return parity.start_mark.index, parity.end_mark.index


def _value(mapping: Any, key: str) -> Any:
    return next(value for name, value in mapping.value if name.value == key)
