# SPDX-License-Identifier: Apache-2.0
"""Brings frames and their ground truth together, by stamp, while a bag streams by."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from multishift_perception import bags
from multishift_perception.bags import BagReader
from multishift_perception.errors import MultishiftError

# How long a frame waits, in bag time, for ground truth that its topic may still bring.
_PATIENCE_NS = 500_000_000
# Bytes of a message that its stamp is among.
_START = 64


@dataclass(frozen=True)
class BagFrame:
    """A camera frame of a bag with what belongs to it.

    Attributes:
        topic: image topic.
        message: Image or CompressedImage.
        time_ns: bag time.
        truth: ground truth labels (Image) with the same stamp, if there are.
        condition: the condition at that time; empty where unknown.
    """

    topic: str
    message: Any
    time_ns: int
    truth: Any | None
    condition: str


class _Camera:
    """What has come so far for one camera; topics of one namespace share their ground truth."""

    def __init__(self, image_topic: str, topics: dict[str, str]) -> None:
        self.labels_topic = bags.truth_topic(image_topic)
        self.condition_topic = bags.namespace_of(image_topic) + bags.TRUTH_CONDITION
        self.has_labels = topics.get(self.labels_topic) == bags.IMAGE
        self.has_conditions = topics.get(self.condition_topic) == bags.STRING
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


class TruthJoin:
    """Reads the frames of image topics, each with its ground truth.

    A stamp that several frames or several labels have does not tell which belong together: such
    frames get no ground truth.

    Attributes:
        warnings: ground truth that was not used, a line each; complete when all frames are read.
    """

    def __init__(self, reader: BagReader, image_topics: Sequence[str]) -> None:
        """Find the stamps that are not unique, by one pass over the topics with ground truth.

        Args:
            reader: the opened bag.
            image_topics: topics of it.
        """
        self._reader = reader
        self._cameras = {t: _Camera(t, reader.topics) for t in image_topics}
        labelled = {t: c.labels_topic for t, c in self._cameras.items() if c.has_labels}
        stamps = _stamps(reader, {*labelled, *labelled.values()})
        self._pairs = {t: _Pairs(stamps[t], stamps[labels]) for t, labels in labelled.items()}
        self._joined: Counter[str] = Counter()
        self.warnings = [
            f'{reader.name}: {warning}'
            for topic, pairs in self._pairs.items()
            for warning in pairs.warnings(topic, labelled[topic])
        ]

    def frames(self) -> Iterator[BagFrame]:
        """Yield the frames in bag order. Memory holds a second of the bag at most."""
        cameras = self._cameras
        by_labels: dict[str, list[_Camera]] = {}
        by_condition: dict[str, list[_Camera]] = {}
        for camera in cameras.values():
            if camera.has_labels:
                by_labels.setdefault(camera.labels_topic, []).append(camera)
            if camera.has_conditions:
                by_condition.setdefault(camera.condition_topic, []).append(camera)
        waiting: deque[tuple[str, Any, int]] = deque()
        for topic, message, time in self._reader.messages([*cameras, *by_labels, *by_condition]):
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
                yield self._frame(*waiting.popleft())
            for camera in by_labels.get(topic, ()):
                # Frames that wait are no older; of a camera that has ended, none comes to forget.
                camera.forget(time - _PATIENCE_NS)
        while waiting:
            yield self._frame(*waiting.popleft())
        self._warn_of_late()

    def _frame(self, topic: str, message: Any, time: int) -> BagFrame:
        camera = self._cameras[topic]
        stamp = bags.stamp_ns(message)
        _, truth = camera.labels.get(stamp, (0, None))
        if truth is not None and stamp in self._pairs[topic].ambiguous:
            truth = None
        self._joined[topic] += truth is not None
        frame = BagFrame(topic, message, time, truth, camera.condition(time))
        camera.forget(time)
        return frame

    def _warn_of_late(self) -> None:
        for topic, pairs in self._pairs.items():
            if late := pairs.unique - self._joined[topic]:
                self.warnings.append(
                    f'{self._reader.name}: {late} frames of {topic} are judged without their '
                    f'ground truth: in the bag it is more than {_PATIENCE_NS / 1e9:g} s away; '
                    'write each label with the bag time of its frame'
                )


class _Pairs:
    """How the stamps of a camera's frames and of its ground truth go together."""

    def __init__(self, frames: Counter[int], labels: Counter[int]) -> None:
        self._frames, self._labels = frames, labels
        shared = frames.keys() & labels.keys()
        self.ambiguous = {s for s in shared if frames[s] > 1 or labels[s] > 1}
        self.unique = len(shared) - len(self.ambiguous)

    def warnings(self, topic: str, labels_topic: str) -> Iterator[str]:
        if self.ambiguous:
            number = sum(self._frames[s] for s in self.ambiguous)
            yield (
                f'{number} of {self._frames.total()} frames of {topic} are judged without ground '
                'truth: their header stamps are not unique (one is '
                f'{min(self.ambiguous) / 1e9:.3f} s); give every frame, and its label, its own'
            )
        if number := sum(n for s, n in self._labels.items() if s not in self._frames):
            yield (
                f'{number} of {self._labels.total()} labels of {labels_topic} are not used: '
                f'no frame of {topic} has their header stamp'
            )


def _stamps(reader: BagReader, topics: set[str]) -> dict[str, Counter[int]]:
    stamps: dict[str, Counter[int]] = {topic: Counter() for topic in topics}
    for topic, _, cdr, time in reader.starts(list(topics), _START):
        try:
            stamps[topic][bags.read_stamp(cdr)] += 1
        except ValueError as error:
            raise MultishiftError(f'{reader.name}: {topic} at {time} ns: {error}') from error
    return stamps
