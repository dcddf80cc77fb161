# SPDX-License-Identifier: Apache-2.0
"""Builds the published networks from checkouts of their repositories, to compare ours with.

Nothing of them is part of this project. They import more than their forward pass needs
(torchvision, detectron2's compiled part, a compiled operator): what is not installed is
replaced by empty stand-ins here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import importlib
import importlib.abc
import importlib.machinery
from pathlib import Path
import sys
import tempfile
import types
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from multishift_training import checkpoints, models
from multishift_training.models import SegmentationModel

Outputs = tuple[Tensor, Tensor]


class Rivals(NamedTuple):
    """A published network and ours with the same weights.

    Attributes:
        published: image ``[B,3,H,W]`` to logits and score at its size; without a score, None.
        ours: the network.
        network: the published one's module.
    """

    published: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    ours: SegmentationModel
    network: nn.Module


class _Nothing(types.ModuleType):
    """A module of which everything can be imported, and nothing used."""

    __path__: list[str] = []
    __version__ = '0'

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return _Inert(name, (), {})


class _Inert(type):
    """A class that can be subclassed, called as a decorator, and asked for anything."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return _Inert(name, (), {})

    def __call__(cls, *args: Any, **options: Any) -> Any:
        return args[0] if len(args) == 1 and callable(args[0]) else _Inert('made', (), {})


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds empty modules for packages that are absent."""

    def __init__(self, roots: Sequence[str]) -> None:
        self._roots = roots

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if any(name == root or name.startswith(root + '.') for root in self._roots):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Nothing(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Leave the module empty."""


def _stand_in(*roots: str) -> None:
    sys.meta_path.insert(0, _StandIns(roots))


def _module(name: str, **content: Any) -> None:
    module = types.ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module


def _package(name: str, path: Path) -> None:
    """Make a package importable without running its ``__init__``."""
    _module(name, __path__=[str(path)])


def wide_resnet38(repository: Path) -> Rivals:
    """Return MultiShiftSeg's DeepLabV3+ with WideResNet38."""
    _stand_in('torchvision')
    _package('lib', repository / 'lib')
    _package('lib.configs', repository / 'lib' / 'configs')
    norm = types.SimpleNamespace(bn='bn', bnfunc='torch.nn.BatchNorm2d')
    options = types.SimpleNamespace(model=norm, MODEL=types.SimpleNamespace(BNFUNC=nn.BatchNorm2d))
    _module('lib.configs.parse_arg', opt=options, args=types.SimpleNamespace(gpus=1))
    dropout = nn.Dropout
    published = importlib.import_module('lib.network.deepv3.deepv3').DeepWV3Plus(19).eval()
    nn.Dropout = dropout  # type: ignore[misc]  # the import replaces it everywhere
    _randomise(published)

    def run(image: Tensor) -> Outputs:
        score, logits = published(image)
        return logits, score

    return Rivals(run, _ours('deeplabv3plus_wideresnet38', published.state_dict()), published)


def resnet50(repository: Path) -> Rivals:
    """Return RobustNet's plain DeepLabV3+ with ResNet-50, which has no score."""
    _stand_in('torchvision', 'kmeans1d')
    _package('network', repository / 'network')
    for name in ('Mobilenet', 'Shufflenet', 'switchwhiten'):
        _module(f'network.{name}')
        setattr(sys.modules['network'], name, sys.modules[f'network.{name}'])
    _module('network.sync_switchwhiten', SyncSwitchWhiten2d=None)
    model = types.SimpleNamespace(BNFUNC=nn.BatchNorm2d)
    _module('config', cfg=types.SimpleNamespace(MODEL=model))
    resnet = importlib.import_module('network.Resnet')
    resnet.mynn.forgiving_state_restore = lambda net, weights: net
    resnet.model_zoo.load_url = lambda url: {}
    build = importlib.import_module('network.deepv3').DeepR50V3PlusD
    whitening = types.SimpleNamespace(
        wt_layer=[0] * 7, relax_denom=0, clusters=0, use_wtloss=False
    )
    published = build(whitening, 19, None, None).eval()
    _randomise(published)

    def run(image: Tensor) -> tuple[Tensor, None]:
        return published(image), None

    return Rivals(run, _ours('deeplabv3plus_resnet50', published.state_dict()), published)


