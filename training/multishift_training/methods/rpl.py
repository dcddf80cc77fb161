# SPDX-License-Identifier: Apache-2.0
"""Residual pattern learning (Liu et al., ICCV 2023), with context-robust contrast as a switch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from multishift_perception.classes import NOVEL
from multishift_training.datasets import Batch, TrainingData
from multishift_training.datasets.config import Positive, Weight
from multishift_training.methods.method import Context, Method, check_is_deeplab
from multishift_training.methods.outliers import check_outliers

if TYPE_CHECKING:
    from torch import Tensor, nn

    from multishift_training.models import Prediction, SegmentationModel


class Rpl(Method):
    """A block beside the frozen pyramid that learns to disturb what is novel, and nothing else.

    Attributes:
        agreement: weight of the cross-entropy by what the untouched path says of known pixels.
        disparity: weight of the difference of both paths' entropies on known pixels.
        energy: weight of the evidence of novel pixels.
        smooth: smooth the score by a Gaussian of 7x7 pixels, as released.
        final_factor: learning rate of the block's last layer, as a share of the rest's.
        corocl: weight of the context-robust contrastive loss; 1 as released, 0 leaves it out.
        temperature: of that loss.
        samples: most pixels that it draws of a context, novel and known ones each.
        embedding: channels of the space in which it contrasts them; those of the decoder's input
            by default, as released.
    """

    kind: Literal['rpl']
    agreement: Weight = 1.0
    disparity: Weight = 1.0
    energy: Weight = 0.05
    smooth: bool = True
    final_factor: Weight = 10.0
    corocl: Weight = 0.0
    temperature: Positive = 0.1
    samples: int = Field(default=512, ge=1)
    embedding: int | None = Field(default=None, ge=1)

    @property
    def evaluates_frozen(self) -> bool:
        """The frozen path is the network as it was."""
        return True

    @property
    def learning_rate_factors(self) -> Mapping[str, float]:
        """Let the block's last layer learn faster."""
        return {'residual.final': self.final_factor}

    def check_data(self, data: TrainingData) -> None:
        """See that there is something novel to learn from."""
        check_outliers(data, self.kind)

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See that it has a pyramid."""
        check_is_deeplab(model, name, 'rpl adds a block beside the pyramid')

    def adapt(self, model: SegmentationModel) -> SegmentationModel:
        """Return the network with the block, and the score of what the block disturbs."""
        from multishift_training.models.deeplab import DeepLabV3Plus
        from multishift_training.models.rpl import ResidualDeepLab

        assert isinstance(model, DeepLabV3Plus)  # `check_network` saw to it
        return ResidualDeepLab(model, smooth=self.smooth)

    def make_state(self, model: SegmentationModel) -> nn.Module | None:
        """Return the projection of the contrastive loss."""
        from multishift_training.models.rpl import Projection, ResidualDeepLab

        if not self.corocl:
            return None
        assert isinstance(model, ResidualDeepLab)
        final = model.residual.final
        return Projection(final.in_channels, self.embedding or final.out_channels)

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the energy-driven loss over the whole batch, and the contrastive one."""
        from multishift_training.losses.noise_aware import health
        from multishift_training.losses.rpl import residual_terms

        assert prediction.auxiliary is not None  # `adapt` saw to it
        logits, gather = prediction.auxiliary['logits'], context.gather
        all_labels = gather(batch.labels)
        terms = residual_terms(logits, prediction.logits, batch.labels)
        known = (all_labels < NOVEL).sum().clamp(min=1)
        novel = (all_labels == NOVEL).sum().clamp(min=1)
        whole = gather(health(logits) + health(prediction.logits)).sum()
        parts = {
            'agreement': self.agreement * gather(terms.agreement).sum() / known + whole,
            'disparity': self.disparity * gather(terms.disparity).sum() / known,
            'energy': self.energy * gather(terms.energy).sum() / novel,
        }
        if self.corocl:
            embedded = self._embedded(prediction.auxiliary['context'], context)
            parts['corocl'] = self.corocl * self._contrast(embedded, all_labels, batch.members)
        return parts

    def _embedded(self, feature: Tensor, context: Context) -> Tensor:
        assert context.state is not None  # `make_state` made it
        embedded: Tensor = context.gather(context.state(feature))
        return embedded

    def _contrast(self, embedded: Tensor, labels: Tensor, members: int) -> Tensor:
        """Return the loss between originals and partners, or both halves of single images."""
        from torch.nn import functional as F

        from multishift_training.losses.rpl import context_contrast

        size = embedded.shape[2:]
        seen = F.interpolate(labels[:, None].float(), size, mode='nearest-exact')[:, 0].long()
        own = len(seen) // members if members > 1 else (len(seen) + 1) // 2
        return context_contrast(
            embedded[:own],
            seen[:own],
            embedded[own:],
            seen[own:],
            temperature=self.temperature,
            samples=self.samples,
        )
