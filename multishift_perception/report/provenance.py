# SPDX-License-Identifier: Apache-2.0
"""What a report states of the software that made it, and of the engine that it is about."""

from __future__ import annotations

from datetime import UTC, datetime
import platform

from multishift_perception import __version__
from multishift_perception.engine import Engine


def provenance(engine: Engine, *, min_area: int = 0) -> dict[str, str]:
    """Return what names an engine and the software that ran it, for a report.

    Args:
        engine: that was run.
        min_area: pixels that an anomalous region had at least.
    """
    _, height, width = engine.input_shape
    batches = ', '.join(map(str, engine.batches))
    return {
        'engine bundle': engine.name,
        'manifest SHA-256': engine.digest,
        'model': f'{engine.manifest.model}, training: {engine.manifest.method}',
        'backend': engine.backend,
        'input': f'{batches} x {height} x {width}',
        **({'anomalous regions': f'of {min_area} pixels and more'} if min_area > 1 else {}),
        **software(),
    }


def software() -> dict[str, str]:
    """Return the versions and the machine that a report states, and the time."""
    return {
        'multishift_perception': __version__,
        'Python': platform.python_version(),
        'machine': f'{platform.machine()}, {platform.system()}',
        'created': datetime.now(UTC).strftime('%Y-%m-%d %H:%M UTC'),
    }