def mask2former(repository: Path, detectron2: Path) -> Rivals:
    """Return MultiShiftSeg's Mask2Former."""
    absent = ('torchvision', 'timm', 'pycocotools', 'cloudpickle', 'tensorboard', 'panopticapi')
    _stand_in(*absent, 'detectron2._C', 'cityscapesscripts', 'shapely')
    # An operator without functions: the code falls back to its own in Python.
    _module('MultiScaleDeformableAttention')
    sys.path.insert(0, str(detectron2))
    folder = repository / 'lib' / 'network' / 'mask2former'
    _package('lib', repository / 'lib')
    _package('lib.network', folder.parent)
    _package('lib.network.mask2former', folder)
    _module('lib.network.mask2former.modeling.criterion', SetCriterion=_Constants)
    _stand_in('lib.network.mask2former.modeling.matcher')
    importlib.import_module('lib.network.mask2former.modeling')
    importlib.import_module('lib.network.mask2former.maskformer_model')
    published = importlib.import_module('detectron2.modeling').build_model(_config(folder)).eval()
    _randomise(published)

    def run(image: Tensor) -> Outputs:
        found, raw = published([{'image': one} for one in image])
        rows, columns = image.shape[2:]
        classes = raw['pred_logits_ood'].softmax(-1)[..., :-1]
        sums = torch.einsum('bqc,bqhw->bchw', classes, raw['pred_masks_ood'].sigmoid())
        logits = torch.stack([one['sem_seg'][:19] for one in found])
        return logits, 1 - sums[:, :, :rows, :columns].amax(1)

    return Rivals(run, _ours('mask2former_resnet50', published.state_dict()), published)


_M2F_ABSENT = (
    *('torchvision', 'pycocotools', 'cloudpickle', 'tensorboard', 'panopticapi'),
    *('detectron2._C', 'cityscapesscripts', 'shapely'),
)


def mask2former_swin(name: str, repository: Path, detectron2: Path) -> Rivals:
    """Return Mask2Former with Swin of a repository that has its code, and no score.

    Args:
        name: of ours, which says how the published one is set up.
        repository: of Mask2Former (facebookresearch/Mask2Former, on which UNO's is built), or RbA.
        detectron2: of detectron2.
    """
    from multishift_training.models.mask2former_factory import SWINS

    variant = SWINS[name]
    _stand_in(*_M2F_ABSENT)
    _module('timm')
    _module('timm.models')
    _module(
        'timm.models.layers',
        DropPath=lambda _: nn.Identity(),
        to_2tuple=lambda side: (side, side),
        trunc_normal_=nn.init.trunc_normal_,
    )
    _module('MultiScaleDeformableAttention')
    sys.path.insert(0, str(detectron2))
    folder = repository / 'mask2former'
    _package('mask2former', folder)
    _package('mask2former.modeling', folder / 'modeling')
    _module('mask2former.modeling.criterion', SetCriterion=_Constants)
    _stand_in('mask2former.modeling.matcher')
    for module in (
        'modeling.backbone.swin',
        'modeling.pixel_decoder.msdeformattn',
        'modeling.meta_arch.mask_former_head',
        'maskformer_model',
    ):
        importlib.import_module(f'mask2former.{module}')
    config = importlib.import_module('detectron2.config').get_cfg()
    config.set_new_allowed(True)
    importlib.import_module('detectron2.projects.deeplab').add_deeplab_config(config)
    importlib.import_module('mask2former.config').add_maskformer2_config(config)
    kept = {'one': ('res5',), 'three': ('res3', 'res4', 'res5')}
    levels = kept['one' if variant.one_level else 'three']
    settings: dict[str, Any] = {
        'META_ARCHITECTURE': 'MaskFormer',
        'DEVICE': 'cpu',
        'BACKBONE.NAME': 'D2SwinTransformer',
        'SWIN.EMBED_DIM': variant.width,
        'SWIN.DEPTHS': list(variant.depths),
        'SWIN.NUM_HEADS': list(variant.heads),
        'SWIN.WINDOW_SIZE': 12,
        'SWIN.PRETRAIN_IMG_SIZE': 384,
        'PIXEL_MEAN': [0.0, 0.0, 0.0],  # ours is given the normalised image
        'PIXEL_STD': [1.0, 1.0, 1.0],
        'MASK_FORMER.DEC_LAYERS': 2 if variant.one_level else 10,
        'MASK_FORMER.NUM_OBJECT_QUERIES': 100,
        'MASK_FORMER.DROPOUT': 0.0,
        'MASK_FORMER.TRANSFORMER_DECODER_NAME': 'MultiScaleMaskedTransformerDecoder',
        'MASK_FORMER.TRANSFORMER_IN_FEATURE': 'multi_scale_pixel_decoder',
        'SEM_SEG_HEAD.NAME': 'MaskFormerHead',
        'SEM_SEG_HEAD.IN_FEATURES': ['res2', 'res3', 'res4', 'res5'],
        'SEM_SEG_HEAD.PIXEL_DECODER_NAME': 'MSDeformAttnPixelDecoder',
        'SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES': list(levels),
        'SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS': 6,
        'SEM_SEG_HEAD.CONVS_DIM': 256,
        'SEM_SEG_HEAD.MASK_DIM': 256,
        'SEM_SEG_HEAD.NORM': 'GN',
        'SEM_SEG_HEAD.NUM_CLASSES': 19 + variant.negative,
    }
    config.merge_from_list([x for k, v in settings.items() for x in (f'MODEL.{k}', v)])
    config.DATASETS.TRAIN = ('none',)
    published = importlib.import_module('detectron2.modeling').build_model(config).eval()

    def run(image: Tensor) -> tuple[Tensor, None]:
        found = published([{'image': one} for one in image])
        return torch.stack([one['sem_seg'][:19] for one in found]), None

    return Rivals(run, _ours(name, published.state_dict()), published)


