# SPDX-License-Identifier: Apache-2.0
"""The exported program that every target is built from."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.export import ExportedProgram

from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.fusion import optimize


def export_program(graph: DeployGraph, frames: Tensor) -> ExportedProgram:
    """Export a deploy graph for the shape of ``frames uint8 [N,H,W,3]``, optimised."""
    return anonymous(optimize(torch.export.export(graph, (frames,), strict=False), frames))


def anonymous(program: ExportedProgram) -> ExportedProgram:
    """Remove what no bundle should hold, the example frames and the machine's source paths."""
    program.example_inputs = None
    for node in program.graph.nodes:
        node.meta.pop('stack_trace', None)
    return program
