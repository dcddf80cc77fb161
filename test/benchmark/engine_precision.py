# SPDX-License-Identifier: Apache-2.0
"""What the precision changes of every network: a table in docs/engines.md.

    python test/benchmark/engine_precision.py --model segformer_b0

The program that TensorRT engines are built from runs in PyTorch on the CPU, beside the network in
float32: that of the embedded engine on its probe frames, others with random weights on a random
frame. The bounds are those of an artifact.
"""

from __future__ import annotations

import click
import torch
from torch import nn
from torch.export import ExportedProgram

from multishift_perception.engine import EMBEDDED_BUNDLE
from multishift_perception.engine.manifest import Calibration
from multishift_perception.engine.probe import ProbeSet
from multishift_perception.engine.types import EngineOutput
from multishift_training import models
from multishift_training.cli.options import SizeType
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.precision import DTYPES, typed
from multishift_training.export.program import export_program

_NAMES = ('deeplabv3plus_compact', 'segformer_b0', 'mask2former_resnet50')
_CALIBRATION = Calibration(
    knots=[(-40.0, 0.0), (0.0, 128.0), (40.0, 255.0)],
    operating_point=0.0,
    rule='none',
    dataset='none',
)


@click.command()
@click.option('--size', type=SizeType(), default='64x96', show_default=True)
@click.option('--model', 'names', multiple=True, default=_NAMES, show_default=True)
def main(size: tuple[int, int], names: tuple[str, ...]) -> None:
    """Print a Markdown table, a row as soon as it is measured."""
    print('| network | precision | labels that agree | error of the score, of its spread |')
    print('|---|---|---|---|')
    probe = ProbeSet.load(EMBEDDED_BUNDLE / 'probe.npz')
    _compare('embedded engine', torch.export.load(EMBEDDED_BUNDLE / 'torch.pt2'), probe)
    for name in names:
        _measure(name, size)


@torch.inference_mode()
def _measure(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    graph = DeployGraph(_scrambled(models.create(name)), _CALIBRATION)
    coarse = torch.randint(0, 256, (1, size[0] // 8, size[1] // 8, 3), dtype=torch.uint8)
    frames = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)
    probe = ProbeSet.of(frames.numpy()[None], [_output(graph, frames)])
    _compare(f'`{name}`', export_program(graph, frames), probe)


@torch.inference_mode()
def _compare(name: str, program: ExportedProgram, probe: ProbeSet) -> None:
    calls = [torch.from_numpy(frames) for frames in probe.frames]
    for precision in DTYPES:
        rewritten = typed(program, calls[0], precision).module(check_guards=False)
        parity = probe.parity([_output(rewritten, frames) for frames in calls])
        print(
            f'| {name} | {precision} | {parity.label_agreement:.2%} '
            f'| {parity.score_error / probe.spread:.2%} |',
            flush=True,
        )


def _output(graph: nn.Module, frames: torch.Tensor) -> EngineOutput:
    return EngineOutput(*(tensor.numpy() for tensor in graph(frames)))


def _scrambled(network: models.SegmentationModel) -> models.SegmentationModel:
    """Give weights values that differ enough for labels to differ."""
    for name, tensor in network.state_dict().items():
        if name.endswith('running_var'):
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point():
            tensor.add_(0.1 * tensor.std(correction=0) * torch.randn_like(tensor))
    return network


if __name__ == '__main__':
    main()
