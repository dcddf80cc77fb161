# SPDX-License-Identifier: Apache-2.0
"""How much of the engine's frame rate is left to `multishift replay`, and how its memory grows.

    python test/benchmark/replay_rate.py --json replay_rate.json

The same frames, decoded beforehand and of the engine's size, through the engine alone, then the
bag that they are of through a whole replay with all metrics, in turn, in one process. The engine
alone is what nothing can be faster than: without decoding, resizing, truth or metrics. At last,
what the rest costs: a replay with an engine that gives the answers of the one before from memory.
"""

from __future__ import annotations

import argparse
from copy import deepcopy
import json
from pathlib import Path
import tempfile
import time
from typing import Any

import numpy as np

from multishift_perception.bags import BagReader, choose_topics
from multishift_perception.bags.from_sample_drive import write_sample_bag
from multishift_perception.engine import Engine, EngineOutput
from multishift_perception.images.codec import decode
from multishift_perception.images.resizing import fit
from multishift_perception.progress import set_quiet
from multishift_perception.replay import Replay, Settings


def resident_mb() -> float:
    """Return the memory of this process that is in use now."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * 4096 / 1e6


def engine_rate(engine: Engine, frames: np.ndarray, count: int) -> tuple[float, float]:
    """Return frames a second of the engine alone, and CPU milliseconds of each."""
    batch = engine.input_shape[0]
    start, cpu = time.perf_counter(), time.process_time()
    for i in range(0, count, batch):
        engine.infer(frames[[(i + j) % len(frames) for j in range(batch)]])
    done = -(-count // batch) * batch
    used = time.process_time() - cpu
    return done / (time.perf_counter() - start), used / done * 1e3


def replay_rate(engine: Engine, bag: Path, record: Path | None) -> tuple[float, float]:
    """Return frames a second of a replay, and CPU milliseconds of each."""
    with BagReader(bag) as reader:
        start, cpu = time.perf_counter(), time.process_time()
        report = Replay(reader, engine, Settings(), record=record).run().report
        frames = report.overall.frames
        used = time.process_time() - cpu
        return frames / (time.perf_counter() - start), used / frames * 1e3


def rest_ms(engine: Engine, bag: Path, rounds: int) -> list[float]:
    """Return CPU milliseconds of a frame's replay but for the engine's calls, of each round."""
    infer, said = engine.infer, []

    def remember(frames: np.ndarray) -> EngineOutput:
        found = infer(frames)
        said.append(deepcopy(found))
        return found

    engine.infer = remember  # type: ignore[method-assign]
    replay_rate(engine, bag, None)
    found = []
    for _ in range(rounds):
        answers = iter(said)
        engine.infer = lambda frames, a=answers: next(a)  # type: ignore[method-assign, misc]
        found.append(replay_rate(engine, bag, None)[1])
    engine.infer = infer  # type: ignore[method-assign]
    return found


def main() -> None:
    """Measure in turn, and print medians with the least and the largest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--bag', type=Path, help='default: a sample drive')
    parser.add_argument('--engine', type=Path, help='bundle; default: the embedded one')
    parser.add_argument('--seconds', type=float, default=24.0, help='of the sample drive')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--record', action='store_true', help='write the outputs as well')
    parser.add_argument('--json', type=Path)
    options = parser.parse_args()
    set_quiet(True)
    with tempfile.TemporaryDirectory() as folder, Engine.load(options.engine) as engine:
        bag = options.bag or Path(folder) / 'drive.mcap'
        if options.bag is None:
            write_sample_bag(bag, seconds=options.seconds)
        record = Path(folder) / 'recorded.mcap' if options.record else None
        size = engine.input_shape[1:]
        with BagReader(bag) as reader:
            topics = list(choose_topics(reader))
            count = reader.count(topics)
            messages = (message for _, message, _ in reader.messages(topics))
            some = [fit(decode(m), size) for m, _ in zip(messages, range(16), strict=False)]
        frames = np.stack(some)
        rounds: list[dict[str, float]] = []
        for _ in range(options.rounds):
            alone, alone_ms = engine_rate(engine, frames, count)
            whole, whole_ms = replay_rate(engine, bag, record)
            rounds.append(
                {
                    'engine, frames a second': alone,
                    'replay, frames a second': whole,
                    'replay of engine': whole / alone,
                    'engine, CPU ms a frame': alone_ms,
                    'replay, CPU ms a frame': whole_ms,
                    'resident MB after': resident_mb(),
                }
            )
        for one, rest in zip(rounds, rest_ms(engine, bag, options.rounds), strict=True):
            one['replay without engine calls, CPU ms a frame'] = rest
    found: dict[str, Any] = {'frames': count, 'rounds': rounds}
    print(f'{count} frames, {options.rounds} rounds')
    for name in rounds[0]:
        values = np.array([one[name] for one in rounds])
        print(f'{name}: {np.median(values):.3g} ({values.min():.3g} to {values.max():.3g})')
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + '\n')


if __name__ == '__main__':
    main()
