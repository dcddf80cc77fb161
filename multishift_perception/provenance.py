"""What a report states of the engine that it is about."""

from __future__ import annotations

from multishift_perception.engine import Engine
from multishift_perception.report import software


def provenance(engine: Engine) -> dict[str, str]:
    """Return what names an engine and the software that ran it, for a report."""
    batch, height, width = engine.input_shape
    return {
        'engine bundle': engine.name,
        'manifest SHA-256': engine.digest,
        'model': f'{engine.manifest.model}, method: {engine.manifest.method}',
        'backend': engine.backend,
        'input': f'{batch} x {height} x {width}',
        **software(),
    }
