# SPDX-License-Identifier: Apache-2.0
"""A frame's place in the calls of a network on a GPU: the picture's way in, the outputs' way out.

A picture crosses to the GPU once, as the camera sent it, and of its outputs what is wanted crosses
back, at the size that is wanted. What is large stays on the GPU; what it costs the CPU is one copy
to page-locked memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from multishift_perception.engine.cuda_graph import Recorded
from multishift_perception.engine.page_locked import pinned, read_back
from multishift_perception.engine.stage_clock import StageClock
from multishift_perception.engine.torch_resizing import Fit, ResizeLabels, ResizeScores
from multishift_perception.engine.types import Part
from multishift_perception.images.picture import Picture

# Sizes of pictures, and of outputs, that a slot remembers: cameras of a vehicle have few.
_MOST_SIZES = 8
# What is the same as another part, once that is as large as the engine's outputs are.
_ENLARGED: dict[Part, Part] = {'engine_labels': 'labels', 'engine_anomaly': 'anomaly'}

_Made = TypeVar('_Made')
_RGB = (0, 1, 2)


class _Recent(Generic[_Made]):
    """Things by what they are for; of many, the last ones that were used."""

    def __init__(self, most: int) -> None:
        self._things: OrderedDict[Hashable, _Made] = OrderedDict()
        self._most = most

    def get(self, key: Hashable, make: Callable[[], _Made]) -> _Made:
        """Return the thing for a key, made now where there is none."""
        if key not in self._things:
            if len(self._things) == self._most:
                self._things.popitem(last=False)
            self._things[key] = make()
        self._things.move_to_end(key)
        return self._things[key]


class FrameTensors(NamedTuple):
    """What the network says of a frame, on the GPU, as in `EngineOutput`.

    Attributes:
        label: ``uint8 [H,W]``.
        score: ``float32 [H,W]``.
        anomaly: ``uint8 [H,W]``.
        look: ``float32 [K]``; None of graphs that were built without.
        confidence: ``uint8 [H,W]``, likewise.
    """

    label: Tensor
    score: Tensor
    anomaly: Tensor
    look: Tensor | None = None
    confidence: Tensor | None = None


class _WayIn(NamedTuple):
    """Memory for pictures of one kind, and what shrinks them.

    Attributes:
        here: page-locked, ``uint8 [h,w,c]``.
        there: the same on the GPU.
        shrink: writes the frame that the network reads.
    """

    here: Tensor
    there: Tensor
    shrink: Recorded


class Slot:
    """One of the frames of a call; its methods run on the current stream and do not wait."""

    def __init__(self, frame: Tensor, said: FrameTensors, stream: Any, pool: Any) -> None:
        """Take the frame's memory.

        Args:
            frame: where the network reads it, RGB ``uint8 [H,W,3]``.
            said: where the network writes what it says of it.
            stream: a ``torch.cuda.Stream``.
            pool: of the graphs' memory, for all slots of a network.
        """
        self._frame = frame
        self._said = said
        self._stream = stream
        self._pool = pool
        self._ways_in: _Recent[_WayIn] = _Recent(_MOST_SIZES)
        self._resized: _Recent[Recorded] = _Recent(3 * _MOST_SIZES)

    def take(self, picture: Picture, clock: StageClock) -> None:
        """Bring a picture to the GPU and shrink it there."""
        if picture.order is None:
            picture = Picture(picture.rgb())
        shape, order = picture.pixels.shape, picture.order or _RGB
        way_in = self._ways_in.get((shape, order), lambda: self._way_in(shape, order))
        np.copyto(way_in.here.numpy(), picture.pixels)
        clock.mark('copy')
        way_in.there.copy_(way_in.here, non_blocking=True)
        clock.mark('upload')
        way_in.shrink.run()
        clock.mark('shrink')

    def give(
        self, size: tuple[int, ...], wanted: frozenset[Part], clock: StageClock
    ) -> dict[Part, Tensor]:
        """Bring outputs back; they are there once the stream has come to its end.

        Args:
            size: height and width of labels, anomaly and confidence.
            wanted: which.
            clock: of the call.
        """
        ways: dict[Part, Callable[[], Tensor]] = {
            'labels': lambda: self._at_size(self._said.label, size, ResizeLabels),
            'anomaly': lambda: self._at_size(self._said.anomaly, size, ResizeScores),
            'engine_labels': lambda: self._said.label,
            'engine_anomaly': lambda: self._said.anomaly,
            'score': lambda: self._said.score,
        }
        if (look := self._said.look) is not None:
            ways['look'] = lambda: look
        if (confidence := self._said.confidence) is not None:
            ways['confidence'] = lambda: self._at_size(confidence, size, ResizeScores)
        found: dict[Part, Tensor] = {}
        for part, make in ways.items():
            if part not in wanted:
                continue
            whole = _ENLARGED.get(part)
            if whole in found and size == _size(self._said.label):
                found[part] = found[whole]
                continue
            there = make()
            clock.mark('enlarge')
            # At once: graphs of one pool may write where the results of another are.
            found[part] = read_back(there)
            clock.mark('read back')
        return found

    def _way_in(self, shape: tuple[int, ...], order: tuple[int, int, int]) -> _WayIn:
        height, width, _ = shape
        here = pinned(torch.Size(shape), torch.uint8)
        there = torch.zeros(shape, dtype=torch.uint8, device=self._frame.device)
        fit = Fit((height, width), _size(self._frame)).to(self._frame.device)
        channels = torch.tensor(order, device=self._frame.device)

        def shrink() -> tuple[Tensor, ...]:
            small = fit(there)
            if order != _RGB or shape[2] != len(_RGB):
                small = small.index_select(2, channels)
            return (self._frame.copy_(small),)

        return _WayIn(here, there, self._record(shrink, 'what shrinks pictures'))

    def _at_size(
        self, output: Tensor, size: tuple[int, ...], kind: type[ResizeLabels | ResizeScores]
    ) -> Tensor:
        shape = _size(output)
        if shape == size:
            return output
        height, width = size

        def make() -> Recorded:
            resize: nn.Module = kind(shape, (height, width)).to(output.device)
            return self._record(lambda: (resize(output),), 'what enlarges outputs')

        (result,) = self._resized.get((size, output.data_ptr()), make).run()
        return result

    def _record(self, work: Callable[[], tuple[Tensor, ...]], name: str) -> Recorded:
        return Recorded(work, name, self._stream, self._pool)


def _size(tensor: Tensor) -> tuple[int, int]:
    height, width = tensor.shape[:2]
    return height, width
