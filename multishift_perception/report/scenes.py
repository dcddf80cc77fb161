# SPDX-License-Identifier: Apache-2.0
"""The worst scenes of a drive: of frames that show one scene, the worst stands for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from multishift_perception.report.frame_table import FrameRecord
from multishift_perception.report.pictures import Picture

# Frames of one camera that are closer than this, in seconds, show one scene.
APART = 5.0
# Of each stretch of time the worst frame may be chosen; shorter, as scenes begin anywhere.
STRETCH = APART / 2
# Of neighbouring ones some fall out at the end: so many times more are kept.
_SPARE = 4


@dataclass
class _Scene:
    """A frame that is kept, drawn or not yet."""

    worth: float
    record: FrameRecord
    draw: Callable[[], Picture]

    def picture(self) -> Picture:
        """Return its picture, and hold nothing else of the frame from now on."""
        picture = self.draw()
        self.draw = lambda: picture
        return picture


class WorstScenes:
    """Keeps pictures of the worst scenes while frames stream by, in bounded memory.

    Of each camera and each half of ``APART`` seconds the worst frame is kept, as far as it may be
    among the worst of all. At the end they are chosen one after the other, the worst first, and
    those less than ``APART`` from a chosen one are left out.

    Who offers frames calls `draw` after each ``STRETCH``: a frame is no sooner drawn, as a worse
    one of the same stretch may take its place, and held no longer.
    """

    def __init__(self, limit: int) -> None:
        """Start empty; ``limit`` is the number of scenes at most."""
        self._limit = limit
        self._kept: dict[tuple[str, int], _Scene] = {}

    def limit(self, scenes: int) -> None:
        """Choose no more than so many scenes from now on."""
        self._limit = min(scenes, self._limit)
        for key in sorted(self._kept, key=self._worth)[: -_SPARE * self._limit]:
            del self._kept[key]

    def offer(self, worth: float, record: FrameRecord, draw: Callable[[], Picture]) -> None:
        """Consider a frame.

        Args:
            worth: how bad it is, more than 0; others are left out.
            record: which frame it is.
            draw: returns its picture; called only if it is kept.
        """
        key = (record.camera, int(record.time // STRETCH))
        if worth <= (self._worth(key) if key in self._kept else 0.0):
            return
        if key not in self._kept and len(self._kept) >= _SPARE * self._limit:
            least = min(self._kept, key=self._worth)
            if worth <= self._worth(least):
                return
            del self._kept[least]
        self._kept[key] = _Scene(worth, record, draw)

    def draw(self) -> None:
        """Draw what is kept and not drawn yet."""
        for scene in self._kept.values():
            scene.picture()

    def chosen(self) -> list[Picture]:
        """Return the pictures of the worst scenes, the worst first."""
        chosen: list[_Scene] = []
        for key in sorted(self._kept, key=self._worth, reverse=True):
            scene = self._kept[key]
            if not any(_show_one_scene(scene.record, other.record) for other in chosen):
                chosen.append(scene)
        return [scene.picture() for scene in chosen[: self._limit]]

    def _worth(self, key: tuple[str, int]) -> float:
        return self._kept[key].worth


def _show_one_scene(one: FrameRecord, other: FrameRecord) -> bool:
    return one.camera == other.camera and abs(one.time - other.time) < APART
