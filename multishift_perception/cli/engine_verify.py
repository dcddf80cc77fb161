# SPDX-License-Identifier: Apache-2.0
"""`multishift engine verify`."""

from __future__ import annotations

import json
from pathlib import Path
import sys
from typing import Any

import click

from multishift_perception.cli.options import backends_option, device_option, json_option
from multishift_perception.engine import EMBEDDED_BUNDLE
from multishift_perception.engine.verification import Verdict, verify


@click.command()
@click.argument('bundle', type=click.Path(path_type=Path), default=EMBEDDED_BUNDLE)
@backends_option
@device_option
@json_option('the findings')
def command(bundle: Path, backends: tuple[str, ...], device: int, as_json: bool) -> None:
    """Compare every artifact of BUNDLE that runs here with the eager model.

    Hashes are checked, and the stored probe frames run: labels, score and anomaly must be those of
    the eager model within the bounds. A parity that the manifest lacks, as that of an artifact
    built on another machine, is written into it. BUNDLE is the embedded engine when left out.

    What the difference means for metrics, `multishift evaluate` or `multishift replay` tell with
    `--backend`, on your own labelled frames.
    """
    verdicts = verify(bundle, backends=backends, device=device)
    if as_json:
        click.echo(json.dumps([_facts(verdict) for verdict in verdicts], indent=2))
    else:
        click.echo('\n'.join(_line(verdict) for verdict in verdicts))
    faults = [verdict.reason for verdict in verdicts if verdict.state == 'fault']
    for fault in faults:
        click.echo(f'multishift: {fault}', err=True)
    if faults:
        sys.exit(1)


def _line(verdict: Verdict) -> str:
    name = f'{verdict.artifact.file} ({verdict.artifact.backend} {verdict.artifact.precision})'
    if verdict.state == 'skipped':
        return f'{name}: skipped, it {verdict.reason}'
    if verdict.proof is None:
        return f'{name}: FAULT'
    parity = verdict.proof.parity
    return (
        f'{name} on {verdict.device}: right: {parity.label_agreement:.3%} of labels agree, '
        f'score within {parity.score_error:.2g}, '
        f'anomaly within {verdict.proof.anomaly_error} of 255'
    )


def _facts(verdict: Verdict) -> dict[str, Any]:
    proof = verdict.proof
    return {
        'file': verdict.artifact.file,
        'backend': verdict.artifact.backend,
        'precision': verdict.artifact.precision,
        'state': verdict.state,
        'reason': verdict.reason,
        'device': verdict.device,
        'parity': proof and proof.parity.model_dump(),
        'anomaly_error': proof and proof.anomaly_error,
    }
