# SPDX-License-Identifier: Apache-2.0
"""What the network of `sample.yaml` makes of the demo drive, its score beside the maximum softmax.

    python test/benchmark/embedded_engine.py runs/sample/best.safetensors

Every frame of both cameras is resized to the engine's input, as the pipeline does; metrics are
over all pixels at that size.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import sys
from typing import Any

import torch
from tqdm import tqdm

from multishift_perception.classes import CITYSCAPES
from multishift_perception.metrics import AnomalyMetrics, Grouped, SegmentationMetrics
from multishift_perception.sample_drive import CAMERAS, CONDITIONS, Drive
from multishift_training.checkpoints import trained
from multishift_training.datasets.transforms import resized
from multishift_training.inference.batches import predict_batches

SEED, SECONDS, RATE = 7, 48.0, 2.0


def frames(drive: Drive, size: tuple[int, int], conditions: list[str]) -> Iterator[tuple]:
    """Yield the drive's frames as batches of one, and note the condition of each."""
    for i in tqdm(range(int(SECONDS * RATE)), unit='moment'):
        for camera in CAMERAS:
            frame = drive.render(camera, i / RATE)
            conditions.append(frame.condition)
            image, labels = resized(frame.image, frame.labels, size)
            yield torch.from_numpy(image)[None], torch.from_numpy(labels)[None]


def main(checkpoint: Path) -> None:
    """Print a Markdown table by condition."""
    model, origin = trained.open_trained(checkpoint)
    segmentation: Grouped[Any, Any] = Grouped(lambda: SegmentationMetrics(len(CITYSCAPES)))
    head: Grouped[Any, Any] = Grouped(AnomalyMetrics)
    softmax: Grouped[Any, Any] = Grouped(AnomalyMetrics)
    conditions: list[str] = []
    drive = Drive(SEED, split='demo', seconds=SECONDS)
    for batch in predict_batches(
        model, frames(drive, origin.run.engine_size, conditions), others=['max_softmax']
    ):
        condition = conditions[-1]
        segmentation[condition].update(batch.labels, batch.truth)
        head[condition].update(batch.score, batch.truth)
        softmax[condition].update(batch.others['max_softmax'], batch.truth)
    print('| condition | mIoU | AP head | AP max softmax | FPR95 head | FPR95 max softmax |')
    print('|---|---|---|---|---|---|')
    rows = [(c, segmentation[c], head[c], softmax[c]) for c in CONDITIONS]
    rows.append(('all', segmentation.merged(), head.merged(), softmax.merged()))
    for name, s, h, m in rows:
        ours, baseline = h.result(), m.result()
        values = (s.result().miou, ours.ap, baseline.ap, ours.fpr95, baseline.fpr95)
        print(f'| {name} | ' + ' | '.join(f'{100 * v:.1f} %' for v in values) + ' |')
    iou = segmentation.merged().result().iou
    named = zip(CITYSCAPES, iou, strict=True)
    print(', '.join(f'{c.name} {100 * v:.0f}' for c, v in named if v is not None))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
