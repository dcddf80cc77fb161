# SPDX-License-Identifier: Apache-2.0
"""WildNet (Lee et al., CVPR 2022): styles and contents of images without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch, TrainingData
from multishift_training.datasets.config import Weight
from multishift_training.methods.closed_world import mean_cross_entropy
from multishift_training.methods.episodes import one_image_in_one_line, predict
from multishift_training.methods.method import Context, Method, check_is_deeplab

if TYPE_CHECKING:
    from torch import Tensor, nn

    from multishift_training.models import Prediction, SegmentationModel


class WildNet(Method):
    """Cross-entropy of images as they are and in the styles of wild ones, whose contents are near.

    Attributes:
        sources: how many of the domains of ``data.images`` have labels to learn from. Those after
            them are wild: nothing looks at their labels. Where none are, the sources are for each
            other.
        content: weight of the contrasts to an image's own pixels in another style, and to the
            wild.
        style: weight of the cross-entropy in another style.
        consistency: weight of the divergence between what is said in both.
        grid: rows and columns of the pixels that are contrasted.
        wild_grid: the same of those that are remembered of a wild image.
        contents: how many are remembered.
        width: of embeddings.
        class_weights: weight the cross-entropy of classes by their rarity; not in the paper.
    """

    kind: Literal['wildnet']
    sources: int = Field(ge=1)
    content: Weight = 0.1
    style: Weight = 1.0
    consistency: Weight = 10.0
    grid: int = Field(default=64, ge=2)
    wild_grid: int = Field(default=16, ge=1)
    contents: int = Field(default=393_216, ge=1)
    width: int = Field(default=256, ge=1)
    class_weights: bool = False

    def check_data(self, data: TrainingData) -> None:
        """See that there are as many sources, at least."""
        found = len(data.domains)
        if found < self.sources:
            raise MultishiftError(
                f'method wildnet learns from sources: {self.sources}, and data.images are {found} '
                f'domain{"s" * (found > 1)}: set sources to {found} or fewer'
            )

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See that it has a backbone with taps."""
        check_is_deeplab(model, name, 'wildnet changes styles in the backbone')

    def make_state(self, model: SegmentationModel) -> nn.Module:
        """Return what embeds pixels, and the contents of the wild."""
        from multishift_training.models.deeplab import DeepLabV3Plus
        from multishift_training.models.wildnet import Contents

        assert isinstance(model, DeepLabV3Plus)  # `check_network` saw to it
        return Contents(model.classifier.in_channels, self.width, self.contents)

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the losses of the sources, then remember contents of the wild.

        The host waits for the device, to know the domains.
        """
        import torch

        from multishift_training.models.wildnet import in_styles, noting_styles

        learned = batch.domains < self.sources
        if not learned.any():
            nothing = 0 * prediction.logits.sum()
            return dict.fromkeys(('cross_entropy', 'style', 'content', 'consistency'), nothing)
        own = batch.moved(lambda values: values[learned])
        clean = prediction._replace(
            logits=prediction.logits[learned], feature=prediction.feature[learned]
        )
        parts = {'cross_entropy': mean_cross_entropy(clean, own, context)}
        wild, partner = self._wild(batch, own, learned)
        parameters = dict(context.model.named_parameters())
        styles: dict[str, tuple[Tensor, Tensor]] = {}
        run = one_image_in_one_line
        with torch.no_grad(), noting_styles(context.model, styles), run(self.kind, wild, batch):
            seen = predict(context, parameters, wild)
        turned = {name: (m[partner], d[partner]) for name, (m, d) in styles.items()}
        with in_styles(context.model, turned), run(self.kind, own, batch):
            styled = predict(context, parameters, own)
        parts['style'] = self.style * mean_cross_entropy(styled, own, context)
        parts |= self._of_both(clean, styled, own, context)
        self._remember(seen, context)
        return parts

    def _wild(self, batch: Batch, own: Batch, learned: Tensor) -> tuple[Batch, Tensor]:
        """Return the wild images, and which of them is whose style, ``int64 [B]``."""
        import torch

        places = torch.arange(len(own.images), device=batch.domains.device)
        if not learned.all():
            wild = batch.moved(lambda values: values[~learned])
            return wild, places % len(wild.images)
        # Of the next domain, or of the other half; which is of one share of the batch.
        by_member = places.view(own.members, -1)
        parts = max(len(set(batch.domains.tolist())), 2)
        return own, by_member.roll(-(by_member.shape[1] // parts), 1).flatten()

    def _of_both(
        self, clean: Prediction, styled: Prediction, own: Batch, context: Context
    ) -> dict[str, Tensor]:
        """Return the losses between images as they are and in another style."""
        from multishift_training.losses.wildnet import consistency, content_extension
        from multishift_training.models.wildnet import Contents, sampled

        state, gather = context.state, context.gather
        assert isinstance(state, Contents)  # `make_state` made it
        labels = sampled(own.labels[:, None].float(), self.grid)[:, 0].flatten(1).long()
        terms = content_extension(
            state(clean.feature, self.grid),
            state(styled.feature, self.grid),
            labels,
            state.contents,
            compare_in=styled.feature.dtype,  # of 16 bits in mixed precision
        )
        divergence = consistency(clean.logits, styled.logits)
        return {
            'content': self.content * gather(terms.source + terms.wild).mean(),
            'consistency': self.consistency * gather(divergence).mean(),
        }

    def _remember(self, seen: Prediction, context: Context) -> None:
        import torch

        from multishift_training.models.wildnet import Contents

        assert isinstance(context.state, Contents)
        with torch.no_grad():
            embedded = context.gather(context.state(seen.feature, self.wild_grid))
        context.state.remember(embedded.flatten(0, 1))
