"""Why a frame cannot be used."""

from __future__ import annotations


class FrameError(Exception):
    """A frame that cannot be used.

    Attributes:
        cause: the short name under which such frames are counted.
    """

    cause: str


class UnsupportedEncoding(FrameError):
    """The frame is in an encoding that nothing here decodes."""

    cause = 'encoding'


class BrokenFrame(FrameError):
    """The frame's fields contradict each other, or its bytes are damaged."""

    cause = 'broken'


class OversizedFrame(FrameError):
    """The frame has more pixels than a camera's: decoding it would hold up all others."""

    cause = 'oversized'
