# SPDX-License-Identifier: Apache-2.0
"""What was found so far, written after every figure, so that a cut run keeps what it has."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys
from typing import Any

import torch

from proof.table import table

_ASKED = 'name,driver_version,memory.total,power.limit,clocks.sm,clocks.max.sm,clocks.mem'


class Results:
    """The content of ``gpu.json``, and of ``gpu.md`` beside it."""

    def __init__(self, folder: Path, prepared: list[str]) -> None:
        """Start with what the machine is."""
        self._folder = folder
        self.content: dict[str, Any] = {'machine': machine(prepared), 'parts': {}}
        folder.mkdir(parents=True, exist_ok=True)

    def note(self, part: str, name: str, value: object) -> None:
        """Keep a figure of a part."""
        self.content['parts'][part]['figures'][name] = value
        self.save()

    def save(self) -> None:
        """Write both files, each in one step."""
        for name, text in (
            ('gpu.json', json.dumps(self.content, indent=1) + '\n'),
            ('gpu.md', table(self.content)),
        ):
            fresh = self._folder / f'.{name}'
            fresh.write_text(text)
            fresh.replace(self._folder / name)


def machine(prepared: list[str]) -> dict[str, Any]:
    """Return what the figures depend on."""
    found: dict[str, Any] = {'python': sys.version.split()[0], 'torch': torch.__version__}
    found |= {'CUDA of torch': torch.version.cuda, 'threads': torch.get_num_threads()}
    found['prepared'] = prepared
    if torch.cuda.is_available():
        found |= {'card': torch.cuda.get_device_name(0), **clocks()}
        found['compute capability'] = '.'.join(map(str, torch.cuda.get_device_capability(0)))
    return found


def clocks() -> dict[str, str]:
    """Return what the driver says of the card, by name."""
    command = ['nvidia-smi', f'--query-gpu={_ASKED}', '--format=csv,noheader']
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return {'driver': f'nvidia-smi does not answer ({type(error).__name__})'}
    values = done.stdout.splitlines()[0].split(', ')
    return dict(zip(_ASKED.split(','), values, strict=False))
