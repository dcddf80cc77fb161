# SPDX-License-Identifier: Apache-2.0
"""What is known of a score before torch is loaded: commands offer and refuse scores by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import pkgutil
import re
from typing import Any

from multishift_perception.errors import MultishiftError


@dataclass(frozen=True)
class Score:
    """An anomaly score; larger is more anomalous.

    Attributes:
        name: what commands and reports call it.
        source: what computes it: itself, or as ``module:attribute``, imported when it is first
            needed. It is called with a `Prediction` and returns ``float32 [B,H,W]``; that of a
            fitted score is a subclass of `FittedScore`, that of one with passes of its own takes
            a `SegmentationModel` and returns another, which has the score.
        is_fitted: whether it must be fitted on labelled images first.
        has_own_passes: whether it runs the network itself, rather than read a prediction.
        obstacle: why it cannot be part of an exported graph; None if it can.
    """

    name: str
    source: str | Callable[..., Any]
    is_fitted: bool = False
    has_own_passes: bool = False
    obstacle: str | None = None

    @property
    def needs_only_prediction(self) -> bool:
        """Whether it is read off a prediction, without anything else."""
        return not (self.is_fitted or self.has_own_passes)

    def implementation(self) -> Any:
        """Import and return what computes it.

        Raises:
            MultishiftError: it is fitted and does not say so, or the reverse.
        """
        if not isinstance(self.source, str):
            return self.source
        found = pkgutil.resolve_name(self.source)
        if fault := self._fitting_fault(found):
            raise MultishiftError(f'score {self.name}: {fault}')
        return found

    def fault(self) -> str | None:
        """Return what is wrong with it, if anything; imports nothing."""
        source: object = self.source
        if isinstance(source, str):
            if not re.fullmatch(r'[\w.]+:[\w.]+', source):
                return f'its source is {source!r}, not module:attribute'
        elif not callable(source):
            return f'its source is {source!r}, neither module:attribute nor a function'
        elif fault := self._fitting_fault(source):
            return fault
        if self.is_fitted and self.has_own_passes:
            return 'it is fitted and has passes of its own: take one of them'
        return None

    def _fitting_fault(self, implementation: object) -> str | None:
        # Scores are registered without torch, and so without `FittedScore` to compare with.
        if self.is_fitted == hasattr(implementation, 'fitting'):
            return None
        if self.is_fitted:
            return 'it is fitted, and its source no subclass of FittedScore'
        return 'its source is a FittedScore: say is_fitted=True where it is made'

    def check_exportable(self) -> None:
        """See that it can be part of an exported graph.

        Raises:
            MultishiftError: if not.
        """
        if self.obstacle is not None:
            raise MultishiftError(
                f'score {self.name} cannot be exported, as {self.obstacle}: choose another'
            )
