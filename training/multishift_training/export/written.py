# SPDX-License-Identifier: Apache-2.0
"""What a target gives back: plain facts of an artifact that nobody has run yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from multishift_perception.engine import TensorRtNeeds
from multishift_training.export.plan import Plan, Precision


@dataclass(frozen=True)
class Written:
    """An artifact as a target wrote it.

    Attributes:
        backend: of the engine, which runs it.
        file: what the backend opens.
        precision: that it computes in.
        needs: what the machine must have, in words, for the manifest.
        device: where this machine can run it, as PyTorch writes it (``cpu``, ``cuda:0``); None
            where it is for another machine.
        companions: further files that it consists of.
        batches: how many frames its calls may take; those that it was written with where it says
            nothing.
        tensorrt: what the machine must have, to be compared; of TensorRT engines alone.
    """

    backend: str
    file: Path
    precision: Precision
    needs: Mapping[str, str]
    device: str | None
    companions: tuple[Path, ...] = ()
    batches: Sequence[int] = ()
    tensorrt: TensorRtNeeds | None = None


def batch_suffix(batch: int, plan: Plan) -> str:
    """Return what a file's name says of its batch size: nothing where a plan has one alone."""
    return f'-batch{batch}' if len(plan.ascending) > 1 else ''
