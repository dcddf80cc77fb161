# SPDX-License-Identifier: Apache-2.0
"""PyTorch: the exported program itself, for any device."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
import io
from pathlib import Path
import warnings

import torch

from multishift_training.export.network import Network
from multishift_training.export.plan import Plan
from multishift_training.export.written import Written


def check(plan: Plan) -> None:
    """Whoever has PyTorch can build it."""


def write(network: Network, plan: Plan, folder: Path) -> Iterator[Written]:
    """Write the program, in float32."""
    file, content = folder / 'torch.pt2', io.BytesIO()
    with warnings.catch_warnings():
        # Channels-last weights are saved with their strides; the warning is of other devices.
        warnings.filterwarnings('ignore', 'No complete tensor found')
        # Into memory: the writer ends the whole process where a write to a file fails.
        torch.export.save(network.program, content)
    file.write_bytes(content.getbuffer())
    yield Written(
        backend='torch',
        file=file,
        precision='fp32',
        needs={'device': 'any CPU or GPU', 'torch': f'>= {version("torch").split("+")[0]}'},
        device='cpu',
        batches=plan.ascending,
    )
