# SPDX-License-Identifier: Apache-2.0
"""Reading validation images for metrics and calibration, and what can be measured on them."""

from __future__ import annotations

from collections.abc import Iterable
import ctypes
from functools import partial
import multiprocessing
import os
from pathlib import Path
import signal
import sys
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import (
    LabelledImages,
    ValidationSet,
    loading,
    validation_loader,
)
from multishift_training.datasets.config import SampleObjects
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.outliers import OutlierChoice
from multishift_training.export import Plan, assembly
from multishift_training.export.assembly import Frames, ModelCard, assemble
from multishift_training.loop.validate import check_monitor
from multishift_training.models import create

IDENTITY = np.arange(256, dtype=np.uint8)


def labelled(folder: Path, count: int, *, has_classes: bool = True) -> LabelledImages:
    """Write images whose grey is their number, all road; 254 is novel."""
    entries = []
    for i in range(count):
        entry = Entry(folder / f'{i}.png', folder / f'{i}_labels.png', str(i), str(i))
        cv2.imwrite(str(entry.image), np.full((16, 24, 3), i, np.uint8))
        cv2.imwrite(str(entry.labels), np.zeros((16, 24), np.uint8))
        entries.append(entry)
    return LabelledImages('folder', entries, IDENTITY, has_classes=has_classes)


@pytest.mark.parametrize('workers', [0, 1])
def test_processes_share_the_images(workers: int, tmp_path: Path) -> None:
    images = ValidationSet(labelled(tmp_path, 5))
    shares = [
        [int(image.max()) for image, _ in validation_loader(images, workers=workers, **share)]
        for share in ({}, {'rank': 0, 'ranks': 2}, {'rank': 1, 'ranks': 2})
    ]
    assert shares == [[0, 1, 2, 3, 4], [0, 2, 4], [1, 3]]


class Stuck(ValidationSet):
    """Waits for ever in a library, whatever signal comes."""

    def __getitem__(self, index: int) -> loading.Labelled:
        mutex = ctypes.create_string_buffer(64)
        for _ in range(2):
            ctypes.PyDLL(None).pthread_mutex_lock(mutex)
        return super().__getitem__(index)


class Told(ValidationSet):
    """Gets a SIGTERM amid a lock that it shares with the process that it reads for."""

    def __getitem__(self, index: int) -> loading.Labelled:
        frame = sys._getframe()
        while 'done_event' not in frame.f_locals:
            frame = frame.f_back
        with frame.f_locals['done_event']._cond:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(index)


def test_sigterm_to_all_processes_leaves_no_lock_behind(tmp_path: Path) -> None:
    """Else the other process waits for it for ever: the limit of a test ends this one."""
    images = validation_loader(Told(labelled(tmp_path, 2)), workers=1)
    assert [int(image.max()) for image, _ in images] == [0, 1]


def test_process_that_is_stuck_is_said_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, '_PATIENCE_S', 0.5)
    monkeypatch.setattr(torch.utils.data._utils, 'MP_STATUS_CHECK_INTERVAL', 0.1)
    with pytest.raises(MultishiftError, match='a process that reads data is stuck') as caught:
        list(validation_loader(Stuck(labelled(tmp_path, 1)), workers=1))
    assert '\n' not in str(caught.value)
    for process in multiprocessing.active_children():
        process.join(20)
    assert not multiprocessing.active_children()


def test_image_that_a_process_cannot_read(tmp_path: Path) -> None:
    images = labelled(tmp_path, 1)
    (tmp_path / '0.png').write_bytes(b'no image')
    with pytest.raises(MultishiftError) as caught:
        list(validation_loader(ValidationSet(images), workers=1))
    assert str(caught.value).startswith(f'{tmp_path / "0.png"} ')
    assert '\n' not in str(caught.value)


def test_image_that_calibration_cannot_read(tmp_path: Path) -> None:
    images = labelled(tmp_path, 3)
    (tmp_path / '1.png').write_bytes(b'no image')
    with pytest.raises(MultishiftError) as caught:
        assemble(
            tmp_path / 'engine',
            create('deeplabv3plus_compact'),
            Frames(ValidationSet(images), '3 frames'),
            plan=Plan(['torch']),
            card=ModelCard('deeplabv3plus_compact', 'none', {}),
        )
    assert str(caught.value).startswith(f'{tmp_path / "1.png"} ')
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'engine').exists()


def test_black_images_to_calibrate_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def pooled(model: object, batches: Iterable[object]) -> tuple[np.ndarray, np.ndarray]:
        assert len(list(batches)) == 3
        return np.linspace(0, 1, 9, dtype=np.float32), np.zeros(0, np.float32)

    exported = Mock()
    monkeypatch.setattr(assembly, 'pooled_scores', pooled)  # a network takes a second
    monkeypatch.setattr(assembly, 'DeployGraph', Mock())
    monkeypatch.setattr(assembly, 'export_bundle', exported)
    images = labelled(tmp_path, 3)
    assembled = partial(
        assemble,
        tmp_path / 'engine',
        Mock(),
        Frames(ValidationSet(images), '3 frames'),
        plan=Plan(['openvino'], 'int8'),
        card=ModelCard('deeplabv3plus_compact', 'none', {}),
    )
    with pytest.raises(MultishiftError, match=r'^3 frames: each is of one colour, black or'):
        assembled()
    exported.assert_not_called()
    noise = np.random.default_rng(0).integers(0, 255, (16, 24, 3), np.uint8)
    cv2.imwrite(str(images.entries[0].image), noise)
    assembled()
    exported.assert_called_once()
    assert '2 of 3 frames to calibrate on are of one colour' in caplog.text
    assert caplog.text.strip().endswith('1.png')


def test_monitor_wants_labels_to_measure_with(tmp_path: Path) -> None:
    table = np.where(IDENTITY == NOVEL, 255, IDENTITY).astype(np.uint8)
    both = ValidationSet(labelled(tmp_path, 1))
    anomaly = ValidationSet(labelled(tmp_path, 1, has_classes=False))
    closed = LabelledImages('folder', both.images.entries, table)
    objects = SampleObjects(kind='sample_objects', split='val')
    pasted = ValidationSet(closed, outliers=OutlierChoice(objects, tmp_path))
    for names in ('miou', 'ap', 'miou+ap'):
        check_monitor(names, both)
        check_monitor(names, pasted)
    check_monitor('ap', anomaly)
    check_monitor('miou', ValidationSet(closed))
    for names in ('miou', 'miou+ap'):
        with pytest.raises(MultishiftError, match='monitor: .* no known classes .* miou with'):
            check_monitor(names, anomaly)
    for names in ('ap', 'miou+ap'):
        with pytest.raises(MultishiftError, match='monitor: .* no novel pixels .* ap with'):
            check_monitor(names, ValidationSet(closed))
