# SPDX-License-Identifier: Apache-2.0
"""What tests of networks share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
import pytest
import torch
from torch.export import ExportedProgram

from multishift_perception.engine.manifest import Calibration
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.program import export_program
from multishift_training.models import SegmentationModel

OpenVinoCheck = Callable[[SegmentationModel, tuple[int, int]], ExportedProgram]


@pytest.fixture
def check_openvino() -> OpenVinoCheck:
    """See that OpenVINO computes a network's labels and scores; returns the exported program."""

    def check(network: SegmentationModel, size: tuple[int, int]) -> ExportedProgram:
        calibration = Calibration(
            knots=[(-40, 0), (40, 255)], operating_point=0, rule='made up', dataset='none'
        )
        frames = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
        graph = DeployGraph(network, calibration)
        program = export_program(graph, torch.from_numpy(frames))
        model = ov.convert_model(program)
        model.reshape(list(frames.shape))
        options = {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': 1}
        outputs = ov.Core().compile_model(model, 'CPU', options)([frames])
        with torch.inference_mode():
            label, score, *_ = graph(torch.from_numpy(frames))
        assert np.mean(outputs[0] == label.numpy()) > 0.99
        assert np.abs(outputs[1] - score.numpy()).max() < 1e-3 * float(score.max() - score.min())
        return program

    return check
