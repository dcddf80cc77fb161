"""The training loop: stages of epochs, resumable after each."""

from __future__ import annotations

from collections.abc import Iterator
import json
import logging
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
import yaml

from multishift_perception.classes import CITYSCAPES
from multishift_perception.errors import MultishiftError
from multishift_perception.files import replacing, write_text
from multishift_training import models, trained
from multishift_training.config import Stage, TrainConfig
from multishift_training.dataset import class_weights, training_loader, validation_loader
from multishift_training.deploy import Normalize
from multishift_training.frames import open_frames
from multishift_training.losses import cross_entropy, relative_contrastive
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.trained import Checkpoint
from multishift_training.validate import metrics

logger = logging.getLogger(__name__)

# Networks predict at half the input size at most, and upsample: a loss at every pixel costs four
# times one at every second row and column, and teaches the same.
_LOSS_STRIDE = 2


class Epoch(NamedTuple):
    """Where an epoch lies: its number in the run, its stage, and its number in the stage."""

    number: int
    stage: Stage
    in_stage: int


def schedule(config: TrainConfig) -> Iterator[Epoch]:
    """Yield the epochs of a run in order."""
    number = 0
    for stage in config.stages:
        for in_stage in range(stage.epochs):
            yield Epoch(number, stage, in_stage)
            number += 1


def train(config: TrainConfig, run: Path, *, root: Path) -> Path:
    """Train a network; a run that was killed goes on after its last whole epoch.

    Args:
        config: the configuration.
        run: the run's folder: ``config.yaml``, ``log.jsonl``, TensorBoard events, ``last.pt`` to
            resume from, ``best.safetensors``, and the rendered frames.
        root: folder that relative data paths start from.

    Returns:
        Path of the best weights: of the last stage, by mIoU + AP on the validation frames.

    Raises:
        MultishiftError: the folder holds a run of another configuration, or the data is at fault.
    """
    _claim(run, config)
    frames = open_frames(config.train, root, run / 'cache')
    validation = validation_loader(open_frames(config.val, root, run / 'cache'), config)
    weights = class_weights(frames, len(CITYSCAPES)) if config.class_weights else None
    torch.manual_seed(config.seed)
    model = models.create(config.model)
    progress = _load_progress(run, model)
    with SummaryWriter(str(run)) as board:
        for epoch in schedule(config):
            if epoch.number < progress.finished:
                continue
            optimizer = _prepare(model, epoch, config, progress)
            loader = training_loader(frames, config, epoch.number)
            losses = _train_epoch(model, optimizer, epoch, loader, config, weights)
            result = metrics(model, validation, len(CITYSCAPES))
            _record(board, run, epoch, {**losses, **result})
            quality = (result['miou'] or 0.0) + (result['ap'] or 0.0)
            # A stage's first epoch always counts: earlier stages optimise something else.
            best = quality if epoch.in_stage == 0 else max(progress.best, quality)
            if best == quality:
                trained.save(run / 'best.safetensors', Checkpoint(model, config, result))
            progress = _Progress(epoch.number + 1, best, optimizer.state_dict())
            _save_progress(run, model, progress)
    return run / 'best.safetensors'


class _Progress(NamedTuple):
    """How far a run is: epochs finished, best quality of the stage, state of the optimiser."""

    finished: int
    best: float
    optimizer: dict[str, Any] | None


def _load_progress(run: Path, model: SegmentationModel) -> _Progress:
    last = run / 'last.pt'
    if not last.exists():
        return _Progress(0, -math.inf, None)
    saved = torch.load(last, weights_only=True)
    model.load_state_dict(saved['model'])
    logger.info('resuming %s after epoch %d', run, saved['finished'])
    return _Progress(saved['finished'], saved['best'], saved['optimizer'])


def _save_progress(run: Path, model: SegmentationModel, progress: _Progress) -> None:
    with replacing(run / 'last.pt') as fresh:
        torch.save({'model': model.state_dict(), **progress._asdict()}, fresh)


def _claim(run: Path, config: TrainConfig) -> None:
    """Write the configuration into the run's folder, or see that it is the one there."""
    path = run / 'config.yaml'
    text = yaml.safe_dump(config.model_dump(mode='json'), sort_keys=False)
    if path.exists() and path.read_text() != text:
        raise MultishiftError(
            f'{run} holds a run of another configuration ({path}): give another folder with --out'
        )
    write_text(path, text)


