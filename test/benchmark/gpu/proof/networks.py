# SPDX-License-Identifier: Apache-2.0
"""Networks with random weights as an engine runs them: bytes in, bytes out, one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from multishift_perception.engine.cuda_runner import CudaRunner
from multishift_perception.engine.manifest import Calibration, InputShape
from multishift_perception.engine.roofline import Work, count_work
from multishift_training import models
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.models import SegmentationModel

DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
# Those that a vehicle may drive with, in order of value: they are measured first.
FOR_VEHICLES = (
    'deeplabv3plus_efficientnet_lite0',
    'deeplabv3plus_efficientnet_lite0_fast',
    'pidnet_s',
    'eomt_small',
    'pidnet_m',
    'segformer_b0',
    'deeplabv3plus_compact',
)
NAMES = (*FOR_VEHICLES, *(name for name in models.names_alone() if name not in FOR_VEHICLES))
CALIBRATION = Calibration(
    knots=[(-40.0, 0.0), (0.0, 128.0), (40.0, 255.0)],
    operating_point=0.0,
    rule='none',
    dataset='none',
)
_WITH_PRODUCTS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class Deployed(nn.Module):
    """The deploy graph with its products in a precision, as mixed precision has them."""

    def __init__(self, network: SegmentationModel, precision: str) -> None:
        super().__init__()
        self._dtype = DTYPES[precision]
        self.graph = DeployGraph(network, CALIBRATION)
        for module in network.modules():
            if isinstance(module, _WITH_PRODUCTS):
                module.to(self._dtype)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Return label, score, anomaly, look and confidence of ``frames uint8 [N,H,W,3]``."""
        mixed = self._dtype != torch.float32
        # The cache would keep casts of a graph that is being captured.
        with torch.autocast(frames.device.type, self._dtype, enabled=mixed, cache_enabled=False):
            label, score, anomaly, look, confidence = self.graph(frames)
        return label, score.float(), anomaly, look.float(), confidence


def runner(
    network: nn.Module, shape: tuple[int, ...], device: torch.device
) -> Callable[[np.ndarray], object]:
    """Return what runs frames ``uint8 [N,H,W,3]`` from the host's memory to the host's memory."""
    if device.type == 'cuda':
        return CudaRunner(network, shape, device).run

    @torch.inference_mode()
    def run(frames: np.ndarray) -> object:
        return network(torch.from_numpy(frames))

    return run


def work(name: str, size: tuple[int, int]) -> Work:
    """Return what a call of one frame needs at least."""
    with torch.device('meta'):
        graph = DeployGraph(models.create(name), CALIBRATION)
    weights = sum(p.numel() for p in graph.parameters())
    return count_work(graph, weights, InputShape(batch=1, height=size[0], width=size[1]))
