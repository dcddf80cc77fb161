# SPDX-License-Identifier: Apache-2.0
"""JPEGs damaged inside: which decoders notice, and what decoding takes.

    python test/benchmark/damaged_jpegs.py FOLDER_OF_1080P_IMAGES --json damaged_jpegs.json

Every image is encoded anew and damaged in each of the ways that are listed below, at random places
of its entropy-coded data, `--count` times in all. A damaged file whose decoded pixels are those of
the whole one counts as decoded whole: the damage was in bytes that carry nothing.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from io import BytesIO
import json
from pathlib import Path
import statistics
import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from multishift_perception.images.decoding import decode_file
from multishift_perception.images.frame_errors import BrokenFrame
from multishift_perception.images.listing import PICTURES, list_files

QUALITY = 90
# The scan's data begins behind its header.
START = b'\xff\xda'
Picture = NDArray[np.uint8]


def flip(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """Change 20 bytes."""
    changed = bytearray(data)
    for at in rng.integers(data.index(START) + 20, len(data) - 2, 20):
        changed[at] ^= int(rng.integers(1, 256))
    return bytes(changed)


def flip_one(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """Change one bit."""
    changed = bytearray(data)
    at = int(rng.integers(data.index(START) + 20, len(data) - 2))
    changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def lose(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """Leave 512 bytes out, as a lost packet does."""
    at = int(rng.integers(data.index(START) + 20, len(data) - 520))
    return data[:at] + data[at + 512 :]


def halve(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """Cut near the middle, and set an end marker."""
    return data[: int(len(data) * rng.uniform(0.4, 0.6))] + b'\xff\xd9'


def mix(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Go on with the tail of another frame."""
    share = rng.uniform(0.2, 0.8)
    return data[: int(len(data) * share)] + other[int(len(other) * share) :]


DAMAGES = {
    '20 bytes changed': flip,
    '512 bytes missing': lose,
    'second half missing': halve,
    'tail of another frame': mix,
    'one bit changed': flip_one,
}


def by_opencv(data: bytes) -> Picture:
    """Decode as OpenCV does, which prints warnings and goes on."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise BrokenFrame('OpenCV gives nothing')
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), np.uint8)


def by_pillow(data: bytes) -> Picture:
    """Decode as Pillow does, which refuses what ends early."""
    try:
        with Image.open(BytesIO(data)) as image:
            return np.array(image.convert('RGB'))
    except (OSError, SyntaxError) as error:
        raise BrokenFrame(str(error)) from error


DECODERS: dict[str, Callable[[bytes], Picture]] = {
    'ours': decode_file,
    'OpenCV': by_opencv,
    'Pillow': by_pillow,
}


def encode(file: Path) -> bytes:
    """Return an image file as a JPEG of a camera."""
    image = cv2.imread(str(file), cv2.IMREAD_COLOR)
    done, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise SystemExit(f'{file}: cannot be encoded')
    return data.tobytes()


def notice(files: list[bytes], count: int) -> list[dict[str, Any]]:
    """Damage files, and return for each way and decoder what became of them."""
    rows: list[dict[str, Any]] = []
    for name, damage in DAMAGES.items():
        rng = np.random.default_rng(0)
        fates: dict[str, Counter[str]] = {decoder: Counter() for decoder in DECODERS}
        for i in range(count):
            whole, other = files[i % len(files)], files[(i + 1) % len(files)]
            data = damage(whole, other, rng)
            for decoder, decode in DECODERS.items():
                try:
                    same = np.array_equal(decode(data), decode(whole))
                    fates[decoder]['decoded whole' if same else 'undetected'] += 1
                except BrokenFrame:
                    fates[decoder]['refused'] += 1
        rows += [{'damage': name, 'decoder': d, **fate} for d, fate in fates.items()]
    return rows


def durations(files: list[bytes], rounds: int) -> dict[str, float]:
    """Return the median milliseconds that each decoder takes; they take turns."""
    cv2.setNumThreads(1)
    found: dict[str, list[float]] = {decoder: [] for decoder in DECODERS}
    for _ in range(rounds):
        for data in files:
            for decoder, decode in DECODERS.items():
                begin = time.perf_counter()
                decode(data)
                found[decoder].append((time.perf_counter() - begin) * 1e3)
    return {decoder: statistics.median(times) for decoder, times in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='of images')
    parser.add_argument('--count', type=int, default=100, help='damaged files of each kind')
    parser.add_argument('--files', type=int, default=10, help='images to take')
    parser.add_argument('--rounds', type=int, default=5, help='of the timing')
    parser.add_argument('--json', type=Path)
    chosen = parser.parse_args()
    images = [file for file in list_files(chosen.folder) if file.suffix.lower() in PICTURES]
    files = [encode(file) for file in images[: chosen.files]]
    rows, times = notice(files, chosen.count), durations(files, chosen.rounds)
    print('| damage | decoder | refused | decoded whole | undetected |\n|---|---|---|---|---|')
    for row in rows:
        fates = (row.get(fate, 0) for fate in ('refused', 'decoded whole', 'undetected'))
        print(f'| {row["damage"]} | {row["decoder"]} | {" | ".join(map(str, fates))} |')
    print('\n| decoder | ms per frame |\n|---|---|')
    for decoder, milliseconds in times.items():
        print(f'| {decoder} | {milliseconds:.1f} |')
    if chosen.json:
        chosen.json.write_text(json.dumps({'damaged': rows, 'ms': times}, indent=2) + '\n')


if __name__ == '__main__':
    main()
