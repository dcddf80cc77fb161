# SPDX-License-Identifier: Apache-2.0
"""How much of ordinary footage scores how high, whatever a few frames of it show.

For a threshold `t` let `s_i(t)` be the share of frame `i` that scores `t` or more. Without true
anomalies their mean is the pooled share, every frame counting alike. A true anomaly makes the
share of its frames large, and through them the mean, by as much as it covers. A quantile of the
frames' shares would not mind, but is no estimate of the mean: shares are skewed, most false alarms
being those of few frames, and the threshold would come out too low. So the mean stays, of shares
that are cut off at a multiple of their upper quartile (a one-sided Winsorised mean):

    S(t) = mean_i min(s_i(t), 2 Q(t)),   Q(t) the upper quartile of all s_i(t)

Ordinary frames seldom reach the limit, so that little is lost of what they have, and a frame with
an anomaly counts for two busy frames at most, however large the anomaly is. S falls with t.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from multishift_perception.engine import Calibration

LIMIT = 2.0
_QUARTILE = 0.75
# One step is 1 %: as near as shares of footage mean anything.
_SHARES = np.geomspace(1e-6, 1.0, 1400)
_LEVELS = 256


class FrameShares:
    """What share of each frame scores a threshold or more, for any threshold, to 1 % of it."""

    def __init__(self) -> None:
        """Start empty."""
        self._rows: list[NDArray[np.float32]] = []
        self.pixels = 0

    def add(self, score: NDArray[np.float32]) -> None:
        """Add a frame: raw scores ``float32 [h,w]``, finite."""
        falling = np.sort(score, axis=None)[::-1]
        ranks = np.ceil(_SHARES * falling.size).astype(int)
        self._rows.append(falling[ranks - 1])
        self.pixels += falling.size
        self.__dict__.pop('_tails', None)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._rows)

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest score."""
        return float(self._tails.min()), float(self._tails.max())

    def of_frames(self, threshold: float) -> NDArray[np.float64]:
        """Return the share of each frame that scores ``threshold`` or more, ``float64 [F]``."""
        reached = np.count_nonzero(self._tails >= threshold, axis=1)
        return np.where(reached > 0, _SHARES[reached - 1], 0.0)

    def robust(self, threshold: float) -> float:
        """Return the share of ordinary pixels that score ``threshold`` or more (S, above)."""
        shares = self.of_frames(threshold)
        return float(np.minimum(shares, limit_of(shares)).mean())

    def threshold(self, share: float) -> float:
        """Return the lowest score that no more than ``share`` of the ordinary pixels reach."""
        low, high = self.range
        above = float(np.nextafter(np.float32(high), np.float32(np.inf)))
        while True:
            middle = float(np.float32((low + above) / 2))
            if not low < middle < above:
                return above
            if self.robust(middle) > share:
                low = middle
            else:
                above = middle

    def distribution(self, calibration: Calibration) -> NDArray[np.float64]:
        """Return the share of all pixels at each level of the anomaly, ``float64 [256]``."""
        weights = np.broadcast_to(np.diff(_SHARES, prepend=0.0), self._tails.shape)
        levels = calibration.anomaly(self._tails)
        counts = np.bincount(levels.ravel(), weights.ravel(), minlength=_LEVELS)
        return np.asarray(counts / len(self), np.float64)

    @cached_property
    def _tails(self) -> NDArray[np.float32]:
        """Score that each share of a frame reaches, falling along a row."""
        return np.stack(self._rows)


def limit_of(shares: NDArray[np.float64]) -> float:
    """Return the share above which a frame counts no more than this."""
    return LIMIT * float(np.quantile(shares, _QUARTILE))
