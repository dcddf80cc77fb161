# SPDX-License-Identifier: Apache-2.0
"""SAN-SAW (Peng et al., CVPR 2022): features normalised, and whitened, by what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from multishift_perception.classes import NOVEL
from multishift_perception.images.label_map import class_index
from multishift_training.datasets import Batch
from multishift_training.datasets.config import ClassName, Weight
from multishift_training.methods.closed_world import mean_cross_entropy
from multishift_training.methods.ibn import check_takes_instance_norms
from multishift_training.methods.method import Context, Method
from multishift_training.methods.outliers import check_classifies_pixels

if TYPE_CHECKING:
    from torch import Tensor

    from multishift_training.models import Prediction, SegmentationModel


class SanSaw(Method):
    """Cross-entropy of a network that normalises the regions of some classes one by one.

    Attributes:
        classes: those classes; what is of none of them is left out of what goes on.
        regions: weight of the cross-entropy of where they are.
        normalisation: weight of the distance to what labels would give.
        whitening: weight of the covariances between what tells these classes apart.
        class_weights: weight the cross-entropy of classes by their rarity; not in the paper.
    """

    kind: Literal['san_saw']
    classes: Annotated[list[ClassName], Field(min_length=2)] = [
        'road',
        'sky',
        'building',
        'sidewalk',
        'vegetation',
    ]
    regions: Weight = 0.1
    normalisation: Weight = 0.1
    whitening: Weight = 0.1
    class_weights: bool = False

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See that the places of the norms are known."""
        check_takes_instance_norms(model, name, self.kind, in_stem=False)
        check_classifies_pixels(model, name, self.kind)

    def adapt(self, model: SegmentationModel) -> SegmentationModel:
        """Put the norms into the backbone."""
        from multishift_training.models.deeplab import DeepLabV3Plus
        from multishift_training.models.san_saw import add_semantic_norms

        assert isinstance(model, DeepLabV3Plus)  # `check_network` saw to it
        add_semantic_norms(model, self._labels)
        return model

    @property
    def _labels(self) -> list[int]:
        return [class_index(name) for name in self.classes]

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the cross-entropy, and of both norms the sums of the other losses."""
        from torch.nn import functional as F

        from multishift_training.losses.noise_aware import checked_cross_entropy, health
        from multishift_training.losses.san_saw import class_whitening
        from multishift_training.models.deeplab import DeepLabV3Plus
        from multishift_training.models.layers import upsample
        from multishift_training.models.precision import in_full
        from multishift_training.models.san_saw import PLACES, semantic_norms

        model, said, gather = context.model, prediction.auxiliary, context.gather
        assert isinstance(model, DeepLabV3Plus) and said is not None  # `adapt` saw to it
        known = (gather(batch.labels) < NOVEL).sum().clamp(min=1)
        rows, columns = batch.labels.shape[1:]
        parts = {'cross_entropy': mean_cross_entropy(prediction, batch, context)}
        parts |= dict.fromkeys(
            ('regions', 'normalisation', 'whitening'), 0 * prediction.logits.sum()
        )
        for place, norm in zip(PLACES, semantic_norms(model), strict=True):
            logits = upsample(in_full(said[f'{place}_logits']), (rows, columns))
            each = checked_cross_entropy(logits, batch.labels, None, context.groups)
            parts['regions'] = parts['regions'] + self.regions * gather(each).sum() / known
            found, given = in_full(said[place]), in_full(said[f'{place}_input'])
            coarse = F.interpolate(batch.labels[:, None].float(), found.shape[2:], mode='nearest')
            wanted = norm.by_labels(given, coarse[:, 0].long())
            apart = F.smooth_l1_loss(found, wanted, reduction='none').mean((1, 2, 3))
            parts['normalisation'] = (
                parts['normalisation'] + self.normalisation * gather(apart).mean()
            )
            together = class_whitening(found, norm.classifier.weight.flatten(1), self._labels)
            together = together + health(found)
            parts['whitening'] = parts['whitening'] + self.whitening * gather(together).mean()
        return parts