class _Constants(nn.Module):
    """Of the training criterion, what its checkpoints hold."""

    def __init__(self, classes: int, *, eos_coef: float, **_: Any) -> None:
        super().__init__()
        weight = torch.ones(classes + 1)
        weight[-1] = eos_coef
        self.register_buffer('empty_weight', weight)


def _config(folder: Path) -> Any:
    nodes = importlib.import_module('detectron2.config')
    config = nodes.get_cfg()
    config.set_new_allowed(True)
    importlib.import_module('detectron2.projects.deeplab').add_deeplab_config(config)
    importlib.import_module('lib.network.mask2former.config').add_maskformer2_config(config)
    name = 'mask2former-cityscapes/semantic-segmentation/anomaly_ft.yaml'
    config.merge_from_file(str(folder / 'configs' / name), allow_unsafe=True)
    config.MODEL.MASK2ANOMALY = nodes.CfgNode(
        {'USE_DEFAULT_LOSS': True, 'DEEP_SUPERVISION': False}, new_allowed=True
    )
    config.MODEL.MASK_FORMER.OOD_LOSS = 'RCL'
    config.MODEL.DEVICE = 'cpu'
    config.MODEL.BACKBONE.FREEZE_AT = 5
    return config


def segformer(variant: int) -> Rivals:
    """Return transformers' SegFormer, which has no score."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    from multishift_training.models.segformer import VARIANTS

    name = f'segformer_b{variant}'
    depths, channels, width = VARIANTS[name]
    published = SegformerForSemanticSegmentation(
        SegformerConfig(  # type: ignore[call-arg]
            depths=depths, hidden_sizes=channels, decoder_hidden_size=width, num_labels=19
        )
    ).eval()

    def run(image: Tensor) -> tuple[Tensor, None]:
        logits = published(image).logits
        size = image.shape[2:]
        return nn.functional.interpolate(logits, size, mode='bilinear'), None

    ours = models.create(name).eval()
    with tempfile.TemporaryDirectory() as folder:
        published.save_pretrained(folder)
        checkpoints.load(ours, folder)
    return Rivals(run, ours, published)


@torch.no_grad()
def _randomise(published: nn.Module) -> None:
    """Give batch norms statistics, so that they do something; the rest is as initialised."""
    torch.manual_seed(0)
    for name, value in published.state_dict().items():
        if name.endswith('running_mean'):
            value.normal_(0, 0.1)
        elif name.endswith('running_var'):
            value.uniform_(0.5, 1.5)


def _ours(name: str, published: Mapping[str, Tensor]) -> SegmentationModel:
    """Return our network with the published one's weights."""
    model = models.create(name).eval()
    layout = next(x for x in model.layouts() if x.signature in published)
    if layout.adapt:
        layout.adapt()
    state = model.state_dict()
    for key in state:
        source = layout.source(key)
        if source.key in published:
            value = published[source.key]
            state[key] = source.take(value) if source.take else value
    model.load_state_dict(state)
    return model
