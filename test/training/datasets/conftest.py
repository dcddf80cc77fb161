# SPDX-License-Identifier: Apache-2.0
"""Real data sets, where they are at hand."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path

import pytest

# Beside the checkout, unless that says otherwise.
_ROOT = Path(os.environ.get('MULTISHIFT_DATA', Path(__file__).parents[4] / 'shared' / 'data'))


@pytest.fixture
def real() -> Callable[[str], Path]:
    """Return a function that gives the data root with a data set, or skips the test without it."""

    def find(name: str) -> Path:
        if not (_ROOT / name).is_dir():
            pytest.skip(f'{name} is not in {_ROOT}: name its folder by MULTISHIFT_DATA')
        return _ROOT

    return find
