# SPDX-License-Identifier: Apache-2.0
"""Weights of diffusion models: local folders in the layout of `diffusers`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
import torch
from transformers import PreTrainedModel

from multishift_perception.errors import MultishiftError, one_line
from multishift_perception.files import sha256

_WEIGHTS = 'diffusion_pytorch_model'
_TEXT_WEIGHTS = 'model'
# Files of each subfolder of Stable Diffusion, apart from weights.
_BASE = {
    'scheduler': ('scheduler_config.json',),
    'text_encoder': ('config.json',),
    'tokenizer': ('vocab.json', 'merges.txt'),
    'unet': ('config.json',),
    'vae': ('config.json',),
}
_STEMS = {'text_encoder': _TEXT_WEIGHTS, 'unet': _WEIGHTS, 'vae': _WEIGHTS}
# Weights come in single precision, or in half, which their names say.
_HALF = 'fp16'
_FAULTS = {
    'missing': 'missing_keys',
    'left over': 'unexpected_keys',
    'of another shape': 'mismatched_keys',
}


def check_folders(base: Path, controlnet: Path) -> None:
    """See that the files of Stable Diffusion and a ControlNet are there.

    Raises:
        MultishiftError: some are not; the message names folder and files.
    """
    _refuse('base', base, _base_files(base), 'Stable Diffusion')
    _refuse('controlnet', controlnet, _control_files(controlnet), 'a ControlNet')


def digest(base: Path, controlnet: Path) -> str:
    """Return a digest of the content of all files that are used, 16 hexadecimal digits.

    Every byte is read, so that fine-tuned weights are never taken for those they started from.
    """
    content = hashlib.sha256()
    used = [base / name for name in _base_files(base)]
    for path in used + [controlnet / name for name in _control_files(controlnet)]:
        content.update(bytes.fromhex(sha256(path)))
    return content.hexdigest()[:16]


def load_model(model: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Load a network with all of its weights.

    Args:
        model: its class, of `diffusers` or `transformers`.
        folder: where it is.
        dtype: of its weights.

    Raises:
        MultishiftError: the files are damaged, or the weights do not fit the configuration.
    """
    text = issubclass(model, PreTrainedModel)
    options = {'dtype': dtype} if text else {'torch_dtype': dtype, 'low_cpu_mem_usage': False}
    name = _weight_file(folder, _TEXT_WEIGHTS if text else _WEIGHTS)
    with readable(folder):
        network, report = model.from_pretrained(
            folder,
            # Half precision where there is no other.
            variant=_HALF if _HALF in name.split('.') else None,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    faults = [f'{key} is {name}' for name, keys in _FAULTS.items() for key in sorted(report[keys])]
    if faults:
        raise MultishiftError(
            f'{folder}: {len(faults)} weights do not fit config.json ({faults[0]}, for one): copy '
            'both again from the same source'
        )
    return network


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Name the folder whose files cannot be loaded.

    Raises:
        MultishiftError: they are damaged.
    """
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = one_line(error)
        raise MultishiftError(f'{folder} cannot be loaded ({reason}): copy it again') from None


def _base_files(base: Path) -> list[str]:
    """Return the files of Stable Diffusion that are used, or wanted."""
    files = [f'{name}/{file}' for name, files in _BASE.items() for file in files]
    return files + [f'{name}/{_weight_file(base / name, stem)}' for name, stem in _STEMS.items()]


def _control_files(controlnet: Path) -> list[str]:
    """Return the files of a ControlNet that are used, or wanted."""
    return ['config.json', _weight_file(controlnet, _WEIGHTS)]


def _weight_file(folder: Path, stem: str) -> str:
    """Return the name of the weight file that is used, or that is wanted."""
    names = f'{stem}.safetensors', f'{stem}.{_HALF}.safetensors'
    return next((name for name in names if (folder / name).is_file()), names[0])


def _refuse(field: str, folder: Path, wanted: list[str], what: str) -> None:
    if not folder.is_dir():
        raise MultishiftError(
            f'{field}: folder {folder} does not exist: give a local folder of {what} '
            '(diffusers layout)'
        )
    missing = [file for file in wanted if not (folder / file).is_file()]
    if missing:
        raise MultishiftError(
            f'{field}: folder {folder} lacks {", ".join(missing)}: give a whole folder of {what} '
            '(diffusers layout, safetensors)'
        )
