"""Networks by name."""

from __future__ import annotations

from collections.abc import Callable

from multishift_training.models.compact import CompactBackbone
from multishift_training.models.deeplab import DeepLabV3Plus
from multishift_training.models.prediction import Prediction, SegmentationModel

__all__ = ['NAMES', 'Prediction', 'SegmentationModel', 'create']


def _deeplabv3plus_compact(num_classes: int) -> SegmentationModel:
    return DeepLabV3Plus(CompactBackbone(), num_classes)


_FACTORIES: dict[str, Callable[[int], SegmentationModel]] = {
    'deeplabv3plus_compact': _deeplabv3plus_compact,
}
NAMES = tuple(_FACTORIES)


def create(name: str, num_classes: int = 19) -> SegmentationModel:
    """Return a new, randomly initialised network.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
    """
    if name not in _FACTORIES:
        raise ValueError(f'unknown model {name!r}: choose one of {", ".join(NAMES)}')
    return _FACTORIES[name](num_classes)
