# SPDX-License-Identifier: Apache-2.0
"""What the page tells, and what any source of it must do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from multishift_perception.classes import SemanticClass
from multishift_perception.regions import Region
from multishift_perception.shift import UNKNOWN, Shift


class Level(IntEnum):
    """How a part is; values as in ``diagnostic_msgs/DiagnosticStatus``."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class Notice:
    """What a person should know of a part, and how bad it is."""

    level: Level
    text: str


@dataclass(frozen=True)
class CameraState:
    """What is known of a camera at this moment.

    Attributes:
        name: name of the camera.
        notice: how it is.
        rate: frames processed a second, of late.
        age: seconds since the newest result's frame was taken; None if nobody looks.
        received: frames that came.
        processed: frames whose results were shown.
        dropped: frames that were not, by cause.
        size: width and height that the regions are of; None before the first.
        regions: the anomalies of the newest frame, the largest first; None if nobody reads them.
        shift: how far the newest frame is from what the network was trained on, as far as it is
            known.
    """

    name: str
    notice: Notice
    rate: float = 0.0
    age: float | None = None
    received: int = 0
    processed: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    regions: Sequence[Region] | None = None
    shift: Shift = UNKNOWN


class Feed(Protocol):
    """Puts pictures on a board while somebody looks, and tells how the cameras are."""

    @property
    def title(self) -> str:
        """What it shows, for people."""

    @property
    def lists_are_free(self) -> bool:
        """Whether lists of anomalies cost next to nothing, so that a page may open them."""

    @property
    def classes(self) -> Sequence[SemanticClass]:
        """The known classes, in whose colours pictures are, as far as is known by now."""

    @property
    def threshold(self) -> float | None:
        """Calibrated score from which a pixel is anomalous, 0..1; None while it is not known."""

    async def set_threshold(self, value: float) -> None:
        """Change the threshold.

        Raises:
            MultishiftError: it cannot be changed; the message says why.
        """

    def notice(self) -> Notice:
        """Return how the whole is."""

    def cameras(self) -> list[CameraState]:
        """Return how each camera is."""
