# SPDX-License-Identifier: Apache-2.0
"""Engine bundles and the backends that run them.

>>> from multishift_perception.engine import Engine
>>> with Engine.load(None) as engine:  # doctest: +SKIP
...     output = engine.infer(frames)
"""

from multishift_perception.engine.backends import BACKENDS
from multishift_perception.engine.engine import EMBEDDED_BUNDLE, Engine
from multishift_perception.engine.look import Look
from multishift_perception.engine.manifest import (
    MANIFEST,
    Artifact,
    Calibration,
    ClassEntry,
    InputShape,
    LookEntry,
    Manifest,
    Parity,
    Probe,
    TensorRtNeeds,
    read_manifest,
    write_manifest,
)
from multishift_perception.engine.probe import ProbeSet
from multishift_perception.engine.types import (
    ALL_PARTS,
    Backend,
    EngineOutput,
    Part,
    Parts,
    PictureBackend,
    PictureCall,
)

__all__ = [
    'ALL_PARTS',
    'BACKENDS',
    'EMBEDDED_BUNDLE',
    'MANIFEST',
    'Artifact',
    'Backend',
    'Calibration',
    'ClassEntry',
    'Engine',
    'EngineOutput',
    'InputShape',
    'Look',
    'LookEntry',
    'Manifest',
    'Parity',
    'Part',
    'Parts',
    'PictureBackend',
    'PictureCall',
    'Probe',
    'ProbeSet',
    'TensorRtNeeds',
    'read_manifest',
    'write_manifest',
]
