# SPDX-License-Identifier: Apache-2.0
"""Memory, temperature and throttling of the engine's GPU, where nvidia-ml-py is installed."""

from __future__ import annotations

from dataclasses import dataclass
import importlib
import logging
from typing import Any

from multishift_perception.engine.gpu import pci_address
from multishift_perception.errors import MultishiftError, one_line

logger = logging.getLogger(__name__)

# Why a GPU may run slower than it could, by the names that NVML gives the bits.
_THROTTLES = {
    'nvmlClocksEventReasonSwThermalSlowdown': 'heat',
    'nvmlClocksEventReasonHwThermalSlowdown': 'heat',
    'nvmlClocksEventReasonHwPowerBrakeSlowdown': 'the power supply',
    'nvmlClocksEventReasonSwPowerCap': 'its power limit',
}
# The power limit is met by any GPU that works hard.
_ORDINARY = {'its power limit'}
_SCARCE_MEMORY = 0.95


@dataclass(frozen=True)
class GpuHealth:
    """The state of a GPU.

    Attributes:
        memory_used: bytes taken, by all processes.
        memory_total: bytes that it has.
        temperature: degrees Celsius.
        slowed_by: what slows it, in words; empty if nothing does.
    """

    memory_used: int
    memory_total: int
    temperature: int
    slowed_by: tuple[str, ...]

    @property
    def trouble(self) -> str:
        """What is wrong, for people; empty if nothing is."""
        troubles = [f'the GPU is slowed by {by}' for by in self.slowed_by if by not in _ORDINARY]
        if self.memory_used > _SCARCE_MEMORY * self.memory_total:
            troubles.append(f'{self.memory_used / self.memory_total:.0%} of its memory is taken')
        at = f' at {self.temperature} degrees C' if troubles else ''
        return ', '.join(troubles) + at

    def values(self) -> dict[str, str]:
        """Return the values of a status."""
        return {
            'GPU memory used (MB)': f'{self.memory_used / 1e6:.0f}',
            'GPU memory (MB)': f'{self.memory_total / 1e6:.0f}',
            'GPU temperature (C)': str(self.temperature),
            'GPU slowed by': ', '.join(self.slowed_by) or 'nothing',
        }


class GpuMonitor:
    """Asks the driver about one GPU."""

    def __init__(self, nvml: Any, device: Any) -> None:
        """Use ``GpuMonitor.of``."""
        self._nvml = nvml
        self._device = device

    @classmethod
    def of(cls, device: str) -> GpuMonitor | None:
        """Return what watches the GPU that an engine runs on.

        Args:
            device: as PyTorch writes it: ``cpu``, ``cuda:0``.

        Returns:
            None for the CPU, and where nvidia-ml-py or the driver's library is missing.
        """
        if not device.startswith('cuda'):
            return None
        try:
            nvml: Any = importlib.import_module('pynvml')
        except ImportError:
            logger.info('no GPU state in the diagnostics: pip install nvidia-ml-py')
            return None
        try:
            nvml.nvmlInit()
            # NVML and CUDA number GPUs differently.
            address = pci_address(int(device.partition(':')[2] or 0))
            return cls(nvml, nvml.nvmlDeviceGetHandleByPciBusId(address))
        except (nvml.NVMLError, MultishiftError) as error:
            logger.warning('no GPU state in the diagnostics: %s', one_line(error))
            return None

    def read(self) -> GpuHealth | None:
        """Return the GPU's state; None where the driver does not tell."""
        nvml, device = self._nvml, self._device
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(device)
            temperature = nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)
            reasons = nvml.nvmlDeviceGetCurrentClocksEventReasons(device)
        except nvml.NVMLError:
            return None
        slowed = (words for name, words in _THROTTLES.items() if reasons & getattr(nvml, name, 0))
        return GpuHealth(memory.used, memory.total, temperature, tuple(dict.fromkeys(slowed)))
