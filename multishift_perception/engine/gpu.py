# SPDX-License-Identifier: Apache-2.0
"""What the NVIDIA driver says of a GPU; asked directly, so that no large library is loaded."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from multishift_perception.errors import MultishiftError

_DRIVER = 'libcuda.so.1'
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...


class Gpu(NamedTuple):
    """A GPU.

    Attributes:
        name: as its maker calls it, for example ``NVIDIA H200``.
        compute_capability: for example ``9.0``.
    """

    name: str
    compute_capability: str


def find_gpu(index: int) -> Gpu:
    """Return the GPU of an index.

    Raises:
        MultishiftError: there is no driver, it does not work, or it has no such GPU.
    """
    driver = _driver_with(index)
    name = ctypes.create_string_buffer(256)
    _call(driver, driver.cuDeviceGetName, name, len(name), index)
    capability = '.'.join(str(_attribute(driver, a, index)) for a in (_MAJOR, _MINOR))
    return Gpu(name.value.decode(), capability)


def pci_address(index: int) -> str:
    """Return where the GPU of an index sits, such as ``0000:01:00.0``, as all libraries name it.

    Raises:
        MultishiftError: as for `find_gpu`.
    """
    driver = _driver_with(index)
    address = ctypes.create_string_buffer(32)
    _call(driver, driver.cuDeviceGetPCIBusId, address, len(address), index)
    return address.value.decode()


def _driver_with(index: int) -> Any:
    """Return the driver's library, initialised; it has a GPU of this index."""
    try:
        driver: Any = ctypes.CDLL(_DRIVER)
    except OSError:
        raise MultishiftError(f'there is no NVIDIA driver ({_DRIVER} is missing)') from None
    _call(driver, driver.cuInit, 0)
    count = ctypes.c_int()
    _call(driver, driver.cuDeviceGetCount, ctypes.byref(count))
    if index >= count.value:
        raise MultishiftError(f'there is no GPU {index}: this machine has {count.value}')
    return driver


def _attribute(driver: Any, attribute: int, index: int) -> int:
    value = ctypes.c_int()
    _call(driver, driver.cuDeviceGetAttribute, ctypes.byref(value), attribute, index)
    return value.value


def _call(driver: Any, function: Any, *arguments: Any) -> None:
    if status := function(*arguments):
        text = ctypes.c_char_p()
        driver.cuGetErrorString(status, ctypes.byref(text))
        words = text.value.decode() if text.value else 'unknown error'
        raise MultishiftError(f'the NVIDIA driver fails ({words}, code {status})')
