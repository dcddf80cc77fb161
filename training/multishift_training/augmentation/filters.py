# SPDX-License-Identifier: Apache-2.0
"""What a painted image must pass: its object is seen and novel, and its labels still hold.

Source: MultiShiftSeg, section 3.2 and appendix: SAM's IoU with the placed mask, the anomaly score
inside it; agreement of a closed-world network with the labels is this project's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from multishift_perception.arrays import Bytes, Mask
from multishift_perception.classes import CITYSCAPES
from multishift_training.augmentation.config import Detector, Filters, Judge
from multishift_training.augmentation.networks import Network, Opinion, open_network
from multishift_training.augmentation.parts import (
    Composition,
    Reason,
    Rejection,
    Segmenter,
    nearest,
)
from multishift_training.augmentation.segmenters import open_segmenter

IOU, ANOMALY, AGREEMENT = 'iou', 'anomaly', 'labels_kept'


class Jury:
    """The filters of a run.

    Attributes:
        versions: of what judges, by filter.
    """

    def __init__(
        self, config: Filters, segmenter: Segmenter | None, networks: dict[Path, Network]
    ) -> None:
        """Take the thresholds, and who judges.

        Args:
            config: of the filters.
            segmenter: of ``config.present``, if that is set.
            networks: by their paths in ``config``.
        """
        self._config = config
        self._segmenter = segmenter
        self._networks = networks
        self.versions = {} if segmenter is None else {'present': segmenter.version}
        for name, judge in (('novel', config.novel), ('labels_kept', config.labels_kept)):
            if judge is not None:
                self.versions[name] = networks[judge.network].version

    def judge(
        self, composition: Composition, image: Bytes, painted: Bytes | None = None
    ) -> tuple[Mask, dict[str, float]]:
        """Judge an image.

        Args:
            composition: what it was painted from.
            image: RGB ``uint8 [H,W,3]``.
            painted: the same at the size that it was painted at, ``uint8 [h,w,3]``, which is what
                the segmenter sees; if none, it was painted as it is.

        Returns:
            The object's mask ``bool [H,W]``: what an exact segmenter sees, or else the placed
            one. And what was measured, by name.

        Raises:
            Rejection: it fails a filter; those after that are not asked.
        """
        figures: dict[str, float] = {}
        mask = self._seen(composition.mask, image if painted is None else painted, figures)
        opinions: dict[Path, Opinion] = {}

        def ask(judge: Judge) -> Opinion:
            if judge.network not in opinions:
                opinions[judge.network] = self._networks[judge.network].look(image)
            return opinions[judge.network]

        if (novel := self._config.novel) is not None:
            score = float(ask(novel).score[mask].mean(dtype=np.float64))
            _demand('object not novel', ANOMALY, score, novel.least, figures)
        if (kept := self._config.labels_kept) is not None:
            share = _agreement(ask(kept).labels, composition.scene.labels, mask)
            _demand('labels not kept', AGREEMENT, share, kept.least, figures)
        return mask, figures

    def _seen(self, placed: Mask, image: Bytes, figures: dict[str, float]) -> Mask:
        config = self._config.present
        if config is None or self._segmenter is None:
            return placed
        there = nearest(placed, image.shape[:2])
        # An object of less than a pixel where it was painted is seen by nobody.
        seen = self._segmenter.segment(image, there) if there.any() else there
        iou = np.count_nonzero(seen & there) / max(1, np.count_nonzero(seen | there))
        figures[IOU] = round(float(iou), 6)
        if iou <= config.min_iou:
            raise Rejection('object not seen', figures)
        return nearest(seen, placed.shape) if self._segmenter.exact else placed


def open_jury(config: Filters, root: Path) -> Jury:
    """Open the segmenter and the networks of filters.

    Args:
        config: of the filters.
        root: folder that relative paths of weights start from.

    Raises:
        MultishiftError: weights are missing or broken.
    """
    segmenter = None if config.present is None else open_segmenter(config.present, root)
    networks: dict[Path, Network] = {}
    for judge in (config.novel, config.labels_kept):  # the first says which score is wanted
        if judge is not None and judge.network not in networks:
            score = judge.score if isinstance(judge, Detector) else None
            path = root / judge.network
            networks[judge.network] = open_network(path, root, model=judge.model, score=score)
    return Jury(config, segmenter, networks)


def _agreement(found: Bytes, labels: Bytes, mask: Mask) -> float:
    """Return the share of the known pixels outside a mask that have their label."""
    known = (labels < len(CITYSCAPES)) & ~mask
    count = np.count_nonzero(known)
    return np.count_nonzero((found == labels) & known) / count if count else 0.0


def _demand(
    reason: Reason, name: str, value: float, least: float, figures: dict[str, float]
) -> None:
    figures[name] = round(value, 6)
    if value < least:
        raise Rejection(reason, figures)
