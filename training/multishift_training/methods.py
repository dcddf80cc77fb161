"""What a training method computes from a batch: its losses, by part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from multishift_perception.classes import NOVEL
from multishift_training.loop.config import ClosedWorld, MaskLosses, Method, MultiShift
from multishift_training.losses.contrastive import Margins, halves, relative_contrastive
from multishift_training.losses.masks import mask_losses
from multishift_training.losses.noise_aware import noise_aware_mean, pixel_cross_entropy
from multishift_training.losses.options import MaskWeights
from multishift_training.losses.sampled import sampled_contrastive
from multishift_training.models import Prediction

# Joins a tensor [B,...] of every process to that of the whole batch, with gradients.
Gather = Callable[[Tensor], Tensor]


class Losses(Protocol):
    """The losses of a method; their sum is what training makes small."""

    def __call__(
        self, prediction: Prediction, labels: Tensor, gather: Gather
    ) -> dict[str, Tensor]:
        """Return the weighted parts by name, scalars.

        Args:
            prediction: of this process's share of the batch.
            labels: ``int64 [B,H,W]`` of the same.
            gather: brings what all processes found together, so that losses are those of one
                process with the whole batch.
        """


def losses_of(
    method: Method, class_weights: Tensor | None, groups: Tensor | None = None
) -> Losses:
    """Return the losses that a configuration asks for.

    Args:
        method: the configuration.
        class_weights: weights of the classes ``float32 [C]`` for the cross-entropy; of mask
            networks' classes, with "no object", ``[C+1]`` for their losses.
        groups: classes that the labels ``C..C+G-1`` stand for, ``bool [G,C]``; not for mask
            losses.
    """
    if isinstance(method, ClosedWorld):
        return ClosedWorldLosses(method, class_weights, groups)
    return MultiShiftLosses(method, class_weights, groups)


class ClosedWorldLosses:
    """The mean cross-entropy over pixels of known classes, 0 where there are none; or mask losses.

    All images of a batch are treated alike, and all labels trusted.
    """

    def __init__(
        self, config: ClosedWorld, class_weights: Tensor | None, groups: Tensor | None = None
    ) -> None:
        """Take the settings, the weights of the classes, and groups of them."""
        self._config = config
        self._class_weights = class_weights
        self._groups = groups

    def __call__(
        self, prediction: Prediction, labels: Tensor, gather: Gather
    ) -> dict[str, Tensor]:
        """See ``Losses``."""
        if self._config.masks is not None:
            return _mask_parts(
                prediction, labels, self._config.masks, self._class_weights, ratio=None
            )
        losses = gather(
            _pixel_losses(prediction.logits, labels, self._class_weights, self._groups)
        )
        known = (gather(labels) < NOVEL).sum()
        return {'cross_entropy': losses.sum() / known.clamp(min=1)}


class MultiShiftLosses:
    """MultiShiftSeg: relative contrastive loss, and segmentation where labels are trusted.

    Batches are ``[originals; augmented]``.
    """

    def __init__(
        self, config: MultiShift, class_weights: Tensor | None, groups: Tensor | None = None
    ) -> None:
        """Take the settings, the weights of the classes, and groups of them."""
        self._config = config
        self._class_weights = class_weights
        self._groups = groups

    def __call__(
        self, prediction: Prediction, labels: Tensor, gather: Gather
    ) -> dict[str, Tensor]:
        """See ``Losses``."""
        config = self._config
        all_labels = gather(labels)
        parts: dict[str, Tensor] = {}
        if config.contrastive:
            parts |= self._contrastive(gather(prediction.score), all_labels)
        if config.masks is not None:
            parts |= _mask_parts(
                prediction, labels, config.masks, self._class_weights, ratio=config.trusted_ratio
            )
        elif any(config.segmentation):
            losses = _pixel_losses(prediction.logits, labels, groups=self._groups)
            parts |= self._segmentation(gather(losses), all_labels)
        return parts

    def _contrastive(self, score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        compute = relative_contrastive if self._config.pairs == 'all' else sampled_contrastive
        margins = Margins(*self._config.margins)
        terms = compute(score, labels, margins=margins, third_term=self._config.third_term)
        weight, health = self._config.contrastive, _health(score).sum()
        return {f'contrastive_{k}': weight * v + health for k, v in terms._asdict().items()}

    def _segmentation(self, losses: Tensor, labels: Tensor) -> dict[str, Tensor]:
        config = self._config
        terms = noise_aware_mean(
            losses,
            labels,
            ratio=config.trusted_ratio,
            mean_over=config.mean_over,
            class_weights=self._class_weights,
        )
        original, augmented = config.segmentation
        healths = halves(_health(losses))  # the selection drops what is no number
        return {
            'cross_entropy_original': original * terms.original + healths[0].sum(),
            'cross_entropy_augmented': augmented * terms.augmented + healths[1].sum(),
        }


def _mask_parts(
    prediction: Prediction,
    labels: Tensor,
    config: MaskLosses,
    class_weights: Tensor | None,
    *,
    ratio: float | None,
) -> dict[str, Tensor]:
    """Return the weighted mask losses; each process divides by its own number of masks."""
    assert prediction.masks is not None and class_weights is not None
    weights = MaskWeights(**config.model_dump())
    terms = mask_losses(
        prediction.masks, labels, class_weight=class_weights, ratio=ratio, weights=weights
    )
    of_classes, of_masks = (
        _health(x).sum() for x in (prediction.masks.class_logits, prediction.masks.mask_logits)
    )
    return {
        'mask_classification': weights.classification * terms.classification + of_classes,
        'mask': weights.mask * terms.mask + of_masks,
        'mask_dice': weights.dice * terms.dice,
    }


def _pixel_losses(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy of each pixel, NaN in images with a logit that is not finite."""
    losses = pixel_cross_entropy(logits, labels, weights, groups)
    return losses + _health(logits)[:, None, None]


def _health(outputs: Tensor) -> Tensor:
    """Return 0 for each image ``[B]``, NaN where one of its outputs ``[B,...]`` is not finite.

    Pixels that a loss leaves out do not show in it, but in the gradients: none times NaN is NaN.
    """
    return outputs.detach().sum(tuple(range(1, outputs.ndim))) * 0
