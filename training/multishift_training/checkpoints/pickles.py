# SPDX-License-Identifier: Apache-2.0
"""Decodes pickled checkpoints without running anything that they name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
import pickle
import re
from typing import Any
import warnings
import zipfile

import numpy as np
import torch
from torch import Tensor

from multishift_perception.errors import MultishiftError

_ARRAY_CODES = {'f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1'}


class _Inert:
    """Stands for an object of numpy: remembers what it was made from, and does nothing.

    Numpy's own constructors trust the states they are given, which those of a stranger's file
    must not be.
    """

    args: tuple[Any, ...] = ()
    state: Any = ()

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


class PickledArray(_Inert):
    """A numpy array of a pickle."""

    @classmethod
    def from_buffer(cls, data: bytes, dtype: _Inert, shape: Any, order: str) -> PickledArray:
        """Make one of what pickle protocol 5 stores."""
        array = cls()
        array.state = (1, shape, dtype, order == 'F', data)
        return array

    def tensor(self) -> Tensor:
        """Return the array; it shares the memory of the decoded file, and is for reading only.

        Raises:
            ValueError: it is no little-endian array of plain numbers.
        """
        match self.state:
            case (
                _,
                tuple() as shape,
                _Inert(args=(str() as code, *_), state=(_, '<' | '|', *_)),
                fortran,
                bytes() | bytearray() as data,
            ) if code in _ARRAY_CODES:
                flat = np.frombuffer(data, code)
            case _:
                raise ValueError('no little-endian array of numbers')
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'The given NumPy array is not writable')
            return torch.from_numpy(flat.reshape(shape, order='F' if fortran else 'C'))


_STAND_INS: dict[str, Callable[..., Any]] = {
    'multiarray.scalar': _Inert,
    'multiarray._reconstruct': PickledArray,
    'numeric._frombuffer': PickledArray.from_buffer,
}
_NUMPY = {
    'numpy.dtype': _Inert,
    'numpy.ndarray': _Inert,
    # Numpy 1 named its modules otherwise than numpy 2.
    **{f'numpy.{core}.{k}': v for core in ('core', '_core') for k, v in _STAND_INS.items()},
}
_ADMITTED = {
    **_NUMPY,
    'collections.OrderedDict': OrderedDict,
    '_codecs.encode': bytes,  # bytes under old protocols; takes the same (text, encoding)
}


def read_torch_zip(path: Path) -> object:
    """Return what ``torch.save`` wrote; tensors are mapped from the file, not read into memory.

    Raises:
        MultishiftError: as of ``read_torch_legacy``, or a part differs from its checksum.
    """
    with _decoding(path):
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition('/')[2] for name in archive.namelist()}
            if 'data.pkl' not in names or 'constants.pkl' in names:
                raise MultishiftError(
                    f'{path} is a zip archive, but none of weights that torch.save wrote (perhaps '
                    'a TorchScript program): give the state_dict, saved with torch.save'
                )
            # PyTorch skips this test, and a flipped bit in a weight is found by nothing else.
            if damaged := archive.testzip():
                raise MultishiftError(
                    f'{path} is damaged (checksum of {damaged}): download it again'
                )
        return _torch_load(path, mmap=True)


def read_torch_legacy(path: Path) -> object:
    """Return what ``torch.save`` of PyTorch before 1.6 wrote.

    Raises:
        MultishiftError: the file is damaged, or holds objects of foreign classes.
    """
    with _decoding(path):
        return _torch_load(path, mmap=False)


def read_pickle(path: Path) -> object:
    """Return what ``pickle.dump`` wrote, its arrays as ``PickledArray``.

    Raises:
        MultishiftError: the file is damaged, or holds objects of foreign classes.
    """
    with _decoding(path), path.open('rb') as file:
        return _RestrictedUnpickler(file).load()


class _RestrictedUnpickler(pickle.Unpickler):
    """Knows plain containers and numbers, and stand-ins for numpy's objects."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f'{module_name}.{global_name}'
        if name not in _ADMITTED:
            raise pickle.UnpicklingError(f'GLOBAL {name}')
        return _ADMITTED[name]


def _torch_load(path: Path, *, mmap: bool) -> object:
    with torch.serialization.safe_globals([(item, name) for name, item in _NUMPY.items()]):
        return torch.load(path, map_location='cpu', weights_only=True, mmap=mmap)


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn what decoders raise over a bad file into one clear line."""
    try:
        yield
    except (MultishiftError, OSError):
        raise
    # Damaged pickles make decoders raise nearly anything, and all of it is the file's fault.
    except Exception as error:
        if foreign := re.search(r'GLOBAL (\S+)', str(error)):
            raise MultishiftError(
                f'{path} holds an object of the foreign class {foreign[1]}, which is not loaded '
                'as it could run any code: save the state_dict alone, best as safetensors'
            ) from error
        raise MultishiftError(
            f'{path} is damaged, cut short, or no checkpoint: download it again'
        ) from error
