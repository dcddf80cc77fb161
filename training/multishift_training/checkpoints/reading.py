# SPDX-License-Identifier: Apache-2.0
"""From a file or folder of weights, in any of the usual formats, to tensors by key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
import torch
from torch import Tensor

from multishift_perception.errors import MultishiftError
from multishift_perception.files import sha256
from multishift_training.checkpoints.pickles import (
    PickledArray,
    read_pickle,
    read_torch_legacy,
    read_torch_zip,
)

_TORCH_LEGACY = b'\x80\x02\x8a\nl\xfc\x9cF\xf9'  # protocol 2, then the magic number
_WRAPPERS = ('state_dict', 'model', 'model_state_dict')
_PREFIXES = ('module.', '_orig_mod.')  # of DataParallel, and of torch.compile


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint on the CPU, by key, without wrappers.

    Args:
        path: a file of ``torch.save``, safetensors, or detectron2 (pickled numpy arrays), or a
            Hugging Face folder. Its dict of tensors may lie under ``state_dict``, ``model`` or
            ``model_state_dict``, what stands beside it is ignored; ``module.`` and ``_orig_mod.``
            are stripped where every key has them.

    Raises:
        MultishiftError: the file is missing, damaged, of no such format, without tensors, or
            holds foreign classes.
    """
    tensors: dict[str, Tensor] = {}
    try:
        for file in weight_files(path):
            tensors |= _read_file(file)
    except OSError as error:
        raise MultishiftError(
            f'{error.filename or path} cannot be read ({error.strerror or error}): '
            'give an existing file of weights, or a Hugging Face folder'
        ) from None
    while prefix := next((p for p in _PREFIXES if all(k.startswith(p) for k in tensors)), None):
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def weight_files(path: Path) -> list[Path]:
    """Return the files that hold the weights: ``path`` itself, or those of a folder.

    Raises:
        MultishiftError: the folder is none of Hugging Face's, or misses its weights.
    """
    if not path.is_dir():
        return [path]
    if not (path / 'config.json').is_file():
        raise MultishiftError(
            f'{path} is no Hugging Face folder (it has no config.json): give one that '
            'save_pretrained wrote, or a file of weights'
        )
    for name in ('model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin'):
        if (path / name).is_file():
            return _shards(path / name) if name.endswith('.json') else [path / name]
    raise MultishiftError(f'{path} holds no weights: put its model.safetensors beside config.json')


def hashes_of(path: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that holds the weights, by name, in hexadecimal digits.

    Raises:
        MultishiftError: see `weight_files`.
    """
    return {part.name: sha256(part) for part in weight_files(path)}


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text())['weight_map'].values())
    except (ValueError, LookupError, TypeError, AttributeError):
        raise MultishiftError(f'{index} is no index of shards: download it again') from None
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise MultishiftError(f'{index} names files outside its folder: download it again')
    return [index.parent / name for name in sorted(names)]


def _read_file(path: Path) -> dict[str, Tensor]:
    with path.open('rb') as file:
        head = file.read(16)
    return _unwrapped(path, _reader(path, head)(path))


def _reader(path: Path, head: bytes) -> Callable[[Path], object]:
    """Tell the format by the first bytes: names end as their writers liked."""
    if head.startswith(b'PK\x03\x04'):
        return read_torch_zip
    if head.startswith(_TORCH_LEGACY):
        return read_torch_legacy
    if head[:1] == b'\x80' and head[1:2] in (b'\x02', b'\x03', b'\x04', b'\x05'):
        return read_pickle
    if head[8:9] == b'{':
        return _read_safetensors
    raise MultishiftError(
        f'{path} is no checkpoint ({f"it begins with {head!r}" if head else "it is empty"}): '
        'give a file of torch.save, safetensors or detectron2, or download it again'
    )


def _read_safetensors(path: Path) -> object:
    try:
        with safe_open(path, framework='pt') as file:
            return {key: file.get_tensor(key) for key in file.keys()}
    except SafetensorError as error:
        raise MultishiftError(
            f'{path} is no whole safetensors file ({error}): copy it again'
        ) from None


def _unwrapped(path: Path, content: object) -> dict[str, Tensor]:
    """Return the tensors of a decoded file, of which only one level may be a wrapper."""
    if isinstance(content, Mapping):
        for name in _WRAPPERS:
            if isinstance(content.get(name), Mapping):
                content = content[name]
                break
    entries = content.items() if isinstance(content, Mapping) else ()
    tensors = {
        key: _tensor(path, key, value)
        for key, value in entries
        if isinstance(key, str) and isinstance(value, Tensor | PickledArray)
    }
    if not tensors:
        raise MultishiftError(
            f'{path} holds no dict of tensors, neither at its top nor under '
            f'{", ".join(_WRAPPERS)}: save the state_dict of the network'
        )
    return tensors


def _tensor(path: Path, key: str, value: Tensor | PickledArray) -> Tensor:
    try:
        tensor = value.tensor() if isinstance(value, PickledArray) else value.detach()
    except (ValueError, TypeError) as error:
        raise MultishiftError(
            f'{path}: {key} is no plain array ({error}): save its tensors as safetensors'
        ) from error
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != 'cpu':
        raise MultishiftError(
            f'{path}: {key} is sparse, quantized or empty of values: save it as a dense tensor'
        )
    return tensor
