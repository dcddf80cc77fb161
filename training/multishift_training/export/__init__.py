# SPDX-License-Identifier: Apache-2.0
"""From a network to an engine bundle, with one module in `targets` for each kind of artifact.

Importing it loads no torch: commands offer what can be built before that takes its time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multishift_training.export.checkpoint import CALIBRATE, build, build_published
from multishift_training.export.plan import DEFAULT_TARGETS, PRECISIONS, Plan, Precision
from multishift_training.export.recovery import write_checkpoint
from multishift_training.export.targets import TARGETS, check_plan

if TYPE_CHECKING:
    from multishift_training.export.bundle import export_bundle

__all__ = [
    'CALIBRATE',
    'DEFAULT_TARGETS',
    'PRECISIONS',
    'TARGETS',
    'Plan',
    'Precision',
    'build',
    'build_published',
    'check_plan',
    'export_bundle',
    'write_checkpoint',
]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is asked for."""
    if name not in __all__:
        raise AttributeError(f'module {__name__} has no attribute {name}')
    from multishift_training.export import bundle

    return getattr(bundle, name)
