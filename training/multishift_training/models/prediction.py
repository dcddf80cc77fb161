# SPDX-License-Identifier: Apache-2.0
"""The contract between networks and everything that trains, loads or exports them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from multishift_training.models.input_scale import InputScale
from multishift_training.models.layers import upsample
from multishift_training.models.layout import Layout


class MaskPrediction(NamedTuple):
    """What a mask network says of its queries, before masks and classes are joined.

    Attributes:
        class_logits: ``float32 [B,Q,C+1]``; the last class is "no object". Methods may add
            classes before that.
        uncertainty_logits: ``float32 [B,Q,C+1]`` of the second class head.
        mask_logits: ``float32 [B,Q,h,w]`` at a quarter of the padded image.
    """

    class_logits: Tensor
    uncertainty_logits: Tensor
    mask_logits: Tensor


class Prediction(NamedTuple):
    """What a network says of a batch of images.

    Attributes:
        logits: ``float32 [B,C,H,W]`` over the known classes. Of mask networks, the sum of class
            probability times mask over the queries: not negative, and its argmax is the class.
        score: ``float32 [B,H,W]``, uncertainty, larger is more anomalous.
        feature: ``float32 [B,D,h,w]`` at the network's own stride: what the heads read; of mask
            networks, the embedding of each pixel.
        masks: of mask networks, the parts that their losses need.
        auxiliary: what else a method's losses take of the network that it adapted, by name; never
            exported.
        coarse_logits: ``float32 [B,C,h,w]``, the logits before `SegmentationModel.enlarge` made
            them as large as they are; None where they were not made so.
    """

    logits: Tensor
    score: Tensor
    feature: Tensor
    masks: MaskPrediction | None = None
    auxiliary: dict[str, Tensor] | None = None
    coarse_logits: Tensor | None = None

    def with_auxiliary(self, said: Mapping[str, Tensor]) -> Prediction:
        """Return it with more as auxiliary, beside what other methods have there."""
        return self._replace(auxiliary={**(self.auxiliary or {}), **said})


class SegmentationModel(nn.Module):
    """A network with an uncertainty head.

    Input is RGB ``float32 [B,3,H,W]`` of any size, in its own scale.

    Attributes:
        input_scale: that scale; `Normalize` brings bytes to it.
        imagenet_package: see `Backbone`.
    """

    input_scale: InputScale
    imagenet_package: str | None = None

    @property
    def early(self) -> nn.Module | None:
        """The module that reads an early feature ``[B,D,h,w]`` first, None where none is known.

        Light and weather show in that feature's channels, and little of what is seen.
        """
        return None

    @abstractmethod
    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        """Run the network.

        Args:
            image: ``float32 [B,3,H,W]``.
            size: rows and columns of ``logits`` and ``score``; the image's own when left out.
                Losses take fewer to save time.
        """

    def init_uncertainty_from_classifier(self) -> None:
        """Make the score the classifier's own, the starting point of its training.

        By default the head ``uncertainty`` starts as ``classifier``: see `EnergyHead.init_from`.
        """
        head: Any = self.uncertainty
        head.init_from(self.classifier)

    def enlarge(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Return maps ``[B,N,h,w]`` of the feature's rows and columns at ``size``.

        As the network does it with its own logits: bilinear, here corner pixels on corner pixels.
        """
        return upsample(maps, size)

    def layouts(self) -> Sequence[Layout]:
        """Return the layouts of published checkpoints that this network loads."""
        return ()
