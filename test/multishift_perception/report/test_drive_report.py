# SPDX-License-Identifier: Apache-2.0
"""The report shows what it was given, escapes it, needs no other file, and shows every group."""

from __future__ import annotations

from collections import Counter
import csv
from dataclasses import replace
from html.parser import HTMLParser
import json
from pathlib import Path
import shutil

import numpy as np
import pytest

from multishift_perception.classes import NOVEL, VOID, SemanticClass
from multishift_perception.pipeline import Pixels
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
from multishift_perception.report.gallery import Gallery, Pictures

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
        stamp_ns=round(1e9 * time),
        latency_ms=20.0 + time,
        pixels=Pixels(
            np.full((12, 16, 3), 90, np.uint8), labels, mask, mask, target if truth else None
        ),
        score=mask.astype(np.float32),
    )


@pytest.fixture(scope='module')
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
        overall=evaluation.counts.overall(),
        conditions=evaluation.counts.by_condition(),
        cameras=evaluation.counts.by_camera(),
        latencies=(Latency('none', ()), Latency('whole', tuple(float(i) for i in range(101)))),
        counts=(FrameCount('/front/image_raw', 9, 4, {'stale': 5}),),
        frames=evaluation.frames,
        pictures=evaluation.pictures(),
        provenance={'engine bundle': 'tiny', 'sha': 'abc'},
    )


@pytest.fixture(scope='module')
def page(report: Report) -> str:
    return render(report)


class Outline(HTMLParser):
    """Collects tags and what they refer to; fails on tags that do not close."""

    VOID_TAGS = ('meta', 'img', 'br', 'link', 'input')

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


def test_the_page_is_whole_and_self_contained(report: Report, page: str) -> None:
    parser = outline(page)
    # Conditions, timeline, shares of frames, latency.
    assert parser.tags['svg'] == 4
    pictures = report.pictures
    shown = (*pictures.film, *pictures.objects, *pictures.false_alarms, *pictures.misses)
    assert len(pictures.film) == 8
    assert parser.tags['img'] == 4 * len(shown) + 1  # and the one that is enlarged
    beside = [s for s in parser.sources if not s.startswith(('data:image/jpeg;base64,', '#'))]
    assert beside == ['frames.csv']


def test_the_page_shows_the_numbers(report: Report, page: str) -> None:
    scores = report.overall
    assert scores.operating.tpr == 0.5
    for value in (scores.segmentation.miou, scores.anomaly.auroc, scores.anomaly.ap):
        assert f'<div class="value">{100 * value:.1f} %</div>' in page
    assert '<div class="value">50.0 ms</div>' in page
    assert 'low sun' in page
    assert '<th>stale</th>' in page
    assert 'First found after' in page and '<th>at</th>' not in page  # no ground is known
    assert 'abc' in page


def test_what_users_name_is_escaped(report: Report, page: str) -> None:
    hostile = '<script>x</script> $\\frac{'
    scores = tuple(replace(s, name=hostile) for s in report.conditions)
    pictures = Pictures(
        film=tuple(
            replace(p, record=replace(p.record, camera=hostile, condition=hostile))
            for p in report.pictures.film
        )
    )
    escaped = render(replace(report, conditions=scores, pictures=pictures, subtitle=hostile))
    assert outline(escaped).tags['script'] == outline(page).tags['script'] == 1
    assert 'Title &lt;b&gt;of' in escaped


def test_undefined_metrics_are_dashes_and_null(report: Report, page: str) -> None:
    without = report.conditions[1]  # no novel pixel
    assert without.anomaly.auroc is None
    assert '<td>–</td>' in page
    assert metrics(report)['conditions']['low_sun']['anomaly']['auroc'] is None
    low_sun = next(line for line in summary(report).splitlines() if line.startswith('low_sun'))
    assert '–' in low_sun
    # A drive of such frames has false alarms alone above, in place of dashes.
    cards = render(replace(report, overall=without)).partition('<section>')[0]
    assert 'the ground truth has no novel ones' in cards and 'AUROC' not in cards
    assert 'no novel ones' not in page


