# SPDX-License-Identifier: Apache-2.0
"""IBN-Net (Pan et al., ECCV 2018): a closed world of instance norms beside batch norms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch
from multishift_training.methods.closed_world import mean_cross_entropy
from multishift_training.methods.method import Context, Method

if TYPE_CHECKING:
    from torch import Tensor

    from multishift_training.models import Prediction, SegmentationModel


class Ibn(Method):
    """Cross-entropy of a network whose backbone forgets styles in its shallow layers.

    Attributes:
        variant: ``a`` gives the first half of the channels of each block's first norm to instance
            norm; ``b`` puts instance norms into the stem and behind strides 4 and 8.
        class_weights: weight classes by their rarity.
    """

    kind: Literal['ibn']
    variant: Literal['a', 'b'] = 'b'
    class_weights: bool = False

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See that the places of its norms are known."""
        check_takes_instance_norms(model, name, self.kind, in_stem=self.variant == 'b')

    def adapt(self, model: SegmentationModel) -> SegmentationModel:
        """Change the norms of the backbone."""
        from multishift_training.models.deeplab import DeepLabV3Plus
        from multishift_training.models.instance_norm import halve_norms, normalize_ends

        assert isinstance(model, DeepLabV3Plus)  # `check_network` saw to it
        if self.variant == 'a':
            halve_norms(model.backbone)
        else:
            normalize_ends(model.backbone, affine=True)
        return model

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the mean cross-entropy over the known pixels."""
        return {'cross_entropy': mean_cross_entropy(prediction, batch, context)}


def check_takes_instance_norms(
    model: SegmentationModel, name: str, method: str, *, in_stem: bool = True
) -> None:
    """See that a network has a backbone into which instance norms can be put.

    Args:
        model: the network.
        name: its name, for the message.
        method: that of the method.
        in_stem: whether one of them takes the place of the stem's batch norm.

    Raises:
        MultishiftError: it has none, or another method put one into the stem.
    """
    from multishift_training.models.deeplab import DeepLabV3Plus
    from multishift_training.models.instance_norm import BACKBONES, has_stem_norm

    if not isinstance(model, DeepLabV3Plus) or not isinstance(model.backbone, BACKBONES):
        raise MultishiftError(
            f'method {method} puts instance norms into the backbone of a DeepLab, and knows no '
            f'place for them in {name}: choose deeplabv3plus_compact, _efficientnet_lite0, '
            '_lite1, _lite2, _resnet50 or _resnet101'
        )
    if in_stem and has_stem_norm(model.backbone):
        raise MultishiftError(
            f'method {method} puts instance norms where {name} has some: leave out one of them'
        )
