"""Brings frames and their ground truth together while a bag streams by."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from multishift_perception import bags
from multishift_perception.bags import BagReader

# How long a frame waits, in bag time, for ground truth that its topic may still bring.
_PATIENCE_NS = 500_000_000


@dataclass(frozen=True)
class BagFrame:
    """A camera frame of a bag with what belongs to it.

    Attributes:
        topic: Image topic.
        message: Image or CompressedImage.
        kind: Type of the message.
        time_ns: Bag time.
        truth: Ground truth labels (Image) with the same stamp, if there are.
        condition: The condition at that time; empty where unknown.
    """

    topic: str
    message: Any
    kind: str
    time_ns: int
    truth: Any | None
    condition: str


class _Camera:
    """What has come so far for one camera; topics of one namespace share their ground truth."""

    def __init__(self, space: str, topics: dict[str, str]) -> None:
        self.labels_topic = space + bags.TRUTH_LABELS
        self.condition_topic = space + bags.TRUTH_CONDITION
        self.has_labels = self.labels_topic in topics
        self.has_conditions = self.condition_topic in topics
        self.labels: dict[int, tuple[int, Any]] = {}  # stamp -> bag time and message
        self.conditions: deque[tuple[int, str]] = deque()  # bag time and text

    def ready(self, stamp: int, time: int) -> bool:
        labelled = not self.has_labels or stamp in self.labels
        known = not self.has_conditions or any(t >= time for t, _ in self.conditions)
        return labelled and known

    def condition(self, time: int) -> str:
        texts = [text for t, text in self.conditions if t <= time]
        return texts[-1] if texts else ''

    def forget(self, time: int) -> None:
        """Drop what no frame from ``time`` on can need: all but the condition then in force."""
        self.labels = {s: (t, m) for s, (t, m) in self.labels.items() if t >= time - _PATIENCE_NS}
        while len(self.conditions) > 1 and self.conditions[1][0] <= time:
            self.conditions.popleft()


def joined_frames(reader: BagReader, image_topics: list[str]) -> Iterator[BagFrame]:
    """Yield the frames of image topics in bag order, each with its ground truth.

    Memory holds half a second of the bag at most.
    """
    cameras = {t: _Camera(bags.namespace_of(t), reader.topics) for t in image_topics}
    by_labels: dict[str, list[_Camera]] = {}
    by_condition: dict[str, list[_Camera]] = {}
    for camera in cameras.values():
        if camera.has_labels:
            by_labels.setdefault(camera.labels_topic, []).append(camera)
        if camera.has_conditions:
            by_condition.setdefault(camera.condition_topic, []).append(camera)
    waiting: deque[tuple[str, Any, int]] = deque()

    def take() -> BagFrame:
        topic, message, time = waiting.popleft()
        camera = cameras[topic]
        _, truth = camera.labels.get(bags.stamp_ns(message), (0, None))
        frame = BagFrame(topic, message, reader.topics[topic], time, truth, camera.condition(time))
        camera.forget(time)
        return frame

    for topic, message, time in reader.messages([*cameras, *by_labels, *by_condition]):
        for camera in by_labels.get(topic, ()):
            camera.labels[bags.stamp_ns(message)] = (time, message)
        for camera in by_condition.get(topic, ()):
            camera.conditions.append((time, message.data))
        if topic in cameras:
            waiting.append((topic, message, time))
        while waiting and (
            time - waiting[0][2] > _PATIENCE_NS
            or cameras[waiting[0][0]].ready(bags.stamp_ns(waiting[0][1]), waiting[0][2])
        ):
            yield take()
    while waiting:
        yield take()
