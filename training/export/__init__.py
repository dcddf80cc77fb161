"""From a deploy graph to an engine bundle: one module for each kind of artifact."""

from __future__ import annotations

from multishift_training.export.bundle import export_bundle
from multishift_training.export.targets import (
    DEFAULT_TARGETS,
    PRECISIONS,
    TARGETS,
    Plan,
    Precision,
    Target,
)

__all__ = [
    'DEFAULT_TARGETS',
    'PRECISIONS',
    'TARGETS',
    'Plan',
    'Precision',
    'Target',
    'export_bundle',
]
