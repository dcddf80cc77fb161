# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ctypes

import pytest

from multishift_perception.engine import gpu
from multishift_perception.errors import MultishiftError


class FakeDriver:
    """Two GPUs, as the CUDA driver API tells of them."""

    init_status = 0

    def cuInit(self, flags):
        return self.init_status

    def cuDeviceGetCount(self, count):
        count._obj.value = 2
        return 0

    def cuDeviceGetName(self, name, size, index):
        name.value = f'GPU number {index}'.encode()
        return 0

    def cuDeviceGetAttribute(self, value, attribute, index):
        value._obj.value = {75: 8, 76: 9}[attribute] - index
        return 0

    def cuGetErrorString(self, status, text):
        text._obj.value = b'no CUDA-capable device is detected' if status == 100 else None
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    fake = FakeDriver()
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: fake)
    return fake


def test_name_and_compute_capability(driver: FakeDriver) -> None:
    assert gpu.find_gpu(0) == ('GPU number 0', '8.9')
    assert gpu.find_gpu(1) == ('GPU number 1', '7.8')


def test_index_beyond_the_last(driver: FakeDriver) -> None:
    with pytest.raises(MultishiftError, match='no GPU 2: this machine has 2'):
        gpu.find_gpu(2)


@pytest.mark.parametrize(
    ('status', 'words'),
    [(100, r'no CUDA-capable device is detected, code 100'), (999, 'unknown error, code 999')],
)
def test_driver_that_fails(driver: FakeDriver, status: int, words: str) -> None:
    driver.init_status = status
    with pytest.raises(MultishiftError, match=words):
        gpu.find_gpu(0)


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(f'{name}: cannot open shared object file')

    monkeypatch.setattr(ctypes, 'CDLL', missing)
    with pytest.raises(MultishiftError, match=r'no NVIDIA driver \(libcuda\.so\.1 is missing\)'):
        gpu.find_gpu(0)
