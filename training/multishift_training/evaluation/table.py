# SPDX-License-Identifier: Apache-2.0
"""The table of a data set, the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from multishift_perception.report.text import align_columns
from multishift_training.evaluation.evaluate import DatasetResult
from multishift_training.evaluation.tally import ALL, Row


class Column(NamedTuple):
    """A column: its heading, and how to take its text from a row."""

    heading: str
    text: Callable[[Row], str]


def _shares(
    part: str, columns: Sequence[tuple[str, str]]
) -> tuple[Callable[[Row], bool], list[Column]]:
    """Return columns of fractions, in percent, and whether a row has them.

    Args:
        part: attribute of a row that holds them.
        columns: heading and attribute of each.
    """

    def text(row: Row, name: str) -> str:
        value = getattr(getattr(row, part), name)
        return '–' if value is None else f'{100 * value:.2f}'

    return (
        lambda row: getattr(row, part) is not None,
        [Column(head, lambda row, name=name: text(row, name)) for head, name in columns],  # type: ignore[misc]
    )


_GROUPS = (
    _shares(
        'anomaly',
        (
            ('AUROC', 'auroc'),
            ('AP', 'ap'),
            ('FPR95', 'fpr95'),
            ('FPR95 nearest', 'fpr95_nearest'),
        ),
    ),
    _shares(
        'segmentation',
        (
            ('mIoU', 'miou'),
            ('class accuracy', 'mean_class_accuracy'),
            ('pixel accuracy', 'pixel_accuracy'),
        ),
    ),
    _shares('operating', (('found', 'tpr'), ('false alarms', 'fpr'))),
    _shares('components', (('sIoU', 'siou'), ('PPV', 'ppv'), ('F1*', 'f1'))),
)


def table(result: DatasetResult) -> list[list[str]]:
    """Return a data set's table as text, with its headings first; undefined figures are dashes.

    Columns that mean nothing for the data set are left out.
    """
    several = len({row.score for row in result.rows}) > 1
    columns = [
        *([Column('score', lambda row: row.score)] if several else []),
        Column('condition', lambda row: row.condition.replace('_', ' ')),
        Column('images', lambda row: str(row.images)),
    ]
    for has, group in _GROUPS:
        if has(result.rows[0]):
            columns += group
    return [
        [column.heading for column in columns],
        *([column.text(row) for column in columns] for row in result.rows),
    ]


def totals(result: DatasetResult) -> list[bool]:
    """Return which rows of the table, headings aside, are over all images."""
    return [row.condition == ALL for row in result.rows]


def summary(results: Sequence[DatasetResult]) -> str:
    """Return all tables for a terminal."""
    return '\n\n'.join(
        '\n'.join([f'{result.name} (figures in %)', *align_columns(table(result))])
        for result in results
    )
