# SPDX-License-Identifier: Apache-2.0
"""MultiShiftSeg (section 3.3 of the paper): what is novel stands out, in whatever weather."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from multishift_perception.arrays import Bytes
from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch, Sample, TrainingData
from multishift_training.datasets.config import Weight
from multishift_training.losses.options import MeanOver, ThirdTerm
from multishift_training.methods.masks import MaskLosses, SegmentingMethod, mask_parts
from multishift_training.methods.method import Context, Selection

if TYPE_CHECKING:
    from torch import Tensor

    from multishift_training.models import Prediction, SegmentationModel

Margin = Annotated[float, Field(ge=0)]


class MultiShift(SegmentingMethod):
    """MultiShiftSeg's losses (section 3.3 of the paper) on pairs of original and augmented image.

    Attributes:
        pairs: ``all`` pairs of pixels as the paper writes it, or ``sampled`` one-to-one pairs as
            the released code draws them.
        margins: of the contrastive terms: originals, augmented, consistency; in units of the
            score.
        third_term: form of the third term.
        contrastive: weight of the contrastive loss.
        segmentation: weights of the cross-entropy of originals and of augmented images; zeros
            leave it out.
        trusted_ratio: share of the known pixels of the augmented images, those of the smallest
            losses, whose labels are trusted.
        mean_over: denominator of the cross-entropy: ``all`` pixels, as in the released code, or
            only the ``valid`` ones, of known classes.
        class_weights: weight the cross-entropy of classes by their rarity; not in the paper.
        masks: of mask networks: their losses in place of the cross-entropy.
    """

    kind: Literal['multishift']
    pairs: Literal['all', 'sampled'] = 'all'
    margins: tuple[Margin, Margin, Margin]
    third_term: ThirdTerm = 'code'
    contrastive: Weight = 1.0
    segmentation: tuple[Weight, Weight] = (50.0, 10.0)
    trusted_ratio: float = Field(default=0.8, gt=0, le=1)
    mean_over: MeanOver = 'all'
    class_weights: bool = False
    masks: MaskLosses | None = None

    @model_validator(mode='after')
    def _some_loss(self) -> MultiShift:
        if not (self.contrastive or any(self.segmentation) or self.masks):
            raise ValueError('all losses have weight 0: set contrastive or segmentation')
        return self

    def check_data(self, data: TrainingData) -> None:
        """See that data are pairs, and as their losses take them."""
        if data.members != 2:
            raise MultishiftError('method multishift learns from pairs: set data.partners')
        super().check_data(data)

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the relative contrastive loss, and segmentation where labels are trusted.

        Batches are ``[originals; augmented]``.
        """
        from multishift_training.losses.noise_aware import checked_cross_entropy

        labels, weights, gather = batch.labels, context.class_weights, context.gather
        all_labels = gather(labels)
        parts: dict[str, Tensor] = {}
        if self.contrastive:
            parts |= self._contrastive(gather(prediction.score), all_labels)
        if self.masks is not None:
            ratio = self.trusted_ratio
            parts |= mask_parts(prediction, labels, self.masks, weights, ratio=ratio)
        elif any(self.segmentation):
            losses = gather(
                checked_cross_entropy(prediction.logits, labels, groups=context.groups)
            )
            parts |= self._segmentation(losses, all_labels, weights)
        return parts

    def _contrastive(self, score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        from multishift_training.losses.contrastive import Margins, relative_contrastive
        from multishift_training.losses.noise_aware import health
        from multishift_training.losses.sampled import sampled_contrastive

        compute = relative_contrastive if self.pairs == 'all' else sampled_contrastive
        margins = Margins(*self.margins)
        terms = compute(score, labels, margins=margins, third_term=self.third_term)
        weight, whole = self.contrastive, health(score).sum()
        return {f'contrastive_{k}': weight * v + whole for k, v in terms._asdict().items()}

    def _segmentation(
        self, losses: Tensor, labels: Tensor, class_weights: Tensor | None
    ) -> dict[str, Tensor]:
        from multishift_training.losses.contrastive import halves
        from multishift_training.losses.noise_aware import health, noise_aware_mean

        terms = noise_aware_mean(
            losses,
            labels,
            ratio=self.trusted_ratio,
            mean_over=self.mean_over,
            class_weights=class_weights,
        )
        original, augmented = self.segmentation
        healths = halves(health(losses))  # the selection drops what is no number
        return {
            'cross_entropy_original': original * terms.original + healths[0].sum(),
            'cross_entropy_augmented': augmented * terms.augmented + healths[1].sum(),
        }

    def selection(
        self, model: SegmentationModel, samples: Iterable[Sample], groups: Tensor | None
    ) -> Selection | None:
        """Return whose labels it trusts in augmented images.

        Nothing where it trusts all, or takes no cross-entropy.
        """
        if self.masks is not None or self.trusted_ratio == 1 or not self.segmentation[1]:
            return None
        augmented = [(sample.images[1], sample.labels[1]) for sample in samples]
        images, labels = (np.stack(part) for part in zip(*augmented, strict=True))
        trusted = trusted_labels(model, images, labels, self.trusted_ratio, groups)
        return Selection(images, labels, trusted)


def trusted_labels(
    model: SegmentationModel,
    images: Bytes,
    labels: Bytes,
    ratio: float,
    groups: Tensor | None = None,
) -> NDArray[np.bool_]:
    """Return where noise-aware training trusts the labels of augmented images, ``bool [B,H,W]``.

    It chooses among the images given as it does among those of a batch.

    Args:
        model: the network, which is put into evaluation mode.
        images: RGB ``uint8 [B,H,W,3]``.
        labels: ``uint8 [B,H,W]``.
        ratio: share of the known pixels that is trusted.
        groups: as of `Context`.
    """
    import torch

    from multishift_training.losses.noise_aware import pixel_cross_entropy, trusted_pixels
    from multishift_training.models.input_scale import Normalize

    device = next(model.parameters()).device
    normalize = Normalize(model.input_scale).to(device)
    model.eval()
    wanted = torch.from_numpy(labels).long()
    losses = []
    with torch.inference_mode():
        # One at a time, as in validation.
        for image, label in zip(torch.from_numpy(images), wanted, strict=True):
            logits = model(normalize(image[None].to(device))).logits.cpu()
            losses.append(pixel_cross_entropy(logits, label[None], groups=groups))
        return trusted_pixels(torch.cat(losses), wanted < NOVEL, ratio).numpy()
