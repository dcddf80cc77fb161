"""What is known of a score before torch is loaded: commands offer and refuse scores by it."""

from __future__ import annotations

from dataclasses import dataclass
import pkgutil
from typing import Any

from multishift_perception.errors import MultishiftError


@dataclass(frozen=True)
class Score:
    """An anomaly score; larger is more anomalous.

    Attributes:
        name: what commands and reports call it.
        source: what computes it, as ``module:attribute``, imported when it is first needed. It is
            called with a `Prediction` and returns ``float32 [B,H,W]``; that of a fitted score is
            a subclass of `FittedScore`, that of one with passes of its own takes a
            `SegmentationModel` and returns another, which has the score.
        is_fitted: whether it must be fitted on labelled images first.
        has_own_passes: whether it runs the network itself, rather than read a prediction.
        obstacle: why it cannot be part of an exported graph; None if it can.
    """

    name: str
    source: str
    is_fitted: bool = False
    has_own_passes: bool = False
    obstacle: str | None = None

    def implementation(self) -> Any:
        """Import and return what computes it."""
        return pkgutil.resolve_name(self.source)

    def check_exportable(self) -> None:
        """See that it can be part of an exported graph.

        Raises:
            MultishiftError: if not.
        """
        if self.obstacle is not None:
            raise MultishiftError(
                f'score {self.name} cannot be exported, as {self.obstacle}: choose another'
            )
