# SPDX-License-Identifier: Apache-2.0
"""The report shows what it was given, escapes it, needs no other file, and shows every group."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from multishift_perception.classes import NOVEL, VOID, SemanticClass
from multishift_perception.report.drive_evaluation import Evaluation, JudgedFrame
from multishift_perception.report.drive_report import (
    FrameCount,
    Latency,
    Report,
    metrics,
    render,
    summary,
    write_report,
)
from multishift_perception.report.gallery import Gallery

CLASSES = (SemanticClass('road', (128, 64, 128)), SemanticClass('sky', (70, 130, 180)))


def judged(camera: str, condition: str, time: float, novel: int, *, truth: bool = True):
    labels = np.zeros((12, 16), np.uint8)
    labels[:4] = 1
    target = labels.copy()
    target[6:8, :novel] = NOVEL
    target[:, 15] = VOID
    mask = np.zeros_like(labels)
    mask[6, :novel] = 255
    return JudgedFrame(
        camera=camera,
        condition=condition,
        time=time,
        image=np.full((12, 16, 3), 90, np.uint8),
        labels=labels,
        mask=mask,
        score=mask.astype(np.float32),
        truth=target if truth else None,
    )


@pytest.fixture
def report() -> Report:
    evaluation = Evaluation(2, Gallery(CLASSES))
    for i in range(4):
        evaluation.add(judged('front', 'day', i * 3.0, 4))
        evaluation.add(judged('left', 'low_sun', i * 3.0, 0))
    return Report(
        command='multishift replay',
        title='Title <b>of</b> it',
        subtitle='engine over bag',
        classes=CLASSES,
        threshold=0.5,
        overall=evaluation.overall(),
        conditions=evaluation.by_condition(),
        cameras=evaluation.by_camera(),
        latencies=(Latency('none', ()), Latency('whole', tuple(float(i) for i in range(101)))),
        counts=(FrameCount('/front/image_raw', 9, 4, {'stale': 5}),),
        pictures=evaluation.pictures(),
        provenance={'engine bundle': 'tiny', 'sha': 'abc'},
    )


class Outline(HTMLParser):
    """Collects tags and what they refer to; fails on tags that do not close."""

    VOID_TAGS = ('meta', 'img', 'br', 'link')

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.sources: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags[tag] += 1
        self.sources += [v for k, v in attrs if k in ('src', 'href', 'xlink:href')]
        if tag not in self.VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.sources += [v for k, v in attrs if k in ('src', 'href', 'xlink:href')]

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_whole_and_self_contained(report: Report) -> None:
    parser = outline(render(report))
    assert parser.tags['svg'] == 2
    assert parser.tags['img'] == 3 * len(report.pictures)
    assert all(s.startswith(('data:image/jpeg;base64,', '#')) for s in parser.sources)


def test_the_page_shows_the_numbers(report: Report) -> None:
    page = render(report)
    scores = report.overall
    assert scores.operating.tpr == 0.5
    for value in (scores.segmentation.miou, scores.anomaly.auroc, scores.anomaly.ap):
        assert f'<div class="value">{100 * value:.1f} %</div>' in page
    assert '<div class="value">50.0 ms</div>' in page
    assert 'low sun' in page
    assert '<th>stale</th>' in page
    assert 'abc' in page


def test_what_users_name_is_escaped(report: Report) -> None:
    hostile = '<script>x</script> $\\frac{'
    scores = tuple(replace(s, name=hostile) for s in report.conditions)
    pictures = tuple(replace(p, condition=hostile) for p in report.pictures)
    page = render(replace(report, conditions=scores, pictures=pictures, subtitle=hostile))
    assert outline(page).tags['script'] == 0
    assert 'Title &lt;b&gt;of' in page


def test_undefined_metrics_are_dashes_and_null(report: Report) -> None:
    without = report.conditions[1]  # no novel pixel
    assert without.anomaly.auroc is None
    assert '<td>–</td>' in render(report)
    assert metrics(report)['conditions']['low_sun']['anomaly']['auroc'] is None
    low_sun = next(line for line in summary(report).splitlines() if line.startswith('low_sun'))
    assert '–' in low_sun


def test_without_ground_truth_the_page_has_no_quality() -> None:
    evaluation = Evaluation(2, Gallery(CLASSES))
    evaluation.add(judged('front', '', 0.0, 3, truth=False))
    bare = Report(
        command='c',
        title='t',
        subtitle='s',
        classes=CLASSES,
        threshold=0.5,
        overall=evaluation.overall(),
        conditions=evaluation.by_condition(),
        cameras=evaluation.by_camera(),
        latencies=(Latency('whole', (1.0,)),),
        counts=(),
        pictures=evaluation.pictures(),
        provenance={},
    )
    page = render(bare)
    assert outline(page).tags['img'] == 2
    assert 'AUROC' not in page
    assert 'AUROC' not in summary(bare)


def test_a_report_without_any_frame_renders() -> None:
    evaluation = Evaluation(2, Gallery(CLASSES))
    empty = Report('c', 't', 's', CLASSES, 0.5, evaluation.overall(), (), (), (), (), (), {})
    outline(render(empty))


def test_write_report_writes_both_files(report: Report, tmp_path: Path) -> None:
    page = write_report(report, tmp_path / 'new' / 'folder')
    assert page.read_text() == render(report)
    numbers = json.loads((page.parent / 'metrics.json').read_text())
    assert numbers['latency_ms'] == {
        'none': {'count': 0},
        'whole': {'count': 101, 'mean': 50.0, 'p50': 50.0, 'p99': 99.0, 'max': 100.0},
    }
    assert numbers['frames']['/front/image_raw']['dropped'] == {'stale': 5}
    assert numbers['overall']['operating']['tpr'] == 0.5
    assert len(list(page.parent.iterdir())) == 2


def offer(gallery: Gallery, frame: JudgedFrame) -> None:
    gallery.offer(
        camera=frame.camera,
        condition=frame.condition,
        time=frame.time,
        image=frame.image,
        labels=frame.labels,
        mask=frame.mask,
        truth=frame.truth,
    )


def test_the_gallery_shows_every_group_and_its_largest_objects() -> None:
    gallery = Gallery(CLASSES, limit=4)
    for i in range(40):
        offer(gallery, judged('front', 'day', i * 1.0, 2 + (i == 20) * 9))
        offer(gallery, judged('front', 'fog', 40 + i * 1.0, 0))

    pictures = gallery.pictures()

    assert Counter(p.condition for p in pictures) == {'day': 2, 'fog': 2}
    day = [p.time for p in pictures if p.condition == 'day']
    assert 20.0 in day
    assert abs(day[0] - day[1]) >= 2.0
    assert [p.time for p in pictures] == sorted(p.time for p in pictures)


def test_more_groups_than_pictures_still_show_one_each() -> None:
    gallery = Gallery(CLASSES, limit=2)
    for name in 'abcd':
        for time in (0.0, 5.0):
            offer(gallery, judged('front', name, time, 1))
    assert sorted(p.condition for p in gallery.pictures()) == list('abcd')


def test_gallery_pictures_are_jpegs_of_bounded_size() -> None:
    gallery = Gallery(CLASSES)
    big = np.zeros((720, 1280), np.uint8)
    image = np.full((720, 1280, 3), (200, 30, 10), np.uint8)
    gallery.offer(
        camera='c', condition='', time=0.0, image=image, labels=big, mask=big, truth=None
    )
    (picture,) = gallery.pictures()
    decoded = cv2.imdecode(np.frombuffer(picture.frame, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (360, 640, 3)
    assert np.abs(decoded[0, 0].astype(int) - (10, 30, 200)).max() < 8
    assert (picture.truth, picture.found, picture.false_alarms) == (None, None, None)
