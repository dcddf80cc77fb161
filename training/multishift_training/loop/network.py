# SPDX-License-Identifier: Apache-2.0
"""The network of a run: new, with the weights that it starts from, or as a killed run left it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
import logging
from pathlib import Path

import torch
from torch import nn

from multishift_perception.errors import MultishiftError
from multishift_training import checkpoints
from multishift_training.checkpoints import trained
from multishift_training.checkpoints.credits import credits_of_weights
from multishift_training.checkpoints.imagenet import find_imagenet_weights
from multishift_training.checkpoints.key_matching import untrained
from multishift_training.checkpoints.load_report import LoadReport
from multishift_training.checkpoints.metadata import (
    IMAGENET,
    check_same_classes,
    each_kind_once,
    read_ancestry,
)
from multishift_training.loop.config import Stage, TrainConfig
from multishift_training.loop.run_folder import RunFolder, State
from multishift_training.methods import METHODS, Method
from multishift_training.models import SegmentationModel

logger = logging.getLogger(__name__)


def make_model(
    config: TrainConfig, root: Path, folder: RunFolder, state: State
) -> SegmentationModel:
    """Return the network: as a killed run left it, from a checkpoint, or new.

    Args:
        config: of the run.
        root: folder that relative paths of weights start from.
        folder: of the run.
        state: of the run; that of a new one learns what is inherited with the first weights,
            and whom to credit for them.

    Raises:
        MultishiftError: weights are at fault, or the network is none for the method of a stage.
    """
    torch.manual_seed(config.seed)
    model = trained.new_model(config, root, len(config.data.classes))
    for stage in config.stages:
        with naming(stage):
            stage.method.check_network(model, config.model)
    methods = [stage.method for stage in config.stages]
    if state.model is not None:
        return _resumed(model, methods, config, root, folder, state)
    if config.weights is None:
        state.credits = []
        return adapted_first(model, each_kind_once((), methods), config.model)
    return _started(model, methods, config, root, state)


def make_method_states(
    config: TrainConfig, model: SegmentationModel, folder: RunFolder, state: State
) -> dict[str, nn.Module]:
    """Return what only training needs, by kind of method: as a killed run left it, or new.

    Args:
        config: of the run.
        model: that `make_model` returned.
        folder: of the run.
        state: of the run.

    Raises:
        MultishiftError: what was saved fits no more.
    """
    found: dict[str, nn.Module] = {}
    for method in (stage.method for stage in config.stages):
        if method.kind in found or (made := method.make_state(model)) is None:
            continue
        if method.kind in state.methods:
            with folder.taking_up(f'weights of the method {method.kind}'):
                made.load_state_dict(state.methods[method.kind])
        found[method.kind] = made
    return found


def inherited_methods(folder: RunFolder, state: State) -> list[Method]:
    """Return what the network of the run's first weights was adapted by, in order.

    Raises:
        MultishiftError: this version has no such method, or it takes other keys.
    """
    with folder.taking_up('inherited methods'):
        return [METHODS[method['kind']].model_validate(method) for method in state.inherited]


@contextmanager
def naming(stage: Stage) -> Iterator[None]:
    """Say of faults which stage they are of: a method does not know."""
    try:
        yield
    except MultishiftError as error:
        raise MultishiftError(f'stage {stage.name}: {error}') from None


def _resumed(
    model: SegmentationModel,
    methods: Sequence[Method],
    config: TrainConfig,
    root: Path,
    folder: RunFolder,
    state: State,
) -> SegmentationModel:
    """Return a new network as a killed run left it; the other arguments are as `make_model`'s."""
    # An earlier version saved no credits.
    if state.credits is None and config.weights not in (None, IMAGENET):
        weights = root / config.weights
        if weights.exists():  # else it is too late to ask them
            state.credits = credits_of_weights(
                weights, read_ancestry(weights), model.imagenet_package
            )
    assert state.model is not None
    checkpoints.take_structure(model, state.model)
    adapting = each_kind_once(inherited_methods(folder, state), methods)
    model = trained.adapted(model, adapting)
    with folder.taking_up('weights'):
        model.load_state_dict(state.model)
    return model


def _started(
    model: SegmentationModel,
    methods: Sequence[Method],
    config: TrainConfig,
    root: Path,
    state: State,
) -> SegmentationModel:
    """Return a new network with the weights that the configuration names.

    It is adapted as the network was that these are of, given them, and then adapted as the run's
    own methods want it: what those add is new.
    """
    assert config.weights is not None
    is_imagenet = config.weights == IMAGENET
    path = find_imagenet_weights(model, config.model) if is_imagenet else root / config.weights
    check_same_classes(path, config.data.classes)
    ancestry = read_ancestry(path)
    inherited = ancestry.adapting
    state.inherited = [method.model_dump(mode='json') for method in inherited]
    adapting = each_kind_once(inherited, methods)
    if inherited:
        _check_inherited(inherited, model, config.model, path)
        checkpoints.take_structure(model, trained.keys_of(path))
    own = adapting[len(inherited) :]
    model = trained.adapted(model, adapting[: len(inherited)])
    report = _load(model, path)
    # The package of ImageNet weights is credited by the configuration.
    state.credits = (
        []
        if is_imagenet
        else credits_of_weights(path, ancestry, model.imagenet_package, report.layout)
    )
    return adapted_first(model, own, config.model, after=inherited)


def adapted_first(
    model: SegmentationModel, methods: Iterable[Method], name: str, after: Iterable[Method] = ()
) -> SegmentationModel:
    """Return a network as methods adapt it that did not before, one after the other.

    Of a network that they have adapted once, as that of a checkpoint, `trained.adapted` asks no
    more: whatever may be said of it, its weights are of nothing else.

    Args:
        model: the network.
        methods: those that are to adapt it.
        name: of the network, for messages.
        after: the methods that have adapted it already.

    Raises:
        MultishiftError: as those before it left it, a method cannot adapt it.
    """
    before = [method.kind for method in after]
    for method in methods:
        method.check_network(model, f'{name} after {", ".join(before)}' if before else name)
        model = method.adapt(model)
        before.append(method.kind)
    return model


def _check_inherited(
    methods: Sequence[Method], model: SegmentationModel, name: str, path: Path
) -> None:
    """See that a network is one that the methods can adapt which adapted that of the weights."""
    try:
        for method in methods:
            method.check_network(model, name)
    except MultishiftError as error:
        raise MultishiftError(f'weights: {path} are of another network: {error}') from None


def _load(model: SegmentationModel, path: Path) -> LoadReport:
    """Load weights, and log what they are and lack."""
    report = checkpoints.load(model, path)
    logger.info('weights of %s\n%s', path.name, report)
    if parts := untrained(model, report):
        logger.info('start at random: %s', ', '.join(parts))
    return report
