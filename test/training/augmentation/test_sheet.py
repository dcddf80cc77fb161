# SPDX-License-Identifier: Apache-2.0
"""The contact sheet: some of what was accepted and rejected, and all the counts."""

from __future__ import annotations

import base64
from pathlib import Path
import re

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
import pytest

from multishift_training.augmentation.config import AugmentConfig
from multishift_training.augmentation.output_folder import AugmentFolder
from multishift_training.augmentation.records import Record, summarize
from multishift_training.augmentation.scenes import Scenes
from multishift_training.augmentation.sheet import render, thumbnail

Bytes = NDArray[np.uint8]
CONFIG = AugmentConfig.model_validate(
    {
        'images': {'kind': 'cityscapes'},
        'objects': {'kind': 'sample_objects', 'split': 'train'},
        'generator': {'kind': 'pasted_weather'},
    }
)


def decoded(jpeg: bytes) -> Bytes:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    return np.asarray(image, np.uint8)


def png(image: Bytes) -> bytes:
    return cv2.imencode('.png', image)[1].tobytes()


def shown(page: str) -> list[Bytes]:
    found = re.findall(r'data:image/jpeg;base64,([^"]+)', page)
    return [decoded(base64.b64decode(data)) for data in found]


def test_thumbnails_are_small_and_outline_the_object() -> None:
    mask = np.zeros((500, 1000), np.bool_)
    mask[200:300, 400:600] = True
    small = decoded(thumbnail(np.full((500, 1000, 3), 80, np.uint8), mask)).astype(int)
    assert small.shape == (200, 400, 3)
    outline = small[..., :2].min(2) > 150  # JPEG keeps light better than colour
    rows, columns = np.nonzero(outline)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (79, 120, 159, 240)
    assert not outline[82:118, 162:238].any()
    assert decoded(thumbnail(np.zeros((30, 40, 3), np.uint8))).shape == (30, 40, 3)


@pytest.fixture
def scenes(tmp_path: Path) -> Scenes:
    for folder, end, content in (
        ('leftImg8bit', 'leftImg8bit', np.full((30, 40, 3), 200, np.uint8)),
        ('gtFine', 'gtFine_labelTrainIds', np.zeros((30, 40), np.uint8)),
    ):
        path = tmp_path / 'cityscapes' / folder / 'train/ulm' / f'ulm_000001_000019_{end}.png'
        path.parent.mkdir(parents=True)
        Image.fromarray(content).save(path)
    return Scenes(CONFIG, tmp_path, tmp_path / 'cache')


def test_sheet_shows_some_and_counts_all(scenes: Scenes, tmp_path: Path) -> None:
    folder = AugmentFolder(tmp_path / 'run', CONFIG)
    source = scenes.names[0]
    records: list[Record] = []
    files: dict[str, bytes] = {}
    for sample in range(60):
        accepted = Record(
            source=source,
            sample=sample,
            attempt=1,
            verdict='accepted',
            object='<cone>',
            domain={'weather': 'snowy'},
            figures={'iou': 0.91234},
            generator='made 1',
            file=f'{source}_{sample}',
        )
        rejected = accepted.model_copy(
            update={'attempt': 0, 'verdict': 'rejected', 'reason': 'object not seen', 'file': None}
        )
        records += [rejected, accepted]
        files[rejected.thumbnail] = thumbnail(np.full((30, 40, 3), 50, np.uint8))
        files[folder.image(accepted)] = png(np.full((30, 40, 3), 120, np.uint8))
        files[folder.labels(accepted)] = png(np.zeros((30, 40), np.uint8))
    unplaced = Record(
        source=source, sample=60, attempt=0, verdict='rejected', reason='no drivable ground'
    )
    folder.commit(source, [*records, unplaced], files)
    summary = summarize([*records, unplaced], sources=1, per_image=61)
    page = render(CONFIG, folder, scenes, [*records, unplaced], summary)
    assert '60, of which 48 are shown' in page and '60, of which 16 are shown' in page
    assert page.count('nothing was painted') == 1
    assert page.count('&lt;cone&gt;') == 64 and '<cone>' not in page
    assert 'iou 0.912' in page and 'snowy' in page and 'made 1' in page
    assert 'Rejected: no drivable ground' in page and 'Rejected: object not seen' in page
    shades = [int(picture.mean().round()) for picture in shown(page)]
    assert shades == [120, 200] * 48 + [200] + [50, 200] * 16
    assert page == render(CONFIG, folder, scenes, [*records, unplaced], summary)


def test_sheet_of_faults(scenes: Scenes, tmp_path: Path) -> None:
    fault = Record(source=scenes.names[0], verdict='fault', reason='a.png is <broken>')
    summary = summarize([fault], sources=2, per_image=3)
    assert (summary.given_up, summary.accepted, summary.complete) == (0, 0, False)
    page = render(CONFIG, AugmentFolder(tmp_path / 'run', CONFIG), scenes, [fault], summary)
    assert '1 of 2 sources are done' in page and 'a.png is &lt;broken&gt;' in page
    assert shown(page) == []
