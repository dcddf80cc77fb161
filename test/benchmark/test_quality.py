# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/quality.md: what its mIoU is of, and where they go."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import click
import numpy as np
import pytest

from multishift_perception.metrics import SegmentationMetrics
from multishift_training.datasets.descriptions import read_datasets

# Nothing of test/ is in the import path.
_SPEC = spec_from_file_location('quality', Path(__file__).with_name('quality.py'))
quality = module_from_spec(_SPEC)
_SPEC.loader.exec_module(quality)


def test_mean_iou_is_over_the_classes_that_are_there() -> None:
    """Of four pixels, one is predicted as a class that the data set does not have."""
    metrics = SegmentationMetrics(4)
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    metrics.update(np.array([[0, 0, 1, 2]], np.uint8), truth)
    result = metrics.result()
    assert result.miou == pytest.approx((1 + 0.5 + 0) / 3)
    assert quality.own_miou(result) == pytest.approx((1 + 0.5) / 2)


def test_tables_go_between_their_marks_and_nothing_else_changes() -> None:
    page = 'a\n<!-- tests -->\nold\n<!-- end of tests -->\nb\n'
    new = quality.put(page, 'tests', r'| \1 |')
    assert new == 'a\n<!-- tests -->\n\n| \\1 |\n\n<!-- end of tests -->\nb\n'
    assert quality.put(new, 'tests', r'| \1 |') == new
    with pytest.raises(click.ClickException, match='<!-- engines -->'):
        quality.put(page, 'engines', '')


def test_every_test_has_a_name_and_the_page_has_all_marks() -> None:
    assert set(read_datasets(quality.TESTS)) == set(quality.NAMES)
    page = (Path(__file__).parents[2] / 'docs/quality.md').read_text()
    for name in ('tests', 'engines'):
        quality.put(page, name, '')
