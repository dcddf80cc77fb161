# SPDX-License-Identifier: Apache-2.0
"""How fast the procedural generator paints, and where the CPU time goes; on one core.

    python test/benchmark/procedural.py [IMAGES]

At 1024x2048: a frame of the sample drive, enlarged, and blocks of all 19 classes, each with an
object on the road. The steps are timed inside the same runs; what they do not cover is `else`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
import statistics
import sys
import time
from typing import Any

import cv2
import numpy as np
from tqdm import trange

from multishift_perception.arrays import Bytes
from multishift_perception.classes import NOVEL, VOID
from multishift_perception.sample_drive import cutout, random_frame
from multishift_training.augmentation.config import ProceduralGenerator
from multishift_training.augmentation.parts import Composition, NovelObject, Scene
from multishift_training.augmentation.procedural import (
    Procedural,
    air,
    camera,
    detail,
    foliage,
    light,
    novel,
    sky,
    surfaces,
    things,
)

SIZE = (1024, 2048)
STEPS = (
    (foliage, 'without_specks'),
    (surfaces, 'paint'),
    (sky, 'paint'),
    (things, 'find'),
    (things, 'paint'),
    (detail, 'recolored'),
    (novel, 'paint'),
    (light, 'falling'),
    (light, 'shine'),
    (air, 'snowed'),
    (air, 'mirrored'),
    (air, 'hazy'),
    (foliage, 'let_sky_through'),
    (air, 'falling'),
    (camera, 'exposed'),
    (camera, 'taken'),
)


def composed(name: str, image: Bytes, labels: Bytes) -> Composition:
    """Return a scene with an object before the camera."""
    picture = cutout(np.random.default_rng(0), split='train', height=300)
    shape = picture[..., 3] >= 128
    mask = np.zeros(SIZE, bool)
    mask[600 : 600 + shape.shape[0], 900 : 900 + shape.shape[1]] = shape[:, : SIZE[1] - 900]
    marked = labels.copy()
    marked[mask] = NOVEL
    thing = NovelObject('object', 'sample', shape, np.ascontiguousarray(picture[..., :3]), None)
    return Composition(Scene(name, image, labels), thing, marked, mask)


def scenes() -> list[Composition]:
    """Return what is painted."""
    frame = random_frame(7, condition='day')
    image = cv2.resize(frame.image, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    labels = cv2.resize(frame.labels, SIZE[::-1], interpolation=cv2.INTER_NEAREST)
    labels[labels == NOVEL] = VOID
    blocks = (
        np.random.default_rng(0).integers(0, 19, (16, 32), np.uint8).repeat(64, 0).repeat(64, 1)
    )
    blocks[600:] = 0
    return [
        composed('sample drive', np.asarray(image, np.uint8), np.asarray(labels, np.uint8)),
        composed('all classes', np.asarray(image, np.uint8), blocks),
    ]


def timed(spent: dict[str, float], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that adds its time to what a step has spent."""

    def run(*given: Any) -> Any:
        start = time.process_time()
        result = function(*given)
        spent[name] += time.process_time() - start
        return result

    return run


def main(images: int) -> None:
    """Print Markdown tables."""
    cv2.setNumThreads(1)
    spent: dict[str, float] = defaultdict(float)
    for module, step in STEPS:
        name = f'{module.__name__.rpartition(".")[2]}.{step}'
        setattr(module, step, timed(spent, name, getattr(module, step)))
    painter = Procedural(ProceduralGenerator(kind='procedural'))
    print('| scene | CPU time, least | median | most | wall time, median |')
    print('|---|---|---|---|---|')
    whole = 0.0
    for scene in scenes():
        times, waits = [], []
        for number in trange(images, unit='image', leave=False):
            start, begin = time.process_time(), time.perf_counter()
            painter.generate([scene], [np.random.SeedSequence(number)])
            times.append(time.process_time() - start)
            waits.append(time.perf_counter() - begin)
        whole += sum(times)
        shown = (min(times), statistics.median(times), max(times), statistics.median(waits))
        print(f'| {scene.scene.name} | ' + ' | '.join(f'{1e3 * t:.0f} ms' for t in shown) + ' |')
    print('\n| step | of the time |\n|---|---|')
    spent['else'] = whole - sum(spent.values())
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f'| {name} | {seconds / whole:.1%} |')


if __name__ == '__main__':
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 24)
