# SPDX-License-Identifier: Apache-2.0
"""Networks from files: published weights as they are, and what `multishift train` leaves.

Importing it loads no torch: what a file says of itself is read without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multishift_training.checkpoints.load_report import LoadReport
    from multishift_training.checkpoints.loading import load, take_structure

__all__ = ['LoadReport', 'load', 'take_structure']


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is asked for."""
    if name not in __all__:
        raise AttributeError(f'module {__name__} has no attribute {name}')
    module = 'load_report' if name == 'LoadReport' else 'loading'
    return getattr(import_module(f'{__name__}.{module}'), name)
