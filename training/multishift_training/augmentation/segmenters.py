# SPDX-License-Identifier: Apache-2.0
"""Promptable segmenters: what is seen in a box, by SAM or by GrabCut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
import torch

from multishift_perception.arrays import Bytes, Mask
from multishift_perception.errors import MultishiftError, one_line
from multishift_perception.files import sha256
from multishift_training.augmentation.config import ClassicalPresence, SamPresence
from multishift_training.augmentation.parts import Segmenter

_SAM_FILES = ('config.json', 'model.safetensors')
# Of which one is there: older releases of `transformers` write the first.
_PROCESSOR_FILES = ('preprocessor_config.json', 'processor_config.json')
_ROUNDS = 5
# Longest side of what GrabCut sees: its time goes with the area, and shapes need no more.
_LONGEST = 192
# What it sees around the box, as a share of the box's sides, to learn what the ground looks like.
_MARGIN = 0.4


def open_segmenter(config: SamPresence | ClassicalPresence, root: Path) -> Segmenter:
    """Return the segmenter of a configuration.

    Args:
        config: which one.
        root: folder that relative paths of weights start from.

    Raises:
        MultishiftError: weights are missing or broken.
    """
    return Sam(root / config.folder) if isinstance(config, SamPresence) else GrabCut()


class Sam:
    """The Segment Anything Model (Kirillov et al. 2023), prompted by the box of the mask."""

    exact = True

    def __init__(self, folder: Path) -> None:
        """Load the weights onto the GPU, if there is one.

        Args:
            folder: as `transformers`' ``save_pretrained`` writes it, with safetensors.

        Raises:
            MultishiftError: files are missing, or are not SAM's.
        """
        missing = [name for name in _SAM_FILES if not (folder / name).is_file()]
        if not any((folder / name).is_file() for name in _PROCESSOR_FILES):
            missing.append(_PROCESSOR_FILES[0])
        if missing:
            raise MultishiftError(
                f'{folder} is no folder of SAM: {", ".join(missing)} missing: download the '
                'weights of a `transformers` SAM, such as facebook/sam-vit-huge, into it'
            )
        from transformers import SamModel, SamProcessor

        # Their annotations do not say what the options make of the results.
        processors: Any = SamProcessor
        models: Any = SamModel
        try:
            self._processor = processors.from_pretrained(folder, local_files_only=True)
            model, found = models.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            reason = one_line(error)
            raise MultishiftError(f'{folder} is no SAM ({reason}): download it again') from None
        if lacking := sorted(found['missing_keys']):
            raise MultishiftError(
                f'{folder}: the weights lack {len(lacking)} parameters ({lacking[0]}, ...): '
                'download them again'
            )
        self._device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        self._model = model.eval().to(self._device)
        self.version = f'SAM {sha256(folder / "model.safetensors")[:12]}'

    @torch.inference_mode()
    def segment(self, image: Bytes, mask: Mask) -> Mask:
        """Return the one mask that SAM sees in the box around ``mask``, ``bool [H,W]``."""
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        box = [float(x), float(y), float(x + width), float(y + height)]
        inputs = self._processor(image, input_boxes=[[box]], return_tensors='pt')
        inputs = {
            key: value.to(self._device, torch.float32 if value.is_floating_point() else None)
            for key, value in inputs.items()
        }
        found = self._model(**inputs, multimask_output=False)
        [masks] = self._processor.image_processor.post_process_masks(
            found.pred_masks.cpu(),
            inputs['original_sizes'].cpu(),
            inputs['reshaped_input_sizes'].cpu(),
        )
        return np.asarray(masks[0, 0].numpy(), np.bool_)


class GrabCut:
    """GrabCut (Rother et al. 2004) in a crop around the object, prompted by its box alone."""

    exact = False
    version = f'GrabCut opencv {cv2.__version__}'

    def segment(self, image: Bytes, mask: Mask) -> Mask:
        """Return what in the box around ``mask`` differs from its surroundings, ``bool [H,W]``."""
        rows, columns = _crop(mask)
        cut = image[rows, columns]
        height, width = cut.shape[:2]
        scale = min(1.0, _LONGEST / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = np.asarray(cv2.resize(cut, size, interpolation=cv2.INTER_AREA), np.uint8)
        box = cv2.resize(
            mask[rows, columns].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST
        )
        found = cv2.resize(_cut(small, cv2.boundingRect(box)), (width, height))
        seen = np.zeros(mask.shape, np.bool_)
        seen[rows, columns] = found > 0.5
        return seen


def _crop(mask: Mask) -> tuple[slice, slice]:
    """Return the rows and columns around a mask that are looked at."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    margin = max(4, round(_MARGIN * max(width, height)))
    return (
        slice(max(0, y - margin), min(mask.shape[0], y + height + margin)),
        slice(max(0, x - margin), min(mask.shape[1], x + width + margin)),
    )


def _cut(image: Bytes, box: Sequence[int]) -> NDArray[np.float32]:
    """Return 1 where GrabCut finds the object, ``float32 [h,w]``; nothing without surroundings."""
    x, y, width, height = box
    marks = np.full(image.shape[:2], cv2.GC_BGD, np.uint8)
    marks[y : y + height, x : x + width] = cv2.GC_PR_FGD
    if not (marks == cv2.GC_BGD).any() or not width:
        return np.zeros(image.shape[:2], np.float32)
    models = np.zeros((2, 1, 65))
    cv2.setRNGSeed(0)  # its clusters start at random
    cv2.grabCut(image, marks, box, models[0], models[1], _ROUNDS, cv2.GC_INIT_WITH_MASK)
    return np.asarray(marks == cv2.GC_PR_FGD, np.float32)
