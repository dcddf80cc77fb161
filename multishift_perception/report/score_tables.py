# SPDX-License-Identifier: Apache-2.0
"""Metrics of groups of frames as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from multishift_perception.report.drive_evaluation import Scores
from multishift_perception.report.text import align_columns, percent


def score_table(rows: Sequence[Scores]) -> list[str]:
    """Return the lines of a table of what single frames tell."""
    table: list[tuple[str, ...]] = [
        ('', 'frames', 'mIoU', 'AUROC', 'AP', 'FPR95', 'found', 'false alarms')
    ]
    for s in rows:
        shares = (s.segmentation.miou, s.anomaly.auroc, s.anomaly.ap, s.anomaly.fpr95)
        rates = (percent(s.operating.tpr), percent(s.operating.fpr, 2))
        table.append((s.name, str(s.frames), *map(percent, shares), *rates))
    return align_columns(table)


def drive_table(rows: Sequence[Scores]) -> list[str]:
    """Return the lines of a table of what only a drive tells."""
    table: list[tuple[str, ...]] = [
        (
            '',
            'streaming mIoU',
            'flicker',
            'objects',
            'found',
            'false a min',
            'first found',
            'BRAVO',
        )
    ]
    for s in rows:
        objects = s.objects
        false = '–' if objects.false_per_minute is None else f'{objects.false_per_minute:.1f}'
        delay = '–' if objects.delay_median is None else f'{objects.delay_median:.2f} s'
        table.append(
            (
                s.name,
                percent(s.streaming.miou),
                percent(s.temporal.label_flicker, 2),
                str(objects.objects),
                percent(objects.found_share),
                false,
                delay,
                percent(s.bravo.index),
            )
        )
    return align_columns(table)
