# SPDX-License-Identifier: Apache-2.0
"""The Rerun recording, read back by Rerun's own reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
import os
from pathlib import Path
import re
import sys
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from multishift_perception import rerun_file
from multishift_perception.classes import NOVEL, NOVEL_COLOR, VOID, SemanticClass
from multishift_perception.errors import MultishiftError
from multishift_perception.pipeline import Pixels
from multishift_perception.rerun_file import APPLICATION, _PipedFile, writing_rerun

CLASSES = (SemanticClass('road', (128, 64, 128)), SemanticClass('sky', (70, 130, 180)))
TIMEOUT_S = 20.0  # which nobody waits for
STAMP = 1_767_225_600_123_456_789


def observation(
    number: int, *, camera: str = 'front', truth: bool = True
) -> tuple[str, int, float, Pixels]:
    mask = np.zeros((24, 32), np.uint8)
    mask[4:8, 6:12] = 255 * (number != 1)
    labels = np.zeros_like(mask)
    labels[:3] = 1
    anomaly = np.where(mask, np.uint8(192), np.uint8(10))
    pixels = Pixels(
        np.full((24, 32, 3), 90, np.uint8),
        labels,
        mask,
        anomaly,
        np.where(mask, np.uint8(NOVEL), labels) if truth else None,
    )
    return camera, STAMP + number, 12.5, pixels


def read(path: Path) -> dict[str, list[Any]]:
    """Return the chunks of each entity as Arrow batches."""
    reader = pytest.importorskip('rerun.chunk').RrdReader(path)
    (store,) = reader.recordings()
    (arrangement,) = reader.blueprints()
    assert store.application_id == arrangement.application_id == APPLICATION
    found: dict[str, list[Any]] = {}
    for chunk in reader.stream():
        found.setdefault(chunk.entity_path, []).append(chunk.to_record_batch())
    return found


def shown_in(path: Path) -> set[str]:
    """Return the entities that the views of a recording ask for."""
    reader = pytest.importorskip('rerun.chunk').RrdReader(path)
    (arrangement,) = reader.blueprints()
    asked: set[str] = set()
    for chunk in reader.stream(store=arrangement):
        if chunk.entity_path.endswith('/ViewContents'):
            for queries in column([chunk.to_record_batch()], 'ViewContents:query'):
                asked.update(queries)
    return asked


def column(batches: list[Any], ending: str) -> list[Any]:
    """Return what a component of an entity has, row by row."""
    rows = []
    for batch in batches:
        (name,) = [name for name in batch.schema.names if name.endswith(ending)]
        rows += batch.column(name).to_pylist()
    return rows


@pytest.mark.slow
def test_a_recording_has_every_part_of_every_frame(tmp_path: Path) -> None:
    pytest.importorskip('rerun')
    path = tmp_path / 'drive.rrd'
    with writing_rerun(path, CLASSES) as recording:
        for number in range(3):
            recording.add(*observation(number))
        recording.add(*observation(0, camera='rear/left', truth=False))
        assert not path.exists()

    found = read(path)
    parts = ('image', 'labels', 'score', 'mask', 'anomalies', 'anomalous_share', 'latency_ms')
    rows = Counter({entity: sum(b.num_rows for b in batches) for entity, batches in found.items()})
    assert {f'/front/{part}': 3 for part in (*parts, 'truth')}.items() <= rows.items()
    assert {rf'/rear\/left/{part}': 1 for part in parts}.items() <= rows.items()
    assert r'/rear\/left/truth' not in rows

    stamps = [cell.value for b in found['/front/labels'] for cell in b.column('stamp')]
    assert stamps == [STAMP, STAMP + 1, STAMP + 2]
    labels = column(found['/front/labels'], 'SegmentationImage:buffer')
    assert bytes(labels[0][0]) == observation(0)[-1].labels.tobytes()
    mask = column(found['/front/mask'], 'SegmentationImage:buffer')[0][0]
    assert Counter(mask) == {NOVEL: 24, VOID: 24 * 32 - 24}
    texts = column(found['/front/anomalies'], 'Boxes2D:labels')
    assert texts == [['0.75'], [], ['0.75']]
    shares = column(found['/front/anomalous_share'], 'Scalars:scalars')
    assert shares == [[24 / 768], [0.0], [24 / 768]]


@pytest.mark.slow
def test_footage_of_any_name_is_one_entity_that_the_viewer_shows(tmp_path: Path) -> None:
    rerun = pytest.importorskip('rerun')
    path = tmp_path / 'drive.rrd'
    names = ['my drive.mp4', 'rtsp://host:554/cam', '2nd', 'a\\b', '+ #1 **', 'é', 'front']
    with writing_rerun(path, CLASSES) as recording:
        for name in names:
            recording.add(*observation(0, camera=name))
    entities = [entity for entity in read(path) if entity.endswith('/labels')]
    assert sorted(entities) == sorted(f'/{rerun.escape_entity_path_part(n)}/labels' for n in names)
    # One level below the root each: no slash but those of the recording's own levels.
    assert [len(re.split(r'(?<!\\)/', entity)) for entity in entities] == [3] * len(names)
    shown = shown_in(path)
    assert set(entities) <= shown
    assert {f'/{rerun.escape_entity_path_part(n)}/latency_ms' for n in names} <= shown


@pytest.mark.slow
def test_classes_have_their_names_and_colours(tmp_path: Path) -> None:
    pytest.importorskip('rerun')
    with writing_rerun(tmp_path / 'drive.rrd', CLASSES) as recording:
        recording.add(*observation(0))
    (context,) = column(read(tmp_path / 'drive.rrd')['/'], 'AnnotationContext:context')
    infos = {entry['class_id']: entry['class_description']['info'] for entry in context[0]}
    assert {number: info['label'] for number, info in infos.items()} == {
        0: 'road',
        1: 'sky',
        NOVEL: 'novel object',
        VOID: 'void',
    }
    for number, color in ((0, CLASSES[0].color), (1, CLASSES[1].color), (NOVEL, NOVEL_COLOR)):
        assert infos[number]['color'].to_bytes(4, 'big')[:3] == bytes(color)


def test_without_the_extra_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'rerun', None)
    with (
        pytest.raises(MultishiftError, match=r"run `pip install '\.\[rerun\]'` in the checkout"),
        writing_rerun(tmp_path / 'drive.rrd', CLASSES),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, small_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    pytest.importorskip('rerun')
    with (
        small_files(20_000),
        pytest.raises(MultishiftError, match='no room on the disk'),
        writing_rerun(tmp_path / 'drive.rrd', CLASSES) as recording,
    ):
        for number in range(100):
            recording.add(*observation(number))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('size', [10, 100_000])
def test_a_full_disk_is_told_also_where_closing_the_file_finds_it(size: int) -> None:
    file = _PipedFile(Path('/dev/full'))
    with file.inlet() as inlet:
        Path(inlet).write_bytes(bytes(size))
    assert file.is_closed(TIMEOUT_S)
    with pytest.raises(OSError, match='No space left'):
        file.check()


def test_a_disk_that_is_too_slow_is_named_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = MagicMock()
    library.RecordingStream().flush.side_effect = RuntimeError('Flush timed out')
    monkeypatch.setattr(rerun_file, 'load_rerun', lambda: library)
    path = tmp_path / 'drive.rrd'
    with (
        pytest.raises(MultishiftError, match=rf'^{path}: .*\(Flush timed out\): name a file on'),
        writing_rerun(path, CLASSES) as recording,
    ):
        for number in range(100):
            recording.add(*observation(number))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that takes nothing, as a share whose server is gone: a pipe that nobody reads."""
    hanging, inlets = tmp_path / 'hanging', list[int]()
    os.mkfifo(hanging)
    library = MagicMock()
    stream = library.RecordingStream()
    stream.save.side_effect = lambda path: inlets.append(os.open(path, os.O_WRONLY))
    stream.log.side_effect = lambda *_, **__: os.write(inlets[-1], bytes(100_000))
    stream.disconnect.side_effect = lambda: os.close(inlets[-1])
    monkeypatch.setattr(rerun_file, 'load_rerun', lambda: library)
    monkeypatch.setattr(rerun_file, 'replacing', lambda path: nullcontext(hanging))
    monkeypatch.setattr(rerun_file, '_SHORT_S', 0.01)
    monkeypatch.setattr(rerun_file, '_PATIENCE_S', 0.01)
    path = tmp_path / 'drive.rrd'
    for count in (1, 100):
        with (
            pytest.raises(MultishiftError, match=rf'^{path}: .* on a faster disk with --rerun'),
            writing_rerun(path, CLASSES) as recording,
        ):
            for number in range(count):
                recording.add(*observation(number))
    assert caplog.messages == 2 * [f'waiting for the disk of {path}; Ctrl-C gives it up']
    with pytest.raises(KeyboardInterrupt), writing_rerun(path, CLASSES) as recording:
        raise KeyboardInterrupt
    os.close(os.open(hanging, os.O_RDONLY))  # lets the threads that write end
