"""Engine bundles and the backends that run them.

>>> from multishift_perception.engine import Engine
>>> with Engine.load(None) as engine:  # doctest: +SKIP
...     output = engine.infer(frames)
"""

from multishift_perception.engine.engine import BACKENDS, EMBEDDED_BUNDLE, Engine
from multishift_perception.engine.manifest import (
    MANIFEST,
    Artifact,
    Calibration,
    ClassEntry,
    Manifest,
    read_manifest,
)
from multishift_perception.engine.types import EngineOutput

__all__ = [
    'BACKENDS',
    'EMBEDDED_BUNDLE',
    'MANIFEST',
    'Artifact',
    'Calibration',
    'ClassEntry',
    'Engine',
    'EngineOutput',
    'Manifest',
    'read_manifest',
]
