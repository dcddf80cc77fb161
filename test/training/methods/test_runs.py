# SPDX-License-Identifier: Apache-2.0
"""Methods after papers, trained for seconds: resumed, shared out, exported."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import copy
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.engine import Engine
from multishift_perception.engine.manifest import Calibration
from multishift_training.checkpoints import trained
from multishift_training.datasets import Batch
from multishift_training.export import export_bundle
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.loop.config import TrainConfig
from multishift_training.loop.devices import gathered
from multishift_training.loop.train import train
from multishift_training.loop.trainable import small_batch
from multishift_training.methods import METHODS, Context, Method
from multishift_training.methods.wildnet import WildNet
from multishift_training.models import Prediction, SegmentationModel, create
from multishift_training.models.input_scale import Normalize

Content = dict[str, Any]

pytestmark = [pytest.mark.usefixtures('one_thread'), pytest.mark.slow]

DCR = {'crop': [48, 64], 'donors': 2, 'patches': [8, 24], 'width': 16}
# By name, the method's configuration, and what learns.
RUNS: dict[str, tuple[Content, list[str]]] = {
    'dcr': (DCR, ['anomaly']),
    'densehybrid': ({}, ['*']),
    'rpl': ({'corocl': 1, 'embedding': 8}, ['residual']),
    'spc': ({'sources': 1}, ['*']),
    'isw': ({'warmup_steps': 0, 'trials': 1, 'trial_steps': 1}, ['*']),
    'pin_memory': ({'episodes': False}, ['*']),
    'ibn': ({'variant': 'b'}, ['*']),
    'san_saw': ({}, ['*']),
    'wildnet': ({'sources': 1, 'grid': 4, 'contents': 64, 'width': 8}, ['*']),
}


def method_of(kind: str, **changes: object) -> Method:
    return METHODS[kind].model_validate({'kind': kind, **RUNS[kind][0], **changes})


def equal(one: object, two: object) -> bool:
    if isinstance(one, Tensor):
        return isinstance(two, Tensor) and torch.equal(one, two)
    return one == two


@pytest.fixture(scope='module', params=RUNS)
def config(request: pytest.FixtureRequest, content: Callable[..., Content]) -> TrainConfig:
    """Two batches of two small images."""
    options, trainable = RUNS[request.param]
    stage = {
        'name': 'own',
        'epochs': 1,
        'trainable': trainable,
        'batch_norm': 'trained',
        'method': {'kind': request.param, **options},
        'optimizer': {'learning_rate': 1e-2},
    }
    run = content(batch_size=4, stages=[stage])
    del run['data']['partners']
    if request.param != 'dcr':
        run['data']['outliers'] = {'kind': 'sample_objects', 'split': 'train'}
    return TrainConfig.model_validate(run)


@pytest.fixture(scope='module')
def run(config: TrainConfig, new_folder: Callable[[], Path]) -> Path:
    folder = new_folder()
    train(config, folder, root=Path())
    return folder


def test_stopped_after_every_step_ends_as_if_it_never_had_been(
    run: Path,
    config: TrainConfig,
    folder: Path,
    train_in_parts: Callable[[TrainConfig, Path], int],
) -> None:
    assert train_in_parts(config, folder) == 2
    saved = [torch.load(path / 'last.pt', weights_only=True) for path in (run, folder)]
    for part in ('model', 'methods', 'optimizer'):
        one, two = (pytree.tree_leaves(state[part]) for state in saved)
        assert len(one) == len(two)
        assert all(map(equal, one, two))
    assert (run / 'log.jsonl').read_text() == (folder / 'log.jsonl').read_text()


@pytest.mark.parametrize('config', ['wildnet'], indirect=True)
def test_what_runs_the_network_again_does_so_in_the_precision_of_the_run(
    config: TrainConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, types = WildNet.losses, []

    def note(model: SegmentationModel, images: object, prediction: Prediction) -> None:
        types.append(prediction.logits.dtype)

    def noted(self: WildNet, seen: Prediction, batch: Batch, context: Context) -> Any:
        note(context.model, batch.images, seen)
        handle = context.model.register_forward_hook(note)
        found = losses(self, seen, batch, context)
        handle.remove()
        return found

    monkeypatch.setattr(WildNet, 'losses', noted)
    train(config.model_copy(update={'precision': 'bf16'}), folder, root=Path())
    # What the loop gives has 32 bits, as losses need, and so has all in the check before the run.
    assert types == [torch.float32] * 3 + [torch.float32, torch.bfloat16, torch.bfloat16] * 2


def test_what_learns_changes_and_all_else_stays_to_the_bit(run: Path, config: TrainConfig) -> None:
    learned = tuple('' if name == '*' else f'{name}.' for name in config.stages[0].trainable)
    torch.manual_seed(config.seed)
    before, after = create(config.model).state_dict(), load_file(run / 'best.safetensors')
    changed = {
        key
        for key in before.keys() | after.keys()
        if key not in before or key not in after or not torch.equal(after[key], before[key])
    }
    assert changed
    assert all(key.startswith(learned) for key in changed)


def stored_for_outputs(program: torch.export.ExportedProgram) -> set[str]:
    """Return the names of the tensors that outputs of a program depend on."""
    needed = {*program.graph.output_node().all_input_nodes}
    for node in reversed(program.graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    names = {node.name for node in needed}
    inputs = program.graph_signature.input_specs
    return {str(spec.target) for spec in inputs if spec.target and spec.arg.name in names}


def test_bundle_verifies_and_holds_only_what_drives(
    run: Path, config: TrainConfig, tmp_path: Path
) -> None:
    model = trained.open_trained(run / 'best.safetensors').model
    calibration = Calibration(
        knots=[(-20, 0), (20, 255)], operating_point=0, rule='made up', dataset='none'
    )
    frames = np.random.default_rng(0).integers(0, 256, (2, 1, 64, 96, 3), np.uint8)
    graph = DeployGraph(model, calibration)
    bundle = tmp_path / 'engine'
    manifest = export_bundle(
        bundle, graph, calibration=calibration, probes=frames, targets=['torch'],
        model=config.model, method=config.stages[0].method.kind, provenance={},
    )  # fmt: skip
    program = torch.export.load(bundle / manifest.artifacts[0].file)
    assert {*program.state_dict, *program.constants} == stored_for_outputs(program)
    with Engine.load(bundle, backend='torch') as engine:  # proves it on the probes
        found = engine.infer(frames[0])
    assert found.label.max() < 19 and np.isfinite(found.score).all()


# wildnet has a test of two processes of its own.
@pytest.fixture(scope='module', params=[kind for kind in RUNS if kind != 'wildnet'])
def made(request: pytest.FixtureRequest) -> tuple[Method, Batch, Context]:
    """A method, a batch of four small samples, its network and its state."""
    torch.manual_seed(0)
    # Contrast draws by the order of pixels: it is of one process or another's draw.
    method = method_of(request.param, **({'corocl': 0} if request.param == 'rpl' else {}))
    model = method.adapt(create('deeplabv3plus_compact'))
    state = method.make_state(model)
    batch = small_batch(method, 1, 4)
    for part in (model, state):
        if part is not None:
            part.double().eval()
    context = Context(model, state, None, None, lambda values: values)
    labels = batch.labels.long()
    labels[:, ::4] = 1  # of what is read at every fourth row, too, something is known
    return method, batch._replace(labels=labels), context


def losses_of(method: Method, batch: Batch, context: Context) -> dict[str, Tensor]:
    images = Normalize(context.model.input_scale)(batch.images).double()
    return method.losses(context.model(images), batch, context)


def share_of(batch: Batch, rank: int) -> Batch:
    """As the loader shares a batch out: of each member, every second sample."""

    def cut(values: Tensor) -> Tensor:
        return values.unflatten(0, (batch.members, -1))[:, rank::2].flatten(0, 1)

    return batch.moved(cut)


class Process:
    """Stands for Fabric in one of two processes, which are threads here."""

    world_size = 2

    def __init__(self, rank: int, meeting: Barrier, brought: list[Tensor]) -> None:
        self._rank, self._meeting, self._brought = rank, meeting, brought

    def all_gather(self, values: Tensor, *, sync_grads: bool) -> Tensor:
        self._brought[self._rank] = values
        self._meeting.wait(timeout=60)
        joined = torch.stack(self._brought)
        self._meeting.wait(timeout=60)
        return joined


def test_shares_of_two_processes_give_the_losses_of_the_whole_batch(
    made: tuple[Method, Batch, Context],
) -> None:
    method, batch, untouched = made
    one, *others = (copy_of(untouched) for _ in range(3))
    whole = losses_of(method, batch, one)
    meeting, brought = Barrier(2), [torch.empty(0)] * 2

    def run_share(rank: int) -> dict[str, Tensor]:
        process: Any = Process(rank, meeting, brought)
        context = others[rank]._replace(
            gather=lambda values: gathered(process, values, batch.members)
        )
        return losses_of(method, share_of(batch, rank), context)

    with ThreadPoolExecutor(2) as threads:
        shares = list(threads.map(run_share, range(2)))
    for joined, context in zip(shares, others, strict=True):
        assert joined.keys() == whole.keys()
        for name, value in whole.items():
            assert joined[name].item() == pytest.approx(value.item(), rel=1e-6), name
            assert value.item() > 0
        for of_one, of_two in zip(buffers_of(one), buffers_of(context), strict=True):
            torch.testing.assert_close(of_two, of_one, rtol=1e-6, atol=1e-9)


def copy_of(context: Context) -> Context:
    """What losses move in it is not moved in the other."""
    model, state = copy.deepcopy((context.model, context.state))
    return context._replace(model=model, state=state)


def buffers_of(context: Context) -> list[Tensor]:
    parts = (part for part in (context.model, context.state) if part is not None)
    return [buffer for part in parts for buffer in part.buffers()]


@pytest.mark.parametrize('label', [0, NOVEL, VOID])
def test_batches_of_one_image_and_one_label_are_finite(
    made: tuple[Method, Batch, Context], label: int
) -> None:
    method, batch, context = made
    one = batch.moved(lambda values: values.unflatten(0, (batch.members, -1))[:, 0])
    one = one._replace(labels=torch.full_like(one.labels, label))
    losses = losses_of(method, one, context)
    total = torch.stack(list(losses.values())).sum()
    learning = [p for part in (context.model, context.state) if part for p in part.parameters()]
    gradients = torch.autograd.grad(total, learning, allow_unused=True)
    assert total.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


def test_outputs_that_are_no_numbers_show(made: tuple[Method, Batch, Context]) -> None:
    """A pixel that counts in no loss spoils the gradients all the same."""
    method, batch, context = made
    void = batch._replace(labels=torch.full_like(batch.labels, VOID))
    prediction = context.model(Normalize(context.model.input_scale)(batch.images).double())
    read = {
        'dcr': 'logit',
        'densehybrid': 'discriminator',
        'rpl': 'logits',
        'spc': 'embeddings',
        'isw': 'isw_stride_8',
        'pin_memory': 'recalled_by',
    }
    auxiliary = prediction.auxiliary or {}
    name = read.get(method.kind)  # none of what reads nothing but logits
    spoiled = (prediction.logits if name is None else auxiliary[name]).clone()
    spoiled[-1, 0, 3, 3] = torch.nan
    changed = {'logits': spoiled} if name is None else {'auxiliary': {**auxiliary, name: spoiled}}
    prediction = prediction._replace(**changed)
    parts = method.losses(prediction, void, context)
    assert not torch.stack(list(parts.values())).sum().isfinite()
