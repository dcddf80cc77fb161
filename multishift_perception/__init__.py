# SPDX-License-Identifier: Apache-2.0
"""Segments the road in every look it takes, and detects unknown objects on it.

This package is what runs on the vehicle and over bags; what makes its networks is
``multishift_training``.
"""

import importlib
from typing import Any

from multishift_perception.offline import stay_offline

__version__ = '0.1.0'

stay_offline()


def __getattr__(name: str) -> Any:
    """Load `prediction.predict` when it is asked for: it brings an engine's library along."""
    if name == 'predict':
        return importlib.import_module('multishift_perception.prediction').predict
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
