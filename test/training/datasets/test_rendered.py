# SPDX-License-Identifier: Apache-2.0
"""Rendered frames: the drive's own, kept, and never another renderer's."""

from __future__ import annotations

from pathlib import Path
import shutil
from typing import Any

import numpy as np
import pytest

from multishift_perception import sample_drive
from multishift_perception.sample_drive import random_frame
from multishift_training.datasets import open_images, rendered
from multishift_training.datasets.kinds import SampleDriveData

SIZE = (48, 80)


def described(**changes: Any) -> SampleDriveData:
    fields = {'kind': 'sample_drive', 'split': 'val', 'frames': 2, 'seed': 40, 'size': SIZE}
    return SampleDriveData.model_validate(fields | changes)


def folders(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir() if path.is_dir())


@pytest.mark.slow
def test_frames_are_those_of_the_drive_and_kept(tmp_path: Path) -> None:
    images = open_images(described(), tmp_path, tmp_path)
    assert [entry.scene for entry in images.entries] == ['00000040', '00000041']
    for index, seed in enumerate((40, 41)):
        expected = random_frame(seed, split='val', size=SIZE)
        image, labels = images.read(index)
        assert (image == expected.image).all()
        assert (labels == expected.labels).all()
        assert images.entries[index].condition == expected.condition
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.png')}
    assert len(before) == 4
    open_images(described(), tmp_path, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.png')} == before


def test_a_scene_in_several_conditions_is_one_scene(tmp_path: Path) -> None:
    images = open_images(described(frames=1, conditions=['low_sun', 'night']), tmp_path, tmp_path)
    assert [entry.condition for entry in images.entries] == ['low_sun', 'night']
    assert len({entry.scene for entry in images.entries}) == 1
    sunny, dark = images.read(0), images.read(1)
    assert (sunny[1] == dark[1]).mean() > 0.99
    assert dark[0].mean() < 0.8 * sunny[0].mean()


@pytest.mark.slow
@pytest.mark.parametrize('changes', [{'seed': 41}, {'frames': 1}, {'split': 'demo'}])
def test_other_frames_are_kept_elsewhere(tmp_path: Path, changes: dict[str, Any]) -> None:
    open_images(described(frames=1, seed=7), tmp_path, tmp_path)
    open_images(described(**changes), tmp_path, tmp_path)
    assert len(folders(tmp_path)) == 2


def test_frames_of_a_changed_renderer_are_rendered_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / 'cache'
    open_images(described(frames=1), tmp_path, cache)
    copy = tmp_path / 'sample_drive'
    shutil.copytree(Path(str(sample_drive.__file__)).parent, copy)
    monkeypatch.setattr(sample_drive, '__file__', str(copy / '__init__.py'))
    open_images(described(frames=1), tmp_path, cache)
    assert len(folders(cache)) == 1, 'an equal renderer elsewhere is the same one'
    with (copy / 'light/sky.py').open('a') as source:
        source.write('\n# another sky\n')
    open_images(described(frames=1), tmp_path, cache)
    assert len(folders(cache)) == 2


def test_nothing_is_kept_of_a_rendering_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def failing(seed: int, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return random_frame(seed, **options)

    monkeypatch.setattr(rendered, 'random_frame', failing)
    with pytest.raises(KeyboardInterrupt):
        open_images(described(), tmp_path, tmp_path)
    assert folders(tmp_path) == []
    killed = tmp_path / f'.sample_drive-val-{rendered._key(described())}.killed.part'
    killed.mkdir()
    (killed / '.replacing').touch()  # the lock of the process that rendered
    (killed / '00000040_dry.image.png').touch()
    assert len(open_images(described(), tmp_path, tmp_path)) == 2
    assert not killed.exists()


@pytest.mark.slow
def test_many_frames_are_rendered_by_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = open_images(described(), tmp_path, tmp_path / 'alone')
    monkeypatch.setattr(rendered, '_FEW', 0)
    shared = open_images(described(), tmp_path, tmp_path / 'shared')
    for index in range(2):
        assert np.array_equal(alone.read(index)[0], shared.read(index)[0])
