"""`multishift engine inspect`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from multishift_perception.engine import EMBEDDED_BUNDLE
from multishift_perception.engine.manifest import Manifest, read_manifest


@click.command()
@click.argument('bundle', type=click.Path(path_type=Path), default=EMBEDDED_BUNDLE)
@click.option('--json', 'as_json', is_flag=True, help='Print the whole manifest as JSON.')
def command(bundle: Path, as_json: bool) -> None:
    """Show what BUNDLE holds (the embedded engine when left out)."""
    manifest = read_manifest(bundle)
    if as_json:
        click.echo(json.dumps(manifest.model_dump(mode='json'), indent=2))
    else:
        click.echo(_screen(bundle, manifest))


def _screen(bundle: Path, manifest: Manifest) -> str:
    shape, calibration = manifest.input, manifest.calibration
    size = sum((bundle / name).stat().st_size for name in manifest.hashes)
    lines = [
        f'bundle       {bundle} ({size / 1e6:.1f} MB)',
        f'model        {manifest.model}, method: {manifest.method}',
        f'input        {shape.batch} x {shape.height} x {shape.width} RGB bytes',
        f'classes      {", ".join(c.name for c in manifest.classes)}',
        f'calibration  score {calibration.operating_point:.4g} is 128: {calibration.rule}',
        f'             on {calibration.dataset}',
    ]
    for artifact in manifest.artifacts:
        needs = ', '.join(f'{key}: {value}' for key, value in artifact.needs.items())
        lines.append(f'artifact     {artifact.backend} {artifact.precision}, needs {needs}')
        lines.append(
            f'             {artifact.parity.label_agreement:.2%} of labels as the eager model, '
            f'score within {artifact.parity.score_error:.2g}'
        )
    for key, value in manifest.provenance.items():
        lines.append(f'{key:<12} {value}')
    return '\n'.join(lines)
