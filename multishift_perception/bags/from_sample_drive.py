# SPDX-License-Identifier: Apache-2.0
"""The sample drive as a bag: two cameras, weather and light that change, ground truth."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from multishift_perception import bags
from multishift_perception.progress import track
from multishift_perception.sample_drive import CAMERAS, Drive


def write_sample_bag(
    out: Path,
    *,
    seed: int = 7,
    seconds: float = 48.0,
    rate: float = 5.0,
    size: tuple[int, int] = (360, 640),
) -> int:
    """Render a drive into a bag; the same arguments give the same bytes.

    Args:
        out: bag to write, ``.mcap``.
        seed: stands for the whole drive, >= 0.
        seconds: duration, > 0.
        rate: frames per second of each camera, > 0; all cameras have the same stamps.
        size: height and width of the frames in pixels.

    Returns:
        Frames per camera.
    """
    drive = Drive(seed, seconds=seconds, size=size)
    count = max(1, round(seconds * rate))
    frames = list(product(range(count), CAMERAS))
    with bags.BagWriter(out) as bag:
        for i, camera in track(frames, 'sample drive', unit='frame'):
            _write_frame(bag, drive, camera, i / rate)
    return count


def _write_frame(bag: bags.BagWriter, drive: Drive, camera: str, time: float) -> None:
    frame = drive.render(camera, time)
    lens = drive.intrinsics(camera)
    stamp = bags.EPOCH_NS + round(time * 1e9)
    frame_id = f'{camera}_optical_frame'
    bag.image(f'/{camera}/image_raw', stamp, frame_id, frame.image)
    bag.camera_info(
        f'/{camera}/camera_info',
        stamp,
        frame_id,
        width=lens.width,
        height=lens.height,
        focal=(lens.fx, lens.fy),
        centre=(lens.cx, lens.cy),
    )
    bag.image(f'/{camera}{bags.TRUTH_LABELS}', stamp, frame_id, frame.labels)
    bag.string(f'/{camera}{bags.TRUTH_CONDITION}', stamp, frame.condition)