def test_without_ground_truth_the_page_has_no_quality() -> None:
    evaluation = Evaluation(2, Gallery(CLASSES))
    evaluation.add(judged('front', '', 0.0, 3, truth=False))
    bare = Report(
        command='c',
        title='t',
        subtitle='s',
        classes=CLASSES,
        threshold=0.5,
        overall=evaluation.counts.overall(),
        conditions=evaluation.counts.by_condition(),
        cameras=evaluation.counts.by_camera(),
        latencies=(Latency('whole', (1.0,)),),
        counts=(),
        frames=evaluation.frames,
        pictures=evaluation.pictures(),
        provenance={},
    )
    page = render(bare)
    assert outline(page).tags['img'] == 3 + 3 + 1
    assert 'Most anomalous scenes' in page
    assert 'AUROC' not in page
    assert 'truth' not in page.replace('without ground truth', '')
    assert 'AUROC' not in summary(bare)


def test_a_report_without_any_frame_renders() -> None:
    evaluation = Evaluation(2, Gallery(CLASSES))
    empty = Report(
        'c',
        't',
        's',
        CLASSES,
        0.5,
        evaluation.counts.overall(),
        (),
        (),
        (),
        (),
        evaluation.frames,
        evaluation.pictures(),
        {},
    )
    outline(render(empty))


def test_write_report_writes_page_numbers_and_table(
    report: Report, page: str, tmp_path: Path
) -> None:
    file = write_report(report, tmp_path / 'new' / 'folder')
    assert file.read_text() == page
    numbers = json.loads((file.parent / 'metrics.json').read_text())
    assert numbers['latency_ms'] == {
        'none': {'count': 0},
        'whole': {'count': 101, 'mean': 50.0, 'p50': 50.0, 'p99': 99.0, 'max': 100.0},
    }
    assert numbers['frames']['/front/image_raw']['dropped'] == {'stale': 5}
    assert numbers['overall']['operating']['tpr'] == 0.5
    assert {path.name for path in file.parent.iterdir()} == {
        'report.html',
        'metrics.json',
        'frames.csv',
    }
    table = list(csv.DictReader((file.parent / 'frames.csv').open()))
    assert [row['camera'] for row in table] == ['front', 'left'] * 4
    assert table[2]['stamp_ns'] == '3000000000'


@pytest.mark.browser
@pytest.mark.slow
def test_slider_and_pictures_work_by_keyboard(page: str, tmp_path: Path) -> None:
    playwright = pytest.importorskip('playwright.sync_api', reason='needs Playwright')
    chromium = shutil.which('chromium') or shutil.which('chromium-browser')
    if chromium is None:
        pytest.skip('needs Chromium')
    (tmp_path / 'report.html').write_text(page)
    faults: list[str] = []
    with playwright.sync_playwright() as started:
        # Without its sandbox, which containers do not let it build; it opens this page alone.
        browser = started.chromium.launch(executable_path=chromium, args=['--no-sandbox'])
        tab = browser.new_page(viewport={'width': 390, 'height': 844})
        tab.on('pageerror', lambda error: faults.append(str(error)))
        tab.goto((tmp_path / 'report.html').as_uri())
        assert tab.evaluate('document.documentElement.scrollWidth') == 390

        def shown() -> str:
            return tab.inner_text('.still:not([hidden]) figcaption')

        tab.focus('#slider')
        tab.keyboard.press('End')
        assert shown().startswith('9.0 s · front')
        tab.keyboard.press('ArrowLeft')
        assert shown().startswith('6.0 s · front')
        tab.select_option('#camera', 'left')
        assert shown().startswith('6.0 s · left')
        assert tab.get_attribute('#slider', 'aria-valuetext').startswith('6.0 s · left')

        tab.focus('.still:not([hidden]) .part')
        tab.keyboard.press('Enter')
        assert tab.inner_text('#zoom p') == 'Frame, left at 6.0 s'
        tab.keyboard.press('ArrowRight')
        assert tab.inner_text('#zoom p') == 'What the engine saw, left at 6.0 s'
        tab.keyboard.press('Escape')
        assert not tab.evaluate("document.getElementById('zoom').open")
        assert tab.evaluate('document.activeElement.dataset.what').startswith('What the engine')
        browser.close()
    assert faults == []
