# SPDX-License-Identifier: Apache-2.0
"""Training steps of three networks, and beside them the published code where it can run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
import statistics
import sys
import time
from typing import Any

import torch
from torch import Tensor, nn

from multishift_training import models
from multishift_training.losses.contrastive import Margins, relative_contrastive
from multishift_training.losses.noise_aware import noise_aware_mean, pixel_cross_entropy
from multishift_training.losses.options import MaskWeights
from proof.attempts import Attempts
from proof.settings import Note, Settings

AIM = 1.5  # times as fast as the published code
# Images of a batch, half originals and half partners, and their size.
_BATCHES = {
    'deeplabv3plus_compact': (8, 256, 448),
    'deeplabv3plus_wideresnet38': (4, 700, 700),
    'mask2former_resnet50': (4, 700, 700),
}
_TINY = (2, 64, 96)

Step = Callable[[], object]


def run(settings: Settings, note: Note) -> None:
    """Time whole steps, then forward and backward beside the published network's."""
    torch.manual_seed(0)
    attempts = Attempts(note)
    for name, shape in _BATCHES.items():
        if not settings.on_gpu:
            shape = _TINY
            if name == 'deeplabv3plus_wideresnet38':
                continue  # the first one's code, in many seconds
        for precision in ('fp32', 'bf16') if settings.on_gpu else ('bf16',):
            title = f'{name} {"x".join(map(str, shape))} {precision}'
            attempts.row(title, lambda n=name, s=shape, p=precision: _time(settings, n, s, p))
    _beside_published(settings, note, attempts)
    attempts.end()


def _time(
    settings: Settings, name: str, shape: tuple[int, ...], precision: str
) -> dict[str, object]:
    if settings.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = statistics.median(settings.seconds(_step(settings, name, shape, precision), runs=15))
    memory = torch.cuda.max_memory_allocated() / 2**30 if settings.on_gpu else None
    return {'ms': 1e3 * seconds, 'images/s': shape[0] / seconds, 'peak GiB': memory}


def _step(settings: Settings, name: str, shape: tuple[int, ...], precision: str) -> Step:
    """Return a whole step: forward, losses, backward, optimiser."""
    device = settings.device
    model = models.create(name).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5)
    images = torch.randn(shape[0], 3, *shape[1:], device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 19, shape, device=device)
    labels[:, :9, :9] = 254
    mixed = precision == 'bf16'

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            prediction = model(images)
            loss = relative_contrastive(
                prediction.score, labels, margins=Margins(10, 5, 5), third_term='code'
            ).total
            loss = loss + _segmentation(model, prediction, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _segmentation(model: nn.Module, prediction: models.Prediction, labels: Tensor) -> Tensor:
    if prediction.masks is None:
        losses = pixel_cross_entropy(prediction.logits, labels)
        means = noise_aware_mean(losses, labels, ratio=0.8, mean_over='all')
        return means.original + means.augmented
    from multishift_training.losses.masks import mask_losses  # needs SciPy

    weight = model.class_weight
    assert isinstance(weight, Tensor)
    terms = mask_losses(prediction.masks, labels, class_weight=weight)
    weighted = [w * term for w, term in zip(MaskWeights(), terms, strict=True)]
    return torch.stack(weighted).sum()


def _beside_published(settings: Settings, note: Note, attempts: Attempts) -> None:
    """Time passes of ours beside the published networks whose code is here."""
    names = ['segformer_b0']
    if settings.multishiftseg is None:
        note('published code', 'absent: give its checkout with --multishiftseg')
    else:
        names.append('deeplabv3plus_wideresnet38')
        if settings.detectron2 is None:
            note("published code's Mask2Former", 'absent: give its checkout with --detectron2')
        else:
            names.append('mask2former_resnet50')
    for name in names:
        title = f'{name}, forward and backward, beside the published code'
        attempts.row(title, lambda n=name: _in_process(settings, n))


def _in_process(settings: Settings, name: str) -> dict[str, object]:
    """Compare in a new process: what stands in for a repository's imports must meet no other."""
    with ProcessPoolExecutor(1, get_context('spawn')) as pool:
        return pool.submit(_compare, settings, name).result(max(1.0, settings.left))


def _compare(settings: Settings, name: str) -> dict[str, object]:
    sys.path.append(str(Path(__file__).resolve().parents[3]))
    import published_code

    builders: dict[str, Callable[[], Any]] = {
        'segformer_b0': lambda: published_code.segformer(0),
        'deeplabv3plus_wideresnet38': lambda: published_code.wide_resnet38(settings.multishiftseg),
        'mask2former_resnet50': lambda: published_code.mask2former(
            settings.multishiftseg, settings.detectron2
        ),
    }
    return _in_turn(settings, builders[name]())


def _in_turn(settings: Settings, rivals: Any) -> dict[str, object]:
    """Time the same pass through both, in turn, as each is published; ours also in bf16."""
    size = (700, 700) if settings.on_gpu else (64, 96)
    image = torch.randn(2, 3, *size, device=settings.device)
    ours = rivals.ours.to(settings.device)
    rivals.network.to(settings.device)
    ways: dict[str, Step] = {
        'published': lambda: _pass(rivals.published, image),
        'ours': lambda: _pass(ours, image),
        'ours, bf16': lambda: _mixed_pass(ours, image),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(10 if settings.on_gpu else 1):
        if turn > 2 and settings.left < 5:
            break
        for name, way in ways.items():
            settings.synchronize()
            start = time.perf_counter()
            way()
            settings.synchronize()
            seconds[name].append(time.perf_counter() - start)
    medians = {
        name: statistics.median(values[len(values) // 3 :]) for name, values in seconds.items()
    }
    found: dict[str, object] = {f'{name} ms': 1e3 * value for name, value in medians.items()}
    for name in ('ours', 'ours, bf16'):
        found[f'{name}: times as fast (aim {AIM:g})'] = medians['published'] / medians[name]
    return found


def _pass(network: Callable[[Tensor], tuple[Tensor | None, ...]], image: Tensor) -> None:
    logits, score = network(image)[:2]
    total = logits.mean()
    if score is not None and score.requires_grad:
        total = total + score.mean()
    total.backward()


def _mixed_pass(network: nn.Module, image: Tensor) -> None:
    network.to(memory_format=torch.channels_last)
    with torch.autocast(image.device.type, torch.bfloat16):
        _pass(network, image.contiguous(memory_format=torch.channels_last))
