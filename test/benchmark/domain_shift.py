# SPDX-License-Identifier: Apache-2.0
"""Tells how well an engine tells covariate from semantic shift, on the sample drive and CamVid.

python test/benchmark/domain_shift.py BUNDLE [--scenes 24] [--camvid DATA/camvid]

On the sample drive each scene is rendered by day, in other conditions, and by day with something
put onto the road. On CamVid the frames by day are shown as they are, with something put onto the
road and with fog drawn over them, beside those at dusk; BUNDLE is to be calibrated on the train
frames by day before.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_perception.engine import Engine
from multishift_perception.images.decoding import decode_file
from multishift_perception.pipeline import Pipeline
from multishift_perception.sample_drive import CONDITIONS, cutout, random_frame
from multishift_perception.shift import Shift, ShiftMeter

_SEED = 9_000_000  # far from those of any training run
_FOOT, _HEIGHT = 0.85, 0.18  # of what is put onto the road, of the frame's height
# Fog: what is left of contrast at its distance is 5 % (Koschmieder).
_HORIZON, _CAMERA_M, _SIGHT_M, _GREY = 0.45, 1.3, 60.0, 200
_BY_DAY, _DUSK = '0016E5', '0001TP'


def with_box(image: Bytes, seed: int) -> Bytes:
    """Return a frame with a novel object on the road before the camera."""
    height, width, _ = image.shape
    thing = cutout(np.random.default_rng(seed), split='demo', height=round(_HEIGHT * height))
    rows, columns, _ = thing.shape
    top, left = round(_FOOT * height) - rows, (width - columns) // 2
    part = np.s_[top : top + rows, left : left + columns]
    alpha = thing[..., 3:] / 255
    result = image.copy()
    result[part] = alpha * thing[..., :3] + (1 - alpha) * image[part]
    return result


def with_fog(image: Bytes) -> Bytes:
    """Return a frame in fog of 60 m, the ground taken for a plane below a middle horizon."""
    height, width, _ = image.shape
    rows = np.arange(height) - _HORIZON * height
    metres = np.where(rows > 0, width * _CAMERA_M / np.maximum(rows, 1), np.inf)
    seen = np.exp(-3 * np.minimum(metres, 1e3) / _SIGHT_M)[:, None, None]
    return np.asarray(seen * image + (1 - seen) * _GREY, np.uint8)


def auroc(ordinary: list[float], other: list[float]) -> float:
    """Return how often one of the others is larger than an ordinary one; ties count half."""
    a, b = np.array(ordinary)[:, None], np.array(other)[None]
    return float((a < b).mean() + (a == b).mean() / 2)


def main() -> None:
    """Print a line for each condition."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('bundle', type=Path)
    parser.add_argument('--scenes', type=int, default=24)
    parser.add_argument('--camvid', type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with Engine.load(arguments.bundle) as engine:
        if engine.look is None:
            raise SystemExit(f'{arguments.bundle} does not know how its training images look')
        pipeline, meter = Pipeline(engine), ShiftMeter(engine.classes)

        def measure(image: Bytes) -> Shift:
            return meter.measure(pipeline.run([image])[0], 0.5)

        if arguments.camvid:
            groups: dict[str, list[Shift]] = {name: [] for name in ('day', 'box', 'fog')}
            for seed, image in enumerate(_camvid(arguments.camvid / 'val', _BY_DAY)):
                groups['day'].append(measure(image))
                groups['box'].append(measure(with_box(image, seed)))
                groups['fog'].append(measure(with_fog(image)))
            dusk = _camvid(arguments.camvid / 'train', _DUSK)
            groups['dusk'] = [measure(image) for image in dusk]
        else:
            groups = {name: [] for name in ('day', 'box', *CONDITIONS[1:])}
            for seed in range(_SEED, _SEED + arguments.scenes):
                for condition in CONDITIONS:
                    frame = random_frame(seed, split='demo', condition=condition).image
                    groups[condition].append(measure(frame))
                    if condition == 'day':
                        groups['box'].append(measure(with_box(frame, seed)))
    day = groups['day']
    print('condition  frames  covariate: median  AUROC  semantic: median  AUROC')
    for name, shifts in groups.items():
        figures = [
            (np.median([s[i] for s in shifts]), auroc([s[i] for s in day], [s[i] for s in shifts]))
            for i in range(2)
        ]
        (covariate, first), (semantic, second) = figures
        print(
            f'{name:9}  {len(shifts):6}  {covariate:17.2f}  {first:.3f}  '
            f'{semantic:16.4f}  {second:.3f}'
        )


def _camvid(folder: Path, drive: str) -> Iterator[Bytes]:
    images = folder.parent / 'images' / folder.name
    for file in sorted(images.glob(f'{drive}*')):
        yield decode_file(file.read_bytes())


if __name__ == '__main__':
    main()
