# SPDX-License-Identifier: Apache-2.0
"""What became of every frame: nothing is lost in the table, and its CSV says it all."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics import OperatingPoint
from multishift_perception.report.charts import timeline_chart
from multishift_perception.report.frame_table import (
    COLUMNS,
    FrameRecord,
    FrameTable,
    TruthCounts,
)

STAMP = 1_767_225_600_123_456_789
RECORDS = (
    FrameRecord(STAMP, 0.0, 'front', 'day', '', 0.25, 12.5, 1.5, 0.75, TruthCounts(8, 4, 20, 5)),
    FrameRecord(STAMP + 1, 0.5, 'left, rear', '', dropped='broken'),
    FrameRecord(STAMP + 2, 1.0, 'front', 'fog', '', 0.5, 8.0),
)


@pytest.fixture
def table() -> FrameTable:
    table = FrameTable()
    for record in RECORDS:
        table.add(record)
    return table


def test_records_come_back_as_they_were(table: FrameTable) -> None:
    assert tuple(table) == RECORDS
    assert table.cameras() == ('front', 'left, rear')
    first = RECORDS[0]
    assert (first.found, first.false_alarms, first.novel) == (0.5, 0.25, 8 / 28)


def test_columns_know_what_is_not_known(table: FrameTable) -> None:
    np.testing.assert_equal(table.column('anomalous'), [0.25, np.nan, 0.5])
    np.testing.assert_equal(table.column('novel'), [8 / 28, np.nan, np.nan])
    np.testing.assert_equal(table.column('dropped'), [0, 1, 0])
    np.testing.assert_equal(table.column('time', camera='front'), [0, 1])
    assert len(table.column('time', camera='rear')) == 0
    held = table.column('time')
    table.add(RECORDS[0])  # a column that is held stops no frame
    assert (len(held), len(table)) == (3, 4)


def test_csv_has_every_frame_and_exact_stamps(table: FrameTable, tmp_path: Path) -> None:
    table.write_csv(tmp_path / 'frames.csv')
    first, second, third = csv.DictReader((tmp_path / 'frames.csv').open(newline=''))
    assert tuple(first) == COLUMNS
    assert first == {
        'stamp_ns': str(STAMP),
        'time_s': '0.000000',
        'camera': 'front',
        'condition': 'day',
        'dropped': '',
        'anomalous_share': '0.25',
        'latency_ms': '12.5',
        'domain_shift': '1.5',
        'miou': '0.75',
        'novel_pixels': '8',
        'found_pixels': '4',
        'known_pixels': '20',
        'false_alarm_pixels': '5',
    }
    assert (second['camera'], second['dropped'], second['miou']) == ('left, rear', 'broken', '')
    assert third['novel_pixels'] == ''


def test_pixels_are_counted_by_truth_and_mask() -> None:
    truth = np.array([[0, 1, NOVEL, NOVEL, VOID]], np.uint8)
    mask = np.array([[0, 255, 255, 0, 255]], np.uint8)
    operating = OperatingPoint()
    operating.update(mask, truth)
    assert TruthCounts.of(operating) == TruthCounts(novel=2, found=1, known=2, false=1)


def test_a_long_drive_takes_little_memory_and_a_small_chart() -> None:
    table = FrameTable()
    for i in range(20_000):
        shown = 0.5 if i == 12_345 else 0.01
        table.add(FrameRecord(i, i / 10, 'front', f'{i // 1000}', '', shown, 20.0))
    assert (
        sum(
            part.itemsize * len(part) for part in vars(table).values() if hasattr(part, 'itemsize')
        )
        < 2e6
    )
    chart = timeline_chart(table)
    assert len(chart.svg) < 400_000
    assert (chart.start, chart.end) == (0.0, 1999.9)
    assert 0 < chart.left < chart.right < 1


def test_the_timeline_shows_what_there_is(table: FrameTable) -> None:
    svg = timeline_chart(table).svg
    for word in ('front', 'truth', 'dropped', 'received', 'domain shift', 'latency'):
        assert f'{word}' in svg
    plain = FrameTable()
    plain.add(FrameRecord(0, 0.0, 'front', '', '', 0.5, 8.0))
    alone = timeline_chart(plain)
    for word in ('truth', 'dropped', 'domain shift'):
        assert word not in alone.svg
    assert alone.start < alone.end
