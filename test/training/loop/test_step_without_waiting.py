# SPDX-License-Identifier: Apache-2.0
"""Training steps on a device that computes nothing: whatever would wait for it is an error.

PyTorch's `meta` device has shapes and no numbers: asking it for a number, or for a shape that
depends on one, raises. What it cannot see, transfers to the host and back, is watched beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from multishift_training import models
from multishift_training.datasets import Batch
from multishift_training.loop import watch
from multishift_training.loop.config import TrainConfig
from multishift_training.loop.devices import make_fabric
from multishift_training.loop.run_folder import Epoch, RunFolder, schedule
from multishift_training.loop.train import _Training

Content = dict[str, Any]

pytestmark = pytest.mark.usefixtures('one_thread')

_ATEN = torch.ops.aten


class Waits(TorchDispatchMode):
    """Notes every transfer between host and device that the host would wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        options = kwargs or {}
        result = operation(*args, **options)
        if operation in (_ATEN._to_copy.default, _ATEN.copy_.default):
            source = args[-1] if operation is _ATEN.copy_.default else args[0]
            patient = options.get('non_blocking') or (len(args) > 2 and args[2])
            if source.device != result.device and not patient:
                self.found.append(f'{operation} {source.device} to {result.device}')
        return result


class Copies(TorchFunctionMode):
    """Notes what makes tensors on the device of numbers on the host, and waits for the copy."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        makers = (torch.tensor, torch.as_tensor, torch.from_numpy, Tensor.new_tensor)
        if function in makers and result.device.type != 'cpu':
            self.found.append(f'{function} to {result.device}')
        return result


@contextmanager
def no_waits() -> Iterator[None]:
    with Waits() as waits, Copies() as copies:
        yield
    assert waits.found + copies.found == []


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Stand in for the transfer of a step's figures to the host, at the edge of the hardware."""
    sent: list[Tensor] = []

    def to_host(values: Tensor) -> tuple[Tensor, Callable[[], None]]:
        sent.append(values)
        return torch.zeros(values.shape), lambda: None

    monkeypatch.setattr(watch, 'to_host', to_host)
    return sent


CLOSED_WORLD = {'kind': 'closed_world', 'class_weights': True}
MULTISHIFT = {'kind': 'multishift', 'margins': [10, 5, 5], 'class_weights': True}
SPC = {'kind': 'spc', 'sources': 1, 'single_source': 'one', 'ramp_steps': 5}


@pytest.mark.slow
@pytest.mark.parametrize(
    ('method', 'precision', 'parts'),
    [(CLOSED_WORLD, 'fp32', 1), (MULTISHIFT, 'bf16', 5), (SPC, 'fp32', 3)],
)
def test_step_waits_for_nothing(
    method: Content,
    precision: str,
    parts: int,
    content: Callable[..., Content],
    stages: dict[str, Content],
    folder: Path,
    sent: list[Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = {**stages['closed_world'], 'method': method, 'clip_norm': 1.0, 'accumulate': 2}
    config = TrainConfig.model_validate(content(precision=precision, stages=[stage]))
    training = _Training(
        config, RunFolder(folder, config, writes=True), make_fabric(config.precision), Path()
    )
    (epoch, *_) = schedule(config)
    take_steps(training, epoch, monkeypatch)
    # One small tensor for each step leaves the device, and nothing else.
    assert [tuple(values.shape) for values in sent] == [(parts + 2,)] * 4


def take_steps(training: Any, epoch: Epoch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take steps of an epoch on the device that computes nothing."""
    rarity = training._class_weights(epoch.stage)
    for module in (training._model, training._normalize):
        module.to('meta')
    fabric = training._fabric
    setup = partial(fabric.setup, move_to_device=False)
    monkeypatch.setattr(fabric, 'setup', setup)
    monkeypatch.setattr(fabric, 'to_device', lambda x: x.to('meta', non_blocking=True))
    model, optimizer = training._prepare(epoch)
    weights = None if rarity is None else rarity.to('meta')
    images = torch.zeros(8, 64, 96, 3, dtype=torch.uint8)
    labels = torch.zeros(8, 64, 96, dtype=torch.uint8)
    domains = torch.zeros(8, dtype=torch.int64)
    batch = Batch(images, labels, 2, {}, domains)
    with no_waits():
        for _ in range(4):
            training._step(model, optimizer, weights, epoch, batch, last=False)


# Not mask networks: their queries are matched on the host.
@pytest.mark.parametrize(
    'name', ['deeplabv3plus_compact', 'deeplabv3plus_wideresnet38', 'segformer_b0']
)
def test_networks_wait_for_nothing(name: str) -> None:
    with torch.device('meta'):
        model = models.create(name)
    model.to('meta').train()
    image = torch.zeros(2, 3, 64, 96, device='meta')
    with no_waits():
        prediction = model(image)
        (prediction.logits.sum() + prediction.score.sum()).backward()


def test_device_notices_waiting() -> None:
    values = torch.zeros(3, device='meta')
    for wait in (
        lambda: float(values.sum()),
        lambda: values.isfinite().all().item(),
        lambda: values.cpu(),
        lambda: values[values > 0],
        lambda: torch.bincount(values.long()),
    ):
        with pytest.raises((RuntimeError, NotImplementedError)):
            wait()
    for transfer in (
        lambda: torch.zeros(3).to('meta'),
        lambda: values.copy_(torch.zeros(3)),
        lambda: values.new_tensor([1.0, 2.0]),
    ):
        with pytest.raises(AssertionError), no_waits():
            transfer()