def _prepare(
    model: SegmentationModel, epoch: Epoch, config: TrainConfig, progress: _Progress
) -> torch.optim.Optimizer:
    """Choose what learns, and return the optimiser: new for a stage, or as the last epoch's."""
    stage = epoch.stage
    if stage.init_uncertainty and epoch.in_stage == 0:
        model.init_uncertainty_from_classifier()
    known = {name.split('.')[0] for name, _ in model.named_parameters()}
    if unknown := set(stage.trainable) - known:
        raise MultishiftError(
            f'stage {stage.name}: trainable names no part of {config.model}: '
            f'{", ".join(sorted(unknown))}; it has {", ".join(sorted(known))}'
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split('.')[0] in stage.trainable)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, stage.learning_rate, weight_decay=config.weight_decay)
    if epoch.in_stage > 0 and progress.optimizer is not None:
        optimizer.load_state_dict(progress.optimizer)
    return optimizer


def _train_epoch(
    model: SegmentationModel,
    optimizer: torch.optim.Optimizer,
    epoch: Epoch,
    loader: DataLoader[tuple[Tensor, Tensor]],
    config: TrainConfig,
    weights: Tensor | None,
) -> dict[str, float]:
    """Run an epoch and return the mean of each loss."""
    stage = epoch.stage
    _set_training_mode(model, stage)
    generator = torch.Generator().manual_seed(epoch.number)
    totals = {'loss/cross_entropy': 0.0, 'loss/contrastive': 0.0}
    bar = tqdm(loader, f'{stage.name} {epoch.in_stage + 1}/{stage.epochs}', unit='batch')
    for step, (images, labels) in enumerate(bar):
        share = (epoch.in_stage + step / len(loader)) / stage.epochs
        for group in optimizer.param_groups:
            group['lr'] = stage.learning_rate * (1 + math.cos(math.pi * share)) / 2
        segmentation, contrastive = _losses(
            model, images, labels, stage=stage, config=config, weights=weights, generator=generator
        )
        optimizer.zero_grad(set_to_none=True)
        (stage.cross_entropy * segmentation + stage.contrastive * contrastive).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        totals['loss/cross_entropy'] += segmentation.item()
        totals['loss/contrastive'] += contrastive.item()
        bar.set_postfix({k.split('/')[1]: f'{v / (step + 1):.3f}' for k, v in totals.items()})
    return {key: value / len(loader) for key, value in totals.items()}


def _losses(
    model: SegmentationModel,
    images: Tensor,
    labels: Tensor,
    *,
    stage: Stage,
    config: TrainConfig,
    weights: Tensor | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and contrastive loss of a batch of bytes."""
    labels = labels[:, ::_LOSS_STRIDE, ::_LOSS_STRIDE].long()
    image = Normalize()(images).contiguous(memory_format=torch.channels_last)
    with torch.autocast('cpu', torch.bfloat16, enabled=config.precision == 'bf16'):
        prediction: Prediction = model(image, (labels.shape[1], labels.shape[2]))
    contrastive = relative_contrastive(
        prediction.score.float(), labels, margin=stage.margin, generator=generator
    )
    return cross_entropy(prediction.logits.float(), labels, weights), contrastive


def _set_training_mode(model: SegmentationModel, stage: Stage) -> None:
    """Let batch statistics move only where parameters learn."""
    for name, module in model.named_children():
        module.train(name in stage.trainable)


def _record(
    board: SummaryWriter, run: Path, epoch: Epoch, values: dict[str, float | None]
) -> None:
    """Add an epoch to TensorBoard, to the log file and to the terminal."""
    for key, value in values.items():
        if value is not None:
            board.add_scalar(key, value, epoch.number)
    with (run / 'log.jsonl').open('a') as file:
        file.write(json.dumps({'epoch': epoch.number, 'stage': epoch.stage.name, **values}) + '\n')
    shown = ', '.join(f'{k} {v:.3f}' for k, v in values.items() if v is not None)
    logger.info('epoch %d (%s): %s', epoch.number, epoch.stage.name, shown)
