# SPDX-License-Identifier: Apache-2.0
"""Why a frame cannot be used."""

from __future__ import annotations

from multishift_perception.frame_tally import Drop


class FrameError(Exception):
    """A frame that cannot be used.

    Attributes:
        cause: the short name under which such frames are counted.
    """

    cause: Drop


class UnsupportedEncoding(FrameError):
    """The frame is in an encoding that nothing here decodes."""

    cause = Drop.ENCODING


class BrokenFrame(FrameError):
    """The frame's fields contradict each other, or its bytes are damaged."""

    cause = Drop.BROKEN


class OversizedFrame(FrameError):
    """The frame has more pixels than a camera's: decoding it would hold up all others."""

    cause = Drop.OVERSIZED
