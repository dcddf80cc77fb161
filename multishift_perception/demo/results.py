# SPDX-License-Identifier: Apache-2.0
"""Reads a recorded run: outputs joined with frames and ground truth, and where frames went."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multishift_perception import bags
from multishift_perception.bags import BagReader
from multishift_perception.bags.truth_join import BagFrame, TruthJoin
from multishift_perception.demo.graph import GraphRun
from multishift_perception.demo.restamp import PlayStamps
from multishift_perception.errors import MultishiftError
from multishift_perception.frame_tally import FrameTally
from multishift_perception.outputs import DIAGNOSTICS, NODE, Output

# What is waited for, and of that what is judged by its pixels.
TIMED = frozenset(output for output in Output if output.recorded and output.is_image)
IMAGES = frozenset(output for output in TIMED if output.kind == bags.IMAGE)

# The outputs of a frame that come later than this after its stamp are taken for lost.
_PATIENCE_NS = 5_000_000_000


@dataclass
class Outputs:
    """What the node published for one frame.

    Attributes:
        messages: by output: those of ``IMAGES``, each an Image.
        latency_ms: by output: receipt by the recorder less the frame's stamp, milliseconds.
    """

    messages: dict[Output, Any] = field(default_factory=dict)
    latency_ms: dict[Output, float] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every output that is waited for has come."""
        return self.latency_ms.keys() >= TIMED


class OutputReader:
    """Finds the outputs of a frame while the results bag streams by, in bounded memory."""

    def __init__(self, bag: BagReader, cameras: list[str]) -> None:
        """Begin at the start of the opened bag."""
        self._keys = {o.topic_of(c, NODE): (c, o) for c in cameras for o in TIMED}
        topics = [topic for topic in self._keys if topic in bag.topics]
        self._stream = bag.messages(topics)
        self._waiting: dict[tuple[str, int], Outputs] = {}
        self._time = 0

    def take(self, camera: str, stamp_ns: int) -> Outputs | None:
        """Return the outputs for a stamp, None if they are incomplete; ask in order of time."""
        key = (camera, stamp_ns)
        while not self._has(key) and self._time < stamp_ns + _PATIENCE_NS:
            if not self._advance():
                break
        # Another camera's frames of the same time may have earlier stamps.
        self._waiting = {
            k: v for k, v in self._waiting.items() if k[0] != camera or k[1] >= stamp_ns
        }
        outputs = self._waiting.pop(key, None)
        return outputs if outputs and outputs.complete else None

    def _has(self, key: tuple[str, int]) -> bool:
        return key in self._waiting and self._waiting[key].complete

    def _advance(self) -> bool:
        following = next(self._stream, None)
        if following is None:
            return False
        topic, message, self._time = following
        camera, output = self._keys[topic]
        stamp = bags.stamp_ns(message)
        outputs = self._waiting.setdefault((camera, stamp), Outputs())
        outputs.latency_ms[output] = (self._time - stamp) / 1e6
        if output in IMAGES:
            outputs.messages[output] = message
        return True


def frames_with_outputs(
    join: TruthJoin, stamps: PlayStamps, results: BagReader, run: GraphRun
) -> Iterator[tuple[str, BagFrame, Outputs | None]]:
    """Yield camera name, frame with ground truth, and outputs (None if dropped), by frame."""
    names = {camera.image_topic: camera.name for camera in run.sources}
    reader = OutputReader(results, list(names.values()))
    for frame in join.frames():
        stamp = stamps.of(frame.topic, bags.stamp_ns(frame.message), frame.time_ns)
        outputs = reader.take(names[frame.topic], stamp + run.offset_ns)
        yield names[frame.topic], frame, outputs


def score_of(message: Any) -> NDArray[np.float32]:
    """Return the pixels ``float32 [h,w]`` of an Image in 32FC1 as our node writes it."""
    return np.frombuffer(message.data, np.dtype('<f4')).reshape(message.height, message.width)


def last_status(results: BagReader) -> dict[str, dict[str, str]]:
    """Return key and value pairs by status name, as the node's last diagnostics gave them.

    Raises:
        MultishiftError: the node sent no diagnostics.
    """
    topics = [topic for topic in results.topics if topic == DIAGNOSTICS]
    last = deque(results.messages(topics), maxlen=1)
    if not last:
        raise MultishiftError(f'{results.name}: no message on {DIAGNOSTICS}; did the node run?')
    _, message, _ = last[0]
    return {s.name: {pair.key: pair.value for pair in s.values} for s in message.status}


def where_frames_went(status: dict[str, str], *, sent: int, received: int) -> dict[str, int]:
    """Return the frames without outputs by cause.

    Args:
        status: of the camera, from ``last_status``.
        sent: frames that the player published.
        received: frames whose outputs the recorder has.
    """
    tally = FrameTally.read(status)
    causes = {
        **tally.dropped,
        'lost before the node': sent - tally.received,
        'lost after the node': tally.processed - received,
    }
    return {cause: count for cause, count in causes.items() if count}
