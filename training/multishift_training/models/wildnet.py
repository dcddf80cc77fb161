# SPDX-License-Identifier: Apache-2.0
"""Features in the style of other images (AdaIN), and what WildNet trains beside the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multishift_training.models.deeplab import initialise
from multishift_training.models.precision import in_full

TAPS = ('backbone.entry_tap', 'backbone.low_tap')
_EPSILON = 1e-5

# Mean and standard deviation of each channel, each ``[B,C,1,1]``.
Styles = Mapping[str, tuple[Tensor, Tensor]]


class Contents(nn.Module):
    """Embeds pixels, and remembers the contents of wild images.

    Attributes:
        contents: unit vectors ``[Q,D]``, at random until they are seen.
        place: where the next one goes.
    """

    contents: Tensor
    place: Tensor

    def __init__(self, channels: int, width: int, count: int) -> None:
        """Make it.

        Args:
            channels: of the feature.
            width: D.
            count: Q.
        """
        super().__init__()
        self.projection = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, width, 1)
        )
        self.projection.apply(initialise)
        self.register_buffer('contents', F.normalize(torch.randn(count, width), dim=1))
        self.register_buffer('place', torch.tensor(0))

    def forward(self, feature: Tensor, grid: int) -> Tensor:
        """Return embeddings ``[B,grid*grid,D]`` of length 1, of pixels of ``feature``."""
        embedded = self.projection(in_full(feature))
        return F.normalize(sampled(embedded, grid).flatten(2).mT, dim=2)

    @torch.no_grad()
    def remember(self, embeddings: Tensor) -> None:
        """Put embeddings ``[N,D]`` in the place of the oldest."""
        count = len(self.contents)
        kept = embeddings[-count:].to(self.contents)
        places = (self.place + torch.arange(len(kept), device=kept.device)) % count
        self.contents.index_copy_(0, places, kept)
        self.place.copy_((self.place + len(kept)) % count)


def sampled(values: Tensor, grid: int) -> Tensor:
    """Return ``values [B,C,h,w]`` at ``grid`` rows and columns, those of the nearest pixels."""
    return F.interpolate(values, (grid, grid), mode='nearest')


def style_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the unbiased standard deviation of ``x [B,C,h,w]``, ``[B,C,1,1]``."""
    count = x.shape[2] * x.shape[3]
    mean = x.mean((2, 3), keepdim=True)
    variance = (x - mean).square().sum((2, 3), keepdim=True) / max(count - 1, 1)
    return mean, (variance + _EPSILON).sqrt()


def styled(x: Tensor, style: tuple[Tensor, Tensor]) -> Tensor:
    """Return ``x [B,C,h,w]`` in a style (AdaIN, Huang and Belongie, ICCV 2017)."""
    mean, deviation = style_of(x)
    return (x - mean) / deviation * style[1] + style[0]


def noting_styles(
    model: nn.Module, notes: dict[str, tuple[Tensor, Tensor]]
) -> AbstractContextManager[None]:
    """Note the styles at the taps of a DeepLab's backbone while the block runs it."""

    def note(name: str, tap: nn.Module, inputs: Any, feature: Tensor) -> None:
        notes[name] = style_of(in_full(feature.detach()))

    return _hooked(model, note)


def in_styles(model: nn.Module, styles: Styles) -> AbstractContextManager[None]:
    """Have features at the taps in other styles while the block runs the network."""

    def change(name: str, tap: nn.Module, inputs: Any, feature: Tensor) -> Tensor:
        return styled(in_full(feature), styles[name]).to(feature.dtype)

    return _hooked(model, change)


@contextmanager
def _hooked(model: nn.Module, hook: Callable[..., Tensor | None]) -> Iterator[None]:
    """Call a hook, with the tap's name first, behind each tap while the block runs the network."""
    with ExitStack() as hooks:
        for name in TAPS:
            tap = model.get_submodule(name)
            hooks.callback(tap.register_forward_hook(partial(hook, name)).remove)
        yield
