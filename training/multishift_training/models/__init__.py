# SPDX-License-Identifier: Apache-2.0
"""Networks by name.

Importing it loads no torch: what is wrong in a configuration is said before that takes its time.
"""

from __future__ import annotations

from collections.abc import Callable, KeysView, Mapping
from functools import partial
from inspect import signature
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

from multishift_perception.errors import MultishiftError, one_line
from multishift_perception.registry import Registry

if TYPE_CHECKING:
    from multishift_training.models.prediction import MaskPrediction, Prediction, SegmentationModel

__all__ = [
    'FROM_FOLDER',
    'NAMES',
    'NETWORKS',
    'MaskPrediction',
    'Prediction',
    'SegmentationModel',
    'create',
    'names_alone',
    'register',
]

Factory = Callable[..., 'SegmentationModel']


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is asked for."""
    if name not in __all__:
        raise AttributeError(f'module {__name__} has no attribute {name}')
    from multishift_training.models import prediction

    return getattr(prediction, name)


# Class of the backbone, and what it is made with. Imports wait until a network is made:
# transformers alone takes seconds.
_BACKBONES: Mapping[str, tuple[str, tuple[int, ...]]] = {
    'compact': ('compact:CompactBackbone', ()),
    'efficientnet_lite0': ('efficientnet_lite:EfficientNetLite', (0,)),
    'efficientnet_lite1': ('efficientnet_lite:EfficientNetLite', (1,)),
    'efficientnet_lite2': ('efficientnet_lite:EfficientNetLite', (2,)),
    'resnet50': ('resnet:ResNet', (50,)),
    'resnet101': ('resnet:ResNet', (101,)),
    'wideresnet38': ('wide_resnet:WideResNet38', ()),
}


_SPC_DEPTHS: tuple[Literal[50, 101], ...] = (50, 101)


def _deeplabv3plus_fast(num_classes: int) -> SegmentationModel:
    from multishift_training.models.deeplab import DeepLabV3Plus
    from multishift_training.models.efficientnet_lite import EfficientNetLite

    return DeepLabV3Plus(EfficientNetLite(0, trimmed=True), num_classes)


def _deeplabv3plus(backbone: str, num_classes: int) -> SegmentationModel:
    from multishift_training.models.deeplab import DeepLabV3Plus

    source, arguments = _BACKBONES[backbone]
    return DeepLabV3Plus(resolve_name(f'{__name__}.{source}')(*arguments), num_classes)


def _deeplabv3plus_spc(depth: Literal[50, 101], num_classes: int) -> SegmentationModel:
    from multishift_training.models.spc import SpcDeepLab

    return SpcDeepLab(depth, num_classes)


def _eomt(variant: str, num_classes: int) -> SegmentationModel:
    from multishift_training.models.eomt import VARIANTS, eomt

    return eomt(VARIANTS[variant], num_classes)


def _eomt_from_folder(num_classes: int, *, folder: str) -> SegmentationModel:
    from multishift_training.models.eomt import eomt_from_folder

    return eomt_from_folder(num_classes, folder=folder)


def _mask2former_resnet50(num_classes: int) -> SegmentationModel:
    from multishift_training.models.mask2former_factory import mask2former_resnet50

    return mask2former_resnet50(num_classes)


def _mask2former(num_classes: int, *, folder: str) -> SegmentationModel:
    from multishift_training.models.mask2former_factory import mask2former_from_folder

    return mask2former_from_folder(num_classes, folder=folder)


def _mask2former_swin(name: str, num_classes: int) -> SegmentationModel:
    from multishift_training.models.mask2former_factory import SWINS, mask2former_swin

    return mask2former_swin(SWINS[name], num_classes)


def _pidnet(variant: str, num_classes: int) -> SegmentationModel:
    from multishift_training.models.pidnet import VARIANTS, PidNet

    return PidNet(VARIANTS[variant], num_classes)


def _segformer(variant: str, num_classes: int) -> SegmentationModel:
    from multishift_training.models.segformer import VARIANTS, SegFormer

    return SegFormer(VARIANTS[variant], num_classes)


# Networks whose structure is in a Hugging Face folder, and what such a folder is of, in words.
FROM_FOLDER: Mapping[str, str] = {'eomt': 'EoMT', 'mask2former': 'Mask2Former'}


def register(name: str, factory: Factory) -> None:
    """Let configurations name a network from now on.

    Args:
        name: of the network.
        factory: is called with the number of known classes, and returns a new
            `SegmentationModel`. Its module imports torch inside functions: names are read without.

    Raises:
        TypeError: its name is taken, or the factory cannot be called with a number.
    """
    if not callable(factory):
        raise TypeError(f'network {name}: its factory is {factory!r}, which cannot be called')
    try:
        signature(factory).bind_partial(19)
    except TypeError as error:
        raise TypeError(
            f'network {name}: its factory takes no number of classes ({error})'
        ) from None
    NETWORKS.add(name, factory)


NETWORKS: Registry[Factory] = Registry('network', 'multishift.networks', register)
for _backbone in _BACKBONES:
    register(f'deeplabv3plus_{_backbone}', partial(_deeplabv3plus, _backbone))
register('deeplabv3plus_efficientnet_lite0_fast', _deeplabv3plus_fast)
for _depth in _SPC_DEPTHS:
    register(f'deeplabv3plus_resnet{_depth}_spc', partial(_deeplabv3plus_spc, _depth))
register('eomt', _eomt_from_folder)
for _variant in ('eomt_small', 'eomt_base', 'eomt_large'):
    register(_variant, partial(_eomt, _variant))
register('mask2former', _mask2former)
register('mask2former_resnet50', _mask2former_resnet50)
for _variant in ('swin_b', 'swin_l', 'swin_b_rba', 'swin_l_rba', 'swin_l_uno'):
    register(f'mask2former_{_variant}', partial(_mask2former_swin, f'mask2former_{_variant}'))
for _variant in ('pidnet_s', 'pidnet_m', 'pidnet_l'):
    register(_variant, partial(_pidnet, _variant))
for _variant in (f'segformer_b{i}' for i in range(6)):
    register(_variant, partial(_segformer, _variant))

# Those of the moment, whenever they are read.
NAMES: KeysView[str] = NETWORKS.keys()


def names_alone() -> list[str]:
    """Return the names that say all of a network's structure: no folder has to."""
    return [name for name in NAMES if name not in FROM_FOLDER]


