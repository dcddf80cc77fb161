"""`multishift engine verify`."""

from __future__ import annotations

from pathlib import Path

import click

from multishift_perception.engine import EMBEDDED_BUNDLE, Engine
from multishift_perception.engine.manifest import read_manifest


@click.command()
@click.argument('bundle', type=click.Path(path_type=Path), default=EMBEDDED_BUNDLE)
def command(bundle: Path) -> None:
    """Check the hashes of BUNDLE and run its probe frames through every artifact it has."""
    for artifact in read_manifest(bundle).artifacts:
        with Engine.load(bundle, backend=artifact.backend):
            click.echo(f'{artifact.backend}: hashes and probe frames are right')
