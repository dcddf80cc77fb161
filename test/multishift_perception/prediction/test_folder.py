# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
import resource

import numpy as np
import pytest

from multishift_perception.arrays import Bytes
from multishift_perception.classes import CITYSCAPES
from multishift_perception.disk import FullDiskError
from multishift_perception.footage import Footage
from multishift_perception.prediction import FramePrediction
from multishift_perception.prediction.folder import FootageFolder, remove_earlier
from multishift_perception.shift import Shift


def write(path: Path, text: str = '') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def line(place: object) -> str:
    return json.dumps({'file': place}) + '\n'


def test_only_what_was_written_is_removed(tmp_path: Path) -> None:
    out = tmp_path / 'out'
    write(out / 'front/regions.jsonl', line('a/1') + line('a/2'))
    write(out / 'front/overlay.mp4')
    for name in ('labels/a/1.png', 'overlay/a/2.jpg', 'mask/a/mine.png'):
        write(out / 'front' / name)
    # A run that is killed leaves these.
    for name in ('front/labels/a/.2.png', 'front/.overlay.mp4', '.metrics.json'):
        write(out / f'{name}.x1.part/.replacing')
    report = write(out / 'older/regions.jsonl', line('a')), write(out / 'older/metrics.json')
    remove_earlier(out)
    left = {path for path in out.rglob('*') if not path.is_dir()}
    assert left == {out / 'front/mask/a/mine.png', *report}
    assert not (out / 'front/labels').exists()


@pytest.mark.parametrize(
    'text',
    [
        line('../../theirs'),
        line('../../../outside/overlay/theirs'),
        line('linked/theirs'),
        line('\0'),
        line('x' * 300),
        line(['a']),
        'garbage\n{"frame": 1}\n3\n\xff\n' + line('a')[:-4],
    ],
)
def test_nothing_outside_is_removed_whatever_regions_say(text: str, tmp_path: Path) -> None:
    out, outside = tmp_path / 'out', tmp_path / 'outside'
    theirs = [
        write(tmp_path / 'theirs.jpg'),
        write(outside / 'theirs.jpg'),
        write(outside / '.theirs.jpg.x1.part/.replacing'),
        write(outside / 'overlay/theirs.jpg'),
        write(outside / 'regions.jsonl', line('theirs')),
    ]
    for path in theirs[:2]:
        text += line(str(path.with_suffix('')))
    write(out / 'regions.jsonl', text)
    (out / 'overlay').mkdir()
    (out / 'overlay/linked').symlink_to(outside)
    (out / 'front').symlink_to(outside)
    (out / 'mask').symlink_to(outside)
    remove_earlier(out)
    assert all(path.is_file() for path in theirs)
    assert not (out / 'regions.jsonl').exists()


def prediction(image: Bytes) -> FramePrediction:
    flat = np.zeros(image.shape[:2], np.uint8)
    return FramePrediction(image, flat, flat, CITYSCAPES, Shift(0.5, 0.0), flat)


def test_a_video_that_a_full_disk_cut_is_not_kept(tmp_path: Path) -> None:
    folder = FootageFolder(tmp_path, ('video',), Footage('drive', 3, iter(()), rate=10))
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(FullDiskError, match='cannot be written'), folder.writing():
            for number in range(3):
                folder.add('', Path(str(number)), prediction(noise), shown=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ['regions.jsonl']


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / 'regions.jsonl').symlink_to('/dev/full')
    folder = FootageFolder(tmp_path, (), Footage('footage', 1, iter(())))
    with pytest.raises(FullDiskError, match=f'{tmp_path} cannot be written'), folder.writing():
        folder.add('a', Path('a'), prediction(np.zeros((4, 4, 3), np.uint8)), shown=True)
