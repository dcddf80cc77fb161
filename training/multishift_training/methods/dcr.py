# SPDX-License-Identifier: Apache-2.0
"""After DCR (Wan et al., IEEE TCSVT): what is novel is made of other training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field

from multishift_perception.classes import VOID
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch, Sample, Size, TrainingData
from multishift_training.datasets.config import Rising, Share, Weight
from multishift_training.methods.method import Context, Method

if TYPE_CHECKING:
    from torch import Tensor, nn

    from multishift_training.models import Prediction, SegmentationModel
    from multishift_training.models.dcr import TrainingParts

_STRIDE = 4  # of the crops' places and sizes, that of most networks' features


_Side = Annotated[int, Field(ge=4)]


def _of_whole_cells(crop: Size) -> Size:
    if any(side % _STRIDE for side in crop):
        raise ValueError(f'sides are multiples of {_STRIDE}, the stride of features')
    return crop


class Dcr(Method):
    """Disentangles, calibrates, and finds novel pixels in a frozen network's feature.

    Of each image two crops are seen that overlap, of the same objects in another look.

    Attributes:
        crop: rows and columns of the crops, multiples of 4; those of ``data.transforms`` are
            larger.
        donors: other training images that a patch of each is pasted from.
        patches: smallest and largest side of a patch, in pixels; as released for Cityscapes.
        on_road: chance that a patch begins on the road.
        overlap: range of the share that the overlap has of what both crops cover.
        width: channels of the head.
        calibrate: calibrate similarities of pixels.
        similarity: what the learned similarity is mixed with: the frozen network's ``attention``
            (SegFormer), the similarity of its ``feature``, or nothing (``learned``); by default
            attention where there is some, else the feature's.
        attention_stage: of SegFormer, 1 the finest; a coarser one costs less.
        heads: of the learned similarity.
        reduction: rows and columns of the cells that pixels are compared with, in those of the
            feature.
        alphas: weight of a similarity in training, and afterwards.
        weighted: the similarity that they weight; the other gets the rest.
        post_process: the score: of each pixel alone (``none``), the mean of the cells that it
            attends to (``attention``), or the mean of both (``blend``).
        dice: weight of the dice loss beside the cross-entropy of novel pixels.
        reconstruction: weight of the overlap's reconstruction; 0 leaves disentangling out.
        discrepancy: weight of the second classifier's loss, whose distance to the frozen one
            weights novel pixels; 0 leaves it out.
        head_factor: learning rate of classifier and reconstruction, as a share of the rest's.
    """

    kind: Literal['dcr']
    crop: Annotated[Size, AfterValidator(_of_whole_cells)] = (768, 768)
    donors: int = Field(default=10, ge=1)
    patches: Annotated[tuple[_Side, _Side], Rising] = (32, 256)
    on_road: Share = 0.7
    overlap: Annotated[tuple[Share, Share], Rising] = (0.05, 0.3)
    width: int = Field(default=256, ge=8)
    calibrate: bool = True
    similarity: Literal['attention', 'feature', 'learned'] | None = None
    attention_stage: int = Field(default=1, ge=1, le=4)
    heads: int = Field(default=2, ge=1)
    reduction: int = Field(default=8, ge=1)
    alphas: tuple[Share, Share] = (0.3, 0.7)
    weighted: Literal['learned', 'frozen'] = 'learned'
    post_process: Literal['none', 'attention', 'blend'] = 'blend'
    dice: Weight = 1.0
    reconstruction: Weight = 1.0
    discrepancy: Weight = 1.0
    head_factor: Weight = 10.0

    @property
    def others(self) -> int:
        """A donor of each patch."""
        return self.donors

    @property
    def evaluates_frozen(self) -> bool:
        """The closed world is as it was."""
        return True

    @property
    def learning_rate_factors(self) -> Mapping[str, float]:
        """Let classifier and reconstruction learn faster, as released."""
        return {
            'anomaly.classifier': self.head_factor,
            'state.reconstruction': self.head_factor,
        }

    def check_data(self, data: TrainingData) -> None:
        """See that images are single, large enough, without pasted objects, and have roads."""
        if data.members != 1:
            raise MultishiftError(
                'method dcr makes two crops of each image itself: leave data.partners out'
            )
        if data.classes[0].name != 'road':
            raise MultishiftError(
                'method dcr puts patches onto roads: list the class road first in the class '
                f'table, where {data.classes[0].name} is, or take another method'
            )
        for domain in data.domains:
            if domain.outliers:
                raise MultishiftError(
                    'method dcr makes what is novel of other training images: leave '
                    'data.outliers out'
                )
            whole = domain.transforms.crop
            if any(a < b for a, b in zip(whole, self.crop, strict=True)) or whole == self.crop:
                raise MultishiftError(
                    f'method dcr cuts two crops of {list(self.crop)} from images of '
                    f'{list(whole)}: set `crop` of data.transforms larger, or that of the method '
                    'smaller'
                )

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See that the network has the attention that is to be taken."""
        from multishift_training.models.dcr import has_attention

        if self.similarity == 'attention' and not has_attention(model):
            raise MultishiftError(
                f'method dcr: similarity attention is that of a SegFormer, which {name} is not: '
                'set feature, or leave it out'
            )

    def views(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return two overlapping crops of an image with patches of others.

        Extras: ``overlap``, top, left, bottom and right of the shared part in each crop, and
        ``flipped``, whether it is mirrored.
        """
        from multishift_training.datasets import patches

        recipe = patches.PatchRecipe(sides=self.patches, on_road=self.on_road)
        image, labels = sample.images[0].copy(), sample.labels[0].copy()
        for donor in sample.others:
            patch = patches.cut_patch(donor, recipe, rng)
            patches.paste_patch(image, labels, patch, recipe, rng)
        rows, columns = (
            min(wanted, side // _STRIDE * _STRIDE)
            for wanted, side in zip(self.crop, labels.shape, strict=True)
        )
        crops = patches.overlapping_crops(
            image,
            labels,
            sample.others,
            size=(rows, columns),
            stride=_STRIDE,
            union=self.overlap,
            recipe=recipe,
            rng=rng,
        )
        extras = {'overlap': np.array(crops.overlaps), 'flipped': np.array(crops.flips)}
        return Sample(crops.images, crops.labels, extras)

    def adapt(self, model: SegmentationModel) -> SegmentationModel:
        """Give the network the head, and its score."""
        from multishift_training.models.dcr import Calibration, add_anomaly_head, has_attention

        similarity = self.similarity or ('attention' if has_attention(model) else 'feature')
        calibration = Calibration(
            similarity,
            self.attention_stage,
            self.heads,
            self.reduction,
            self.alphas,
            self.weighted,
        )
        add_anomaly_head(
            model,
            _looked_at(model).feature.shape[1],
            self.width,
            calibration if self.calibrate else None,
            self.post_process,
        )
        return model

    def make_state(self, model: SegmentationModel) -> nn.Module:
        """Return what is dropped after training."""
        from multishift_training.methods.outliers import pixel_classifier
        from multishift_training.models.dcr import TrainingParts

        classes = _looked_at(model).logits.shape[1]
        return TrainingParts(self.width, classes, pixel_classifier(model))

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the losses over the whole batch, first all first crops, then all second ones."""
        import torch

        from multishift_training.losses import dcr
        from multishift_training.losses.noise_aware import health
        from multishift_training.models.dcr import TrainingParts

        assert prediction.auxiliary is not None  # `adapt` saw to it
        assert isinstance(context.state, TrainingParts)
        gather, labels = context.gather, batch.labels
        logit = prediction.auxiliary['logit'][:, 0]
        novel_weights = torch.ones_like(logit)
        counted = (gather(labels) != VOID).sum().clamp(min=1)
        parts = {}
        if self.discrepancy:
            # What the second classifier says, which learns what is novel too, beside the frozen.
            learned = context.state.known(prediction.auxiliary['calibrated'])
            learned = context.model.enlarge(learned, (labels.shape[1], labels.shape[2]))
            each = dcr.cognitive_cross_entropy(learned, labels, context.groups)
            parts['discrepancy'] = self.discrepancy * gather(each).sum() / counted
            frozen = _log_probabilities(prediction)
            novel_weights = dcr.cognitive_discrepancy(frozen, learned, labels)
        each = gather(dcr.novelty_cross_entropy(logit, labels, novel_weights))
        parts['novelty'] = each.sum() / counted + gather(health(logit)).sum()
        if self.dice:
            parts['dice'] = self.dice * gather(dcr.novelty_dice(logit, labels)).mean()
        if self.reconstruction:
            each = self._reconstruction(prediction.auxiliary, batch, context.state)
            parts['reconstruction'] = self.reconstruction * gather(each).mean()
        return parts

    def _reconstruction(
        self, features: Mapping[str, Tensor], batch: Batch, parts: TrainingParts
    ) -> Tensor:
        """Return the loss of painting the overlap, the mean over four, for each crop, ``[2B]``.

        What is seen in the overlap, its scene, is the same in both crops, its look is each crop's
        own: the scene of either, with the look of either, must give the picture of the latter.
        """
        import torch

        from multishift_training.losses.dcr import reconstruction_loss

        related, unrelated = features['related'], parts.unrelated(features['shared'])
        pairs = len(batch.images) // 2
        boxes, flipped = batch.extras['overlap'].tolist(), batch.extras['flipped'].tolist()
        losses = []
        for i in range(pairs):
            scenes, looks, pictures = [], [], []
            for member in (i, pairs + i):
                whole = batch.images[member].permute(2, 0, 1)[None] / 127.5 - 1
                overlap = partial(
                    _overlap, rows=whole.shape[2], box=boxes[member], flip=flipped[member]
                )
                scenes.append(overlap(related[member : member + 1]))
                looks.append(overlap(unrelated[member : member + 1]))
                pictures.append(overlap(whole))
            if not pictures[0].numel():  # crops of a large image that miss each other
                losses.append(related.sum() * 0)
                continue
            scene = torch.cat([scenes[0], scenes[0], scenes[1], scenes[1]])
            look, target = (torch.cat([x[0], x[1], x[0], x[1]]) for x in (looks, pictures))
            painted = parts.painted(scene, look, (target.shape[2], target.shape[3]))
            losses.append(reconstruction_loss(painted, target.to(painted)).mean())
        return torch.stack(losses).repeat(2)


def _looked_at(model: SegmentationModel) -> Prediction:
    """Return what a network says of a small image, for shapes; it is left in evaluation mode."""
    import torch

    with torch.no_grad():
        prediction: Prediction = model.eval()(torch.zeros(1, 3, 64, 64))
    return prediction


def _overlap(maps: Tensor, *, rows: int, box: Sequence[int], flip: bool) -> Tensor:
    """Return the part of maps ``[B,K,h,w]`` that both crops share, mirrored back if mirrored.

    Args:
        maps: of a crop, at whatever stride.
        rows: of the crop.
        box: top, left, bottom and right of the part in the crop; it is empty where they miss each
            other.
        flip: whether it is mirrored.
    """
    top, left, bottom, right = box
    if bottom <= top or right <= left:
        return maps[:, :, :0, :0]
    stride = max(round(rows / maps.shape[2]), 1)
    first_row, first_column = top // stride, left // stride
    # At a coarse stride a narrow part may fall between two cells: it is one at least.
    part = maps[
        :,
        :,
        first_row : max(bottom // stride, first_row + 1),
        first_column : max(right // stride, first_column + 1),
    ]
    return part.flip(-1) if flip else part


def _log_probabilities(prediction: Prediction) -> Tensor:
    """Return those of the classes, ``[B,C,H,W]``; a mask network's logits are sums of some."""
    logits = prediction.logits.detach()
    if prediction.masks is None:
        return logits.log_softmax(1)
    positive = logits.clamp(min=1e-7)
    return (positive / positive.sum(1, keepdim=True)).log()
