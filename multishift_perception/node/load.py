# SPDX-License-Identifier: Apache-2.0
"""What the cameras ask of the engine, what it does, and what would fit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """The work at hand.

    Attributes:
        cameras: how many send at present.
        demand_hz: frames per second that they send together.
        capacity_hz: frames per second that fit, by what recent turns took; None if unknown.
        largest_call: frames of the engine's largest call.
        on_gpu: whether the engine runs on a GPU, which does several frames faster together.
    """

    cameras: int
    demand_hz: float
    capacity_hz: float | None
    largest_call: int
    on_gpu: bool

    @property
    def advice(self) -> str:
        """What is asked and what fits, and the ways to mend it; empty where all of it fits."""
        if self.capacity_hz is None or self.demand_hz <= self.capacity_hz:
            return ''
        senders = f'{self.cameras} cameras send' if self.cameras > 1 else 'the camera sends'
        each = ' each' if self.cameras > 1 else ''
        ways = [f'lower the rate to {self.capacity_hz / self.cameras:.1f} Hz{each}']
        if self.cameras > 1:
            fewer = int(self.capacity_hz / (self.demand_hz / self.cameras))
            ways.append(f'watch {max(fewer, 1)} of them')
        if self.on_gpu and self.cameras > self.largest_call:
            ways.append(f'build the engine with --batch {self.cameras} too')
        ways.append('take a smaller or faster engine')
        return (
            f'{senders} {self.demand_hz:.1f} frames/s, {self.capacity_hz:.1f} fit: '
            f'{", ".join(ways[:-1])}, or {ways[-1]}'
        )
