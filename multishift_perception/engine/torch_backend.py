# SPDX-License-Identifier: Apache-2.0
"""The PyTorch backend: the eager reference, on any device."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
import zipfile

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.export.passes import move_to_device_pass

from multishift_perception.engine.cuda_runner import CudaBackend, gpu_faults
from multishift_perception.engine.types import EngineOutput
from multishift_perception.errors import MultishiftError, one_line

_OWN_THREADS = torch.get_num_threads()


class TorchBackend(CudaBackend):
    """An exported program (``.pt2``) run operator by operator; on a GPU as one CUDA graph."""

    def __init__(self, file: Path, device: str) -> None:
        """Load ``file`` to ``device``; raises MultishiftError where it is broken or unsafe."""
        super().__init__(file, torch.device(device))
        program = load_program(file)
        if self._device.type == 'cuda':
            with gpu_faults(file, self._device):
                # Moves also the tensors that the program makes while it runs.
                program = move_to_device_pass(program, self._device)
        self._batch = _batch(program)
        self._module: Any = program.module()

    @staticmethod
    def set_threads(count: int) -> None:
        """Compute on the CPU with so many threads; 0: as many as PyTorch takes by itself."""
        torch.set_num_threads(count or _OWN_THREADS)

    def run(self, frames: NDArray[np.uint8]) -> EngineOutput:
        """Run RGB frames ``uint8 [N,H,W,3]``; on a GPU the first call captures the graph."""
        if self._device.type != 'cuda':
            with torch.inference_mode():
                outputs = self._network(torch.from_numpy(frames))
            return EngineOutput(*(output.numpy() for output in outputs))
        return self._runner(frames.shape[:3]).run(frames)

    @property
    def takes_pictures(self) -> bool:
        """Whether it shrinks pictures and enlarges outputs itself: on a GPU."""
        return self._device.type == 'cuda'

    def _network(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Run the program, whose shapes are fixed, on a multiple of the frames it takes."""
        if len(frames) == self._batch:
            return tuple(self._module(frames))
        groups = frames.view(-1, self._batch, *frames.shape[1:])
        outputs = torch.func.vmap(lambda group: tuple(self._module(group)))(groups)
        return tuple(output.flatten(0, 1) for output in outputs)

    def close(self) -> None:
        """Free the weights."""
        del self._runners, self._module
        if self._device.type == 'cuda':
            torch.cuda.empty_cache()


def _batch(program: torch.export.ExportedProgram) -> int:
    """Return how many frames a program takes."""
    (name,) = program.graph_signature.user_inputs
    (frames,) = (node for node in program.graph.nodes if node.name == name)
    return int(frames.meta['val'].shape[0])


def load_program(file: Path) -> torch.export.ExportedProgram:
    """Read an exported program; raises MultishiftError where it is broken or unsafe."""
    _refuse_code(file)
    try:
        return torch.export.load(file)
    except Exception as error:  # torch.export raises whatever its parser met
        reason = one_line(error)[:200]
        raise MultishiftError(
            f'PyTorch {torch.__version__} cannot load {file} ({reason}): build the bundle '
            'again with `multishift engine build --target torch`'
        ) from error


def _refuse_code(file: Path) -> None:
    """Refuse an archive through which ``torch.export.load`` would run code.

    It unpickles what the archive declares as pickled, and evaluates symbolic shape expressions.
    Our exports have neither: plain tensors and fixed shapes.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith('.json') and _declares_code(json.loads(archive.read(name))):
                    raise MultishiftError(
                        f'{file} holds pickled objects or symbolic expressions ({name}), which '
                        'can run code when loaded: build the bundle again from its checkpoint'
                    )
                if '/sample_inputs/' in name and (data := archive.read(name)):
                    torch.load(io.BytesIO(data), weights_only=True)
    except MultishiftError:
        raise
    except Exception as error:  # a broken archive or a pickle that weights_only refuses
        reason = one_line(error)[:200]
        raise MultishiftError(
            f'{file} is not a safe exported program ({reason}): build the bundle again'
        ) from None


def _declares_code(node: object) -> bool:
    if isinstance(node, dict):
        if node.get('use_pickle') or 'as_expr' in node or node.get('as_custom_obj'):
            return True
        return any(_declares_code(value) for value in node.values())
    return isinstance(node, list) and any(_declares_code(value) for value in node)
