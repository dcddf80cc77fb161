"""Engine bundles and the backends that run them.

>>> from multishift_perception.engine import Engine
>>> with Engine.load(None) as engine:  # doctest: +SKIP
...     output = engine.infer(frames)
"""

from multishift_perception.engine.engine import EMBEDDED_BUNDLE, Engine
from multishift_perception.engine.types import EngineOutput

__all__ = ['EMBEDDED_BUNDLE', 'Engine', 'EngineOutput']
