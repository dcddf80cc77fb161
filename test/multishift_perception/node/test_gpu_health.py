# SPDX-License-Identifier: Apache-2.0
"""The state of a GPU by a library that is made up: none is needed."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from multishift_perception.node import gpu_health
from multishift_perception.node.gpu_health import GpuHealth, GpuMonitor

HEAT, POWER = 0x40, 0x4


class NVMLError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch):
    asked = []
    library = SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        nvmlClocksEventReasonHwThermalSlowdown=HEAT,
        nvmlClocksEventReasonSwPowerCap=POWER,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByPciBusId=lambda address: asked.append(address) or 'handle',
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(used=2e9, total=8e9),
        nvmlDeviceGetTemperature=lambda handle, sensor: 71,
        nvmlDeviceGetCurrentClocksEventReasons=lambda _: HEAT | POWER,
        asked=asked,
    )
    monkeypatch.setitem(sys.modules, 'pynvml', library)
    monkeypatch.setattr(gpu_health, 'pci_address', lambda index: f'0000:0{index}:00.0')
    return library


def test_memory_temperature_and_throttling(nvml):
    health = GpuMonitor.of('cuda:1').read()
    assert nvml.asked == ['0000:01:00.0']
    assert health.trouble == 'the GPU is slowed by heat at 71 degrees C'
    assert health.values() == {
        'GPU memory used (MB)': '2000',
        'GPU memory (MB)': '8000',
        'GPU temperature (C)': '71',
        'GPU slowed by': 'heat, its power limit',
    }


def test_a_power_limit_is_no_trouble_and_little_memory_is():
    assert GpuHealth(2, 8, 60, ('its power limit',)).trouble == ''
    assert GpuHealth(97, 100, 60, ()).trouble == '97% of its memory is taken at 60 degrees C'


def test_a_driver_that_fails_is_survived(nvml):
    monitor = GpuMonitor.of('cuda:0')

    def fail(_):
        raise NVMLError

    nvml.nvmlDeviceGetMemoryInfo = fail
    assert monitor.read() is None
    nvml.nvmlInit = lambda: fail(None)
    assert GpuMonitor.of('cuda:0') is None


def test_nothing_is_asked_without_gpu_or_library(monkeypatch):
    assert GpuMonitor.of('cpu') is None
    monkeypatch.setitem(sys.modules, 'pynvml', None)
    assert GpuMonitor.of('cuda:0') is None
