# SPDX-License-Identifier: Apache-2.0
"""Mask2Former with an uncertainty head, as Mask2Anomaly and MultiShiftSeg have it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from multishift_training.models.input_scale import IMAGENET
from multishift_training.models.layout import Layout
from multishift_training.models.mask2former_decoder import QueryDecoder
from multishift_training.models.mask2former_output import join_classes_first, join_masks
from multishift_training.models.mask_network import MaskNetwork
from multishift_training.models.prediction import MaskPrediction, Prediction

_MULTIPLE = 32  # of the sides: the coarsest level's stride


class Mask2Former(MaskNetwork):
    """Backbone, pixel decoder, query decoder, and two classifiers of the queries."""

    input_scale = IMAGENET

    def __init__(
        self,
        backbone: nn.Module,
        pixel_decoder: nn.Module,
        decoder: QueryDecoder,
        num_classes: int,
        layouts: Sequence[Layout],
        *,
        no_object_weight: float = 0.1,
    ) -> None:
        """Make the network of its parts.

        Args:
            backbone: of `transformers`, features at a 4th to a 32nd of the image's size.
            pixel_decoder: of `transformers`, `Mask2FormerPixelDecoder`.
            decoder: of queries.
            num_classes: known classes.
            layouts: of the published files for these parts.
            no_object_weight: in the classification loss.
        """
        super().__init__(decoder.queries.embedding_dim, num_classes, no_object_weight)
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.decoder = decoder
        self._layouts = layouts

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        """Run the network; see `SegmentationModel`.

        The image is padded with zeros, right and below, to a multiple of 32.
        """
        height, width = image.shape[2:]
        padded = F.pad(image, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE))
        pixels = self.pixel_decoder(self.backbone(padded).feature_maps)
        queries, mask_logits = self.decoder(pixels.multi_scale_features, pixels.mask_features)
        masks = MaskPrediction(self.classifier(queries), self.uncertainty(queries), mask_logits)
        stride = padded.shape[2] // mask_logits.shape[2]
        join = join_classes_first if self.training and self.classes_first else join_masks
        logits, score = join(masks, stride, (height, width), size, self.score)
        # The padding's embeddings would shift the map against the image.
        feature = pixels.mask_features[:, :, : -(-height // stride), : -(-width // stride)]
        return Prediction(logits, score, feature, masks)

    def layouts(self) -> Sequence[Layout]:
        """Return the layouts of files with these parts."""
        return self._layouts
