# SPDX-License-Identifier: Apache-2.0
"""Draw the README's picture: what an engine makes of a rendered scene and of a real street.

    python docs/overlay.py --video solidWhiteRight.mp4

Without --video there are only the rendered scenes. Above the frames, below them with class
colours, and what the engine takes for an unknown object.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import cv2
import numpy as np
from PIL import Image

from multishift_perception.arrays import Bytes
from multishift_perception.classes import color_table
from multishift_perception.engine import Engine
from multishift_perception.overlay import draw_overlay
from multishift_perception.pipeline import Pipeline, anomaly_mask
from multishift_perception.sample_drive import random_frame

CONDITIONS = ('day', 'dusk', 'rain')
CAMERA, SHOWN = (640, 360), (448, 252)  # columns, rows
LEAST_REGION = 60  # pixels at camera size


def moment(video: Path, seconds: float) -> Bytes:
    """Return the frame of a video at a time, RGB at camera size."""
    capture = cv2.VideoCapture(str(video))
    capture.set(cv2.CAP_PROP_POS_MSEC, 1e3 * seconds)
    there, frame = capture.read()
    if not there:
        raise click.ClickException(f'{video} has no frame at {seconds:g} s')
    image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.resize(image, CAMERA, interpolation=cv2.INTER_AREA), np.uint8)


def frames(scene: int, video: Path | None, seconds: float) -> Iterator[Bytes]:
    """Yield the pictures from left to right."""
    for condition in CONDITIONS:
        yield random_frame(scene, split='demo', size=CAMERA[::-1], condition=condition).image
    if video is not None:
        yield moment(video, seconds)


@click.command()
@click.option('--video', type=click.Path(path_type=Path, exists=True))
@click.option('--seconds', default=4.0, show_default=True, help='Moment of the video.')
@click.option('--scene', default=11, show_default=True, help='Seed of the rendered scene.')
@click.option('--engine', type=click.Path(path_type=Path), help='Bundle instead of the embedded.')
@click.option('--out', type=click.Path(path_type=Path), default=Path(__file__).with_suffix('.jpg'))
def main(video: Path | None, seconds: float, scene: int, engine: Path | None, out: Path) -> None:
    """Write the picture."""
    columns = []
    with Engine.load(engine) as loaded:
        pipeline, colors = Pipeline(loaded), color_table(loaded.classes)
        for frame in frames(scene, video, seconds):
            (output,) = pipeline.run([frame])
            mask = anomaly_mask(output.anomaly, 0.5, LEAST_REGION)
            drawn = draw_overlay(frame, output.labels, mask, colors, 0.5)
            pair = (
                cv2.resize(part, SHOWN, interpolation=cv2.INTER_AREA) for part in (frame, drawn)
            )
            columns.append(np.vstack(list(pair)))
    Image.fromarray(np.hstack(columns)).save(out, quality=88)


if __name__ == '__main__':
    main()
