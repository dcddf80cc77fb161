# SPDX-License-Identifier: Apache-2.0
"""Runs a bag through the node in a real ROS graph and records what comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import json
from pathlib import Path
import time

from multishift_perception import bags
from multishift_perception.demo.environment import graph_environment
from multishift_perception.demo.player import PLAYING
from multishift_perception.demo.processes import Process, Processes
from multishift_perception.errors import MultishiftError
from multishift_perception.node.await_active import PATIENCE_S
from multishift_perception.outputs import NODE
from multishift_perception.progress import Bar, bar

# Longer than the node's diagnostics period: the last status counts every frame.
_DRAIN_S = 1.6


@dataclass(frozen=True)
class Source:
    """A camera of a bag: its name in the node, and its topics in the bag."""

    name: str
    image_topic: str
    kind: str
    info_topic: str | None

    @property
    def node_parameters(self) -> dict[str, str]:
        """The node's parameters for this camera."""
        compressed = self.kind == bags.COMPRESSED_IMAGE
        return {
            f'cameras.{self.name}.image_topic': bags.raw_topic(self.image_topic),
            f'cameras.{self.name}.transport': 'compressed' if compressed else 'raw',
        }


@dataclass(frozen=True)
class NodeSettings:
    """How the node runs.

    Attributes:
        engine: an engine bundle; None for the embedded one.
        backend: ``auto`` or one of the bundle's backends.
        device: index of the GPU, where the backend uses one.
        threshold: of the anomaly mask, 0..1 on the calibrated scale.
    """

    engine: Path | None = None
    backend: str = 'auto'
    device: int = 0
    threshold: float = 0.5

    @property
    def parameters(self) -> dict[str, str]:
        """The node's parameters."""
        return {
            'engine_bundle': str(self.engine.resolve()) if self.engine else '',
            'backend': self.backend,
            'device': str(self.device),
            'anomaly_threshold': repr(float(self.threshold)),
        }


@dataclass(frozen=True)
class GraphRun:
    """What a run left.

    Attributes:
        results: the bag of outputs; its times are those of receipt.
        offset_ns: what the player added to the source's times.
        sent: messages that the player sent, by topic.
        latest_ms: how late the player sent its latest message.
        sources: the cameras.
        logs: folder of what the processes said.
    """

    results: Path
    offset_ns: int
    sent: dict[str, int]
    latest_ms: float
    sources: tuple[Source, ...]
    logs: Path


def find_sources(
    bag: bags.BagReader, *, cameras: Sequence[str] = (), topics: Sequence[str] = ()
) -> tuple[Source, ...]:
    """Return some of the bag's cameras, or all for none; see ``bags.choose_topics``.

    Raises:
        MultishiftError: the bag has no camera, or not that one, or two topics are one camera's.
    """
    found: dict[str, Source] = {}
    for topic, kind in bags.choose_topics(bag, cameras=cameras, topics=topics).items():
        name = bags.camera_name(topic)
        if name in found:
            raise MultishiftError(
                f'{bag.name}: {found[name].image_topic} and {topic} are both of camera {name}: '
                'choose with --topic, once for each camera'
            )
        info = bags.info_topic(topic)
        found[name] = Source(name, topic, kind, info if info in bag.topics else None)
    return tuple(found.values())


def run_graph(
    bag_path: Path, sources: Sequence[Source], *, settings: NodeSettings, results: Path, logs: Path
) -> GraphRun:
    """Play a bag through the node over DDS and record the outputs, with a progress bar.

    Args:
        bag_path: the bag.
        sources: its cameras to play.
        settings: of the node.
        results: the bag of outputs to write.
        logs: folder for what the processes say.

    Raises:
        MultishiftError: a process failed; the error has the end of its log.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with bags.BagReader(bag_path) as bag:
        duration = bag.duration
    topics = [t for s in sources for t in (s.image_topic, s.info_topic) if t]
    with Processes(logs=logs, environment=graph_environment()) as processes:
        arguments = node_arguments(sources, settings)
        node = processes.start('multishift_perception.node.main', *arguments)
        recorder = processes.start(
            'multishift_perception.demo.recorder', str(results), *(s.name for s in sources)
        )
        player = processes.start(
            'multishift_perception.demo.player', str(bag_path), *topics, '--after', NODE
        )
        seconds = round(duration)
        with bar('drive', seconds, unit='s') as shown:
            tick = _ticker(player, shown, seconds)
            processes.wait(player, patience_s=2 * PATIENCE_S + 2 * duration, tick=tick)
        time.sleep(_DRAIN_S)
        processes.stop(recorder)
        processes.stop(node)
    played = json.loads(player.out.read_text().splitlines()[-1])
    return GraphRun(results, sources=tuple(sources), logs=logs, **played)


def node_arguments(sources: Sequence[Source], settings: NodeSettings) -> list[str]:
    """Return the node's command line."""
    parameters = {
        **settings.parameters,
        'camera_names': json.dumps([source.name for source in sources]),
    }
    for source in sources:
        parameters |= source.node_parameters
    pairs = (f'{name}:={value or repr(value)}' for name, value in parameters.items())
    return ['--ros-args', *(word for pair in pairs for word in ('-p', pair))]


def _ticker(player: Process, shown: Bar, seconds: int) -> Callable[[], None]:
    """Return what moves the bar on, up to ``seconds``, while the player plays."""
    began: list[float] = []

    def tick() -> None:
        if not began and PLAYING in player.out.read_text():
            began.append(time.monotonic())
        if began:
            shown.update(min(round(time.monotonic() - began[0]), seconds) - shown.n)

    return tick
