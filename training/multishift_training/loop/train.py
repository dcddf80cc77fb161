# SPDX-License-Identifier: Apache-2.0
"""The training loop: stages of epochs on any number of devices, resumable after any step."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property, partial
import logging
import math
from pathlib import Path

from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
import numpy as np
import torch
from torch import Tensor

from multishift_perception.disk import reporting_full_disk
from multishift_perception.process.memory import keep_large_buffers
from multishift_perception.progress import bar
from multishift_training.checkpoints import trained
from multishift_training.datasets import (
    Batch,
    Samples,
    class_weights,
    open_validation,
    training_loader,
)
from multishift_training.datasets.groups import membership
from multishift_training.datasets.presence import check_batch_size, count_images
from multishift_training.loop.board import Board
from multishift_training.loop.config import Stage, TrainConfig
from multishift_training.loop.devices import gathered, leave_cores_to, make_fabric, share_gradients
from multishift_training.loop.network import (
    inherited_methods,
    make_method_states,
    make_model,
    naming,
)
from multishift_training.loop.optimizers import make_optimizer, set_learning_rate
from multishift_training.loop.run_folder import (
    Epoch,
    RunFolder,
    check_run_folder,
    locked,
    schedule,
)
from multishift_training.loop.time_limit import TimeLimit
from multishift_training.loop.trainable import (
    check_learning_rates,
    check_one_image,
    check_reach,
    choose_trainable,
    set_training_mode,
    small_batch,
)
from multishift_training.loop.validate import check_monitor, monitored, validate
from multishift_training.loop.watch import GRADIENT, WEIGHTS, Watch, gradient_norm, weights_norm
from multishift_training.methods import Context
from multishift_training.models import Prediction
from multishift_training.models.input_scale import Normalize
from multishift_training.scores import SCORES

logger = logging.getLogger(__name__)


def train(
    config: TrainConfig, path: Path, *, root: Path, seconds: float = math.inf
) -> Path | None:
    """Train a network; a run that was killed goes on after its last saved step.

    Args:
        config: the configuration.
        path: the run's folder: ``config.yaml``, ``log.jsonl``, TensorBoard events, ``last.pt`` to
            resume from, ``best.safetensors``, and rendered frames.
        root: folder that relative paths of data and weights start from.
        seconds: time after which the run is saved and left, at the end of a step; the same call
            goes on from there.

    Returns:
        Path of the best weights of the last stage, by the configured metric; None where the time
        was over before.

    Raises:
        MultishiftError: the folder holds a run of another configuration, one in progress or
            something else, data or weights are at fault, a package offers what does not load,
            the loss is not finite, or the disk is full; what was saved before is whole.
    """
    limit = TimeLimit(seconds)
    SCORES.load()  # validation asks for one, and a broken package is told before the first epoch
    keep_large_buffers()
    leave_cores_to(config.workers)
    fabric = make_fabric(config.precision)
    if fabric.is_global_zero:
        check_run_folder(path)
    with (
        reporting_full_disk(path, resumes=True),
        locked(path) if fabric.is_global_zero else nullcontext(),
    ):
        folder = RunFolder(path, config, writes=fabric.is_global_zero)
        training = _Training(config, folder, fabric, root)
        for epoch in schedule(config):
            if epoch.number >= training.state.epoch and not training.run(epoch, limit):
                return None
    return folder.best


class _Training:
    """A run in progress: its data, its network, and how far it is.

    Attributes:
        state: how far it is. What a method trains beside the network is called method state.
    """

    def __init__(self, config: TrainConfig, folder: RunFolder, fabric: Fabric, root: Path) -> None:
        """Make the network or take up what a killed run saved, check the stages, open the data."""
        self.state = folder.load()
        self._config = config
        self._folder = folder
        self._fabric = fabric
        self._model = make_model(config, root, folder, self.state)
        self._method_states = make_method_states(config, self._model, folder, self.state)
        for module in (self._model, *self._method_states.values()):
            module.to(fabric.device)
            if config.channels_last:
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for stage in config.stages:  # what would stop a later stage stops the run before its data
            self._check(stage)
        check_batch_size(
            config.batch_size, count_images(config.data, root), processes=fabric.world_size
        )
        self._samples = Samples(config.data, root=root, cache=folder.cache, seed=config.seed)
        self._validation = open_validation(
            config.val, root=root, cache=folder.cache, size=config.engine_size
        ).in_classes(config.data.classes)
        check_monitor(config.monitor, self._validation)
        for stage in config.stages:  # reads the labels now, where classes are weighted by rarity
            self._class_weights(stage)
        self._normalize = Normalize(self._model.input_scale).to(fabric.device)
        self._board = (
            Board(folder.path, self._validation, self.state.epoch)
            if fabric.is_global_zero
            else None
        )
        self._watch = Watch(partial(folder.keep_batch, rank=fabric.global_rank))

    def _check(self, stage: Stage) -> None:
        """See that a stage can be trained: on small images of noise, before there are data."""
        data, method = self._config.data, stage.method
        choose_trainable(self._model, stage)
        with naming(stage):
            method.check_data(data)
            batch = small_batch(method, data.members, len(data.domains))
        processes = self._fabric.world_size
        if batch.members == 1 and self._config.batch_size == processes:
            check_one_image(self._model, stage, data.crop, processes)
        alike = torch.ones(len(data.classes), device=self._fabric.device)
        weights = method.weights_of_classes(self._model, lambda: alike)
        method_state = self._method_states.get(method.kind)
        check_learning_rates(self._model, method_state, stage)
        context = Context(self._model, method_state, weights, None, lambda values: values)
        check_reach(stage, batch, context)

    def run(self, epoch: Epoch, limit: TimeLimit) -> bool:
        """Train an epoch, or what is left of it, then validate and save.

        Args:
            epoch: which.
            limit: of the run's time; after it, the state is saved at the next whole step.

        Returns:
            Whether the epoch is done.
        """
        config, stage = self._config, epoch.stage
        model, optimizer = self._prepare(epoch)
        weights = self._class_weights(stage)
        loader = training_loader(
            self._samples,
            epoch.number,
            batch_size=config.batch_size,
            workers=config.workers,
            start=self.state.step,
            rank=self._fabric.global_rank,
            ranks=self._fabric.world_size,
            views=stage.method.views,
            others=stage.method.others,
        )
        steps = self.state.step + len(loader)
        updates = math.ceil(steps / stage.accumulate)  # steps of the optimiser in an epoch
        with bar(
            f'{stage.name} {epoch.in_stage + 1}/{stage.epochs}',
            steps * config.batch_size,
            initial=self.state.step * config.batch_size,
            unit='sample',
            disable=not self._fabric.is_global_zero,
        ) as shown:
            for batch in loader:
                update = epoch.in_stage * updates + self.state.step // stage.accumulate
                set_learning_rate(optimizer, stage.schedule, update, stage.epochs * updates)
                last = self.state.step + 1 == steps
                self._step(model, optimizer, weights, epoch, batch, last=last)
                read = self.state.step - 1  # the newest step's losses are on their way
                means = {k: v / read for k, v in self.state.sums.items()}
                shown.set_postfix({k: f'{v:.3g}' for k, v in means.items()}, refresh=False)
                shown.update(config.batch_size)
                whole = _ends_update(self.state.step, stage, last=last)
                due = last or self.state.step % (config.checkpoint_steps * stage.accumulate) == 0
                over = limit.is_over(self._fabric, whole=whole, due=due)
                if due or over:
                    self._save(epoch, optimizer)
                if over:
                    return False
        self._finish(
            epoch, optimizer, {f'loss/{k}': v / steps for k, v in self.state.sums.items()}
        )
        return True

    def _prepare(self, epoch: Epoch) -> tuple[_FabricModule, torch.optim.Optimizer]:
        """Choose what learns and how; the optimiser is new for a stage, or as it was saved."""
        stage = epoch.stage
        begins = epoch.in_stage == 0 and self.state.step == 0
        if begins and stage.init_uncertainty:
            self._model.init_uncertainty_from_classifier()
        choose_trainable(self._model, stage)
        set_training_mode(self._model, stage)
        method_state = self._method_states.get(stage.method.kind)
        if method_state is not None:
            method_state.train()
        factors = stage.method.learning_rate_factors
        optimizer = make_optimizer(self._model, stage.optimizer, method_state, factors)
        if not begins and self.state.optimizer is not None:
            with self._folder.taking_up('optimizer'):
                optimizer.load_state_dict(self.state.optimizer)
        model, wrapped = self._fabric.setup(self._model, optimizer)
        return model, wrapped

    def _class_weights(self, stage: Stage) -> Tensor | None:
        """Return what the stage's losses weight classes by, ``float32 [C+G]``, if they do."""
        return stage.method.weights_of_classes(self._model, lambda: self._rarity)

    @cached_property
    def _groups(self) -> Tensor | None:
        """The classes of each group that labels stand for, ``bool [G,C]``; None of none."""
        groups = self._samples.groups
        if not groups:
            return None
        table = membership(groups, self._samples.classes)
        return torch.from_numpy(table).to(self._fabric.device)

    @cached_property
    def _rarity(self) -> Tensor:
        """Weights of classes and groups by rarity, ``float32 [C+G]``; reads labels once."""
        labels = len(self._samples.classes) + len(self._samples.groups)
        originals = [domain.originals for domain in self._samples.domains]
        weights = class_weights(originals, labels)
        return weights.to(self._fabric.device)

    def _step(
        self,
        model: _FabricModule,
        optimizer: torch.optim.Optimizer,
        class_weights: Tensor | None,
        epoch: Epoch,
        batch: Batch,
        *,
        last: bool,
    ) -> None:
        """Take a batch, and a step of the optimiser if it is the last of those it accumulates."""
        stage, step = epoch.stage, self.state.step + 1
        whole = _ends_update(step, stage, last=last)
        method, method_state = stage.method, self._method_states.get(stage.method.kind)
        learning = [self._model] if method_state is None else [self._model, method_state]
        moved = batch.moved(self._fabric.to_device)
        stride = self._config.loss_stride
        labels = moved.labels[:, ::stride, ::stride].long()
        gather = partial(gathered, self._fabric, members=batch.members)
        context = Context(
            self._model,
            method_state,
            class_weights,
            self._groups,
            gather,
            self._fabric.autocast,
        )
        # Dropout and sampled pairs depend on the place in the run alone, so that runs resume
        # exactly; dropout differs between processes.
        place = (self._config.seed, epoch.number, step)
        _seed(*place, self._fabric.global_rank)
        with self._fabric.no_backward_sync(model, enabled=not whole):
            images = self._normalize(moved.images)
            prediction: Prediction = model(images, tuple(labels.shape[1:]))
            _seed(*place)
            parts = method.losses(prediction, moved._replace(labels=labels), context)
            total = torch.stack(list(parts.values())).sum()
            self._fabric.backward(total / stage.accumulate)
        if whole and method_state is not None:
            share_gradients(self._fabric, method_state)
        figures = {**parts, GRADIENT: gradient_norm(*learning)}
        if whole:
            if stage.clip_norm is not None:
                self._fabric.clip_gradients(
                    model, optimizer, max_norm=stage.clip_norm, error_if_nonfinite=False
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        figures[WEIGHTS] = weights_norm(*learning)
        self.state.step = step
        # All of this step is given to the device: it has work while the host reads the one before.
        self._add_losses(epoch)
        self._watch.observe(step, batch, figures)

    def _add_losses(self, epoch: Epoch) -> None:
        """Add the losses of the step that was observed last; raise where one is not finite."""
        for name, value in self._watch.read(epoch).items():
            self.state.sums[name] = self.state.sums.get(name, 0.0) + value

    def _save(self, epoch: Epoch, optimizer: torch.optim.Optimizer) -> None:
        """Save the state, once it is known that all of it is finite."""
        self._add_losses(epoch)
        self.state.model = self._model.state_dict()
        self.state.optimizer = optimizer.state_dict()
        self.state.methods = {
            kind: method_state.state_dict() for kind, method_state in self._method_states.items()
        }
        self._folder.save(self.state)

    def _finish(
        self, epoch: Epoch, optimizer: torch.optim.Optimizer, losses: dict[str, float]
    ) -> None:
        """Validate, record, keep the best weights, and go on to the next epoch."""
        state, config = self.state, self._config
        found = validate(self._model, self._validation, self._fabric, workers=config.workers)
        quality = monitored(config.monitor, found)
        # A stage's first epoch always counts: earlier stages optimise something else.
        state.best = quality if epoch.in_stage == 0 else max(state.best, quality)
        record = {'epoch': epoch.number, 'stage': epoch.stage.name, **losses, **found}
        state.history.append(record)
        if self._board is not None:
            if state.best == quality:
                classes = config.data.classes
                trained.save(
                    self._folder.best,
                    self._model,
                    config,
                    found,
                    classes=classes,
                    inherited=inherited_methods(self._folder, state),
                    credits=state.credits or (),
                )
            self._folder.write_log(state.history)
            self._board.add(epoch.number, {**losses, **found}, self._model)
            method = epoch.stage.method
            self._board.add_selection(epoch.number, method, self._samples, self._model)
        shown = ', '.join(f'{k} {v:.3f}' for k, v in found.items() if v is not None)
        logger.info('epoch %d (%s): %s', epoch.number, epoch.stage.name, shown)
        state.epoch, state.step, state.sums = epoch.number + 1, 0, {}
        self._save(epoch, optimizer)


def _ends_update(step: int, stage: Stage, *, last: bool) -> bool:
    """Return whether the optimiser moves after a step: with it, all that it accumulates is there.

    Args:
        step: number of the step in the epoch, from 1.
        stage: says of how many batches an update is.
        last: whether it is the epoch's last, whose update may be of fewer.
    """
    return last or step % stage.accumulate == 0


def _seed(*place: int) -> None:
    """Set torch's random state for a place in the run."""
    torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))