def create(name: str, num_classes: int = 19, **options: Any) -> SegmentationModel:
    """Return a new, randomly initialised network.

    In PyTorch's usual memory format, in which those with published code give its outputs bit for
    bit. Training and export change to channels-last, which is faster and rounds otherwise.

    Args:
        name: one of ``NAMES``.
        num_classes: number of known classes.
        options: of ``eomt`` and ``mask2former``: ``folder``, a Hugging Face folder whose
            ``config.json`` says what to build. The others have none.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
        TypeError: the network has no such option, or needs one.
        MultishiftError: the folder is of another network, or has other classes; or what a package
            or program registered fails, or returns no `SegmentationModel`.
    """
    if name not in NETWORKS:
        raise ValueError(f'unknown model {name!r}: choose one of {", ".join(NAMES)}')
    from multishift_training.models.prediction import SegmentationModel

    factory = NETWORKS[name]
    signature(factory).bind(num_classes, **options)
    try:
        model = factory(num_classes, **options)
    except (MultishiftError, ImportError):  # the commands say what is not installed
        raise
    except Exception as error:  # whatever the code of a stranger raises
        reason = f'{type(error).__name__}: {one_line(error)}'
        raise MultishiftError(
            f'network {name} cannot be made ({reason}): mend the function that makes it'
        ) from error
    if not isinstance(model, SegmentationModel):
        raise MultishiftError(
            f'network {name} is a {type(model).__name__}, no SegmentationModel: mend the function '
            'that makes it'
        )
    if not hasattr(model, 'input_scale'):
        raise MultishiftError(
            f'network {name} has no input_scale: say in its class which images it takes, such as '
            'multishift_training.models.input_scale.IMAGENET'
        )
    return model
