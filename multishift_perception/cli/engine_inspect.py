# SPDX-License-Identifier: Apache-2.0
"""`multishift engine inspect`."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
import textwrap
from typing import Any

import click

from multishift_perception.cli.options import device_option, json_option
from multishift_perception.engine import (
    EMBEDDED_BUNDLE,
    MANIFEST,
    Artifact,
    Manifest,
    read_manifest,
)
from multishift_perception.engine.selection import place
from multishift_perception.errors import MultishiftError
from multishift_perception.files import sha256

_WIDTH = 99
_CONFIDENCE = {
    True: 'probability of each label',
    False: 'not told: build the bundle again for it',
}


@click.command()
@click.argument('bundle', type=click.Path(path_type=Path), default=EMBEDDED_BUNDLE)
@device_option
@json_option('the manifest and these facts')
def command(bundle: Path, device: int, as_json: bool) -> None:
    """Show what BUNDLE holds, and what of it this machine can run.

    Hashes are not checked: that is for `multishift engine verify`. BUNDLE is the embedded engine
    when left out.
    """
    manifest = read_manifest(bundle)
    facts = _facts(bundle, manifest, device)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for title, text in _rows(manifest, facts):
        click.echo(f'{title:<14} {text}'.rstrip())


def _facts(bundle: Path, manifest: Manifest, device: int) -> dict[str, Any]:
    """Return the manifest as JSON, with what it does not say itself."""
    facts = manifest.model_dump(mode='json')
    for artifact, entry in zip(manifest.artifacts, facts['artifacts'], strict=True):
        entry['bytes'] = _bytes(bundle, (artifact.file, *artifact.companions))
        entry.update(_fit(artifact, device))
    return {
        'bundle': str(bundle),
        'digest': sha256(bundle / MANIFEST),
        'bytes': _bytes(bundle, (MANIFEST, *manifest.hashes)),
        **facts,
    }


def _bytes(bundle: Path, names: tuple[str, ...]) -> int:
    try:
        return sum((bundle / name).stat().st_size for name in names)
    except FileNotFoundError as error:
        raise MultishiftError(
            f'{error.filename} is missing: copy the whole bundle again'
        ) from None


def _fit(artifact: Artifact, device: int) -> dict[str, str]:
    try:
        return {'device': place(artifact, device).device, 'obstacle': ''}
    except MultishiftError as error:
        return {'device': '', 'obstacle': str(error)}


def _rows(manifest: Manifest, facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    shape, calibration = manifest.input, manifest.calibration
    sizes = {batch for a in manifest.artifacts for batch in manifest.batches(a)}
    batches = ', '.join(map(str, sorted(sizes)))
    yield 'bundle', f'{facts["bundle"]} ({facts["bytes"] / 1e6:.1f} MB)'
    yield 'digest', facts['digest']
    yield 'model', f'{manifest.model}, training: {manifest.method}'
    yield 'input', f'{batches} x {shape.height} x {shape.width} RGB bytes'
    classes = ', '.join(c.name for c in manifest.classes)
    lines = textwrap.wrap(f'{len(manifest.classes)}: {classes}', _WIDTH - 15)
    yield from zip(('classes', *[''] * len(lines)), lines, strict=False)
    yield (
        'operating',
        f'score {calibration.operating_point:.4g} is anomaly 128: {calibration.rule}',
    )
    yield '', _shortened(f'on {calibration.dataset}')
    if manifest.look is not None:
        yield 'known look', _shortened(manifest.look.dataset)
    yield 'confidence', _CONFIDENCE[manifest.confidence]
    for artifact, entry in zip(manifest.artifacts, facts['artifacts'], strict=True):
        yield from _artifact_rows(artifact, entry)
    for key, value in manifest.provenance.items():
        if isinstance(value, list):  # credits, which licences want to be read in full
            yield from zip((key, *[''] * len(value)), map(str, value), strict=False)
        else:
            yield key, _shortened(_words(value))


def _artifact_rows(artifact: Artifact, entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield (
        'artifact',
        f'{artifact.backend} {artifact.precision}, {artifact.file}, {entry["bytes"] / 1e6:.1f} MB',
    )
    needs = artifact.tensorrt.model_dump() if artifact.tensorrt else artifact.needs
    yield '  needs', ', '.join(f'{key}: {value}' for key, value in needs.items() if value)
    yield '  here', f'runs on {entry["device"]}' if entry['device'] else entry['obstacle']
    if parity := artifact.parity:
        words = (
            f'{parity.label_agreement:.3%} of labels as the eager model, '
            f'score within {parity.score_error:.2g}'
        )
    else:
        words = 'not measured yet: run `multishift engine verify` on a machine that runs it'
    yield '  parity', words


def _words(value: Any) -> str:
    """Write a dictionary of plain values on one line; anything larger is for --json."""
    if not isinstance(value, dict):
        return str(value)
    if any(isinstance(v, dict | list) for v in value.values()):
        return f'{len(value)} settings (--json prints them)'
    return ', '.join(
        f'{k} {v:.4g}' if isinstance(v, float) else f'{k} {v}' for k, v in value.items()
    )


def _shortened(text: str) -> str:
    return textwrap.shorten(text, _WIDTH - 15, placeholder=' ...')
