from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_perception.sample_drive import random_frame
from multishift_training.config import FolderData, SampleDriveData
from multishift_training.frames import FolderFrames, RenderedFrames


def make_folder(root: Path, count: int = 3) -> FolderData:
    """Grey images; left half raw value 3 (road), right half 10 (novel in the map)."""
    (root / 'images').mkdir()
    (root / 'labels').mkdir()
    (root / 'map.yaml').write_text('3: 0\n10: novel\n')
    raw = np.full((90, 120), 3, np.uint8)
    raw[:, 60:] = 10
    for i in range(count):
        cv2.imwrite(str(root / 'images' / f'{i}.jpg'), np.full((90, 120, 3), 128, np.uint8))
        cv2.imwrite(str(root / 'labels' / f'{i}.png'), raw)
    return FolderData(
        kind='folder',
        images=Path('images'),
        labels=Path('labels'),
        label_map=root / 'map.yaml',
        paste_split='train',
    )


def test_rendered_frames_are_those_of_the_drive_and_kept(tmp_path: Path) -> None:
    config = SampleDriveData(kind='sample_drive', split='val', frames=2, seed=40, size=(48, 80))
    frames = RenderedFrames(config, tmp_path)
    image, labels = frames.read(1, np.random.default_rng(0))
    expected = random_frame(41, split='val', size=(48, 80))
    assert np.array_equal(image, expected.image)
    assert np.array_equal(labels, expected.labels)
    (kept,) = tmp_path.glob('*.npy')
    before = kept.stat().st_mtime_ns
    RenderedFrames(config, tmp_path)
    assert kept.stat().st_mtime_ns == before


def test_held_out_class_is_void_and_pasted_objects_are_novel(tmp_path: Path) -> None:
    frames = FolderFrames(make_folder(tmp_path), tmp_path)
    rng = np.random.default_rng(0)
    pasted = 0
    for _ in range(10):
        image, labels = frames.read(0, rng)
        novel = labels == NOVEL
        pasted += bool(novel.any())
        assert set(np.unique(labels)) <= {0, NOVEL, VOID}
        assert np.all(np.isin(labels[:, 60:], (VOID, NOVEL)))
        # JPEG grey is flat: only pasted pixels differ from it (a soft edge aside).
        assert np.abs(image[~novel].astype(int) - 128).mean() < 12
    assert 5 <= pasted <= 10


def test_same_random_state_gives_the_same_frame(tmp_path: Path) -> None:
    frames = FolderFrames(make_folder(tmp_path), tmp_path)
    first = frames.read(0, np.random.default_rng(7))
    second = frames.read(0, np.random.default_rng(7))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


def test_patterns_choose(tmp_path: Path) -> None:
    config = make_folder(tmp_path)
    assert len(FolderFrames(config, tmp_path)) == 3
    assert len(FolderFrames(config.model_copy(update={'patterns': ['0*', '2*']}), tmp_path)) == 2


def test_missing_label(tmp_path: Path) -> None:
    config = make_folder(tmp_path)
    (tmp_path / 'labels' / '1.png').unlink()
    with pytest.raises(MultishiftError, match=r'1\.jpg has no label map'):
        FolderFrames(config, tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    config = make_folder(tmp_path).model_copy(update={'images': Path('nowhere')})
    with pytest.raises(MultishiftError, match='nowhere does not exist.*--data'):
        FolderFrames(config, tmp_path)


def test_no_match(tmp_path: Path) -> None:
    config = make_folder(tmp_path).model_copy(update={'patterns': ['x*']})
    with pytest.raises(MultishiftError, match='mend `patterns`'):
        FolderFrames(config, tmp_path)


def test_unmapped_label_value(tmp_path: Path) -> None:
    config = make_folder(tmp_path)
    cv2.imwrite(str(tmp_path / 'labels' / '0.png'), np.full((90, 120), 9, np.uint8))
    with pytest.raises(MultishiftError, match=r'0\.png.*9'):
        FolderFrames(config, tmp_path).read(0, np.random.default_rng(0))
