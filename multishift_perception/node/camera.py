# SPDX-License-Identifier: Apache-2.0
"""The parts of one camera."""

from __future__ import annotations

from dataclasses import dataclass

from multishift_perception.node.camera_input import CameraInput
from multishift_perception.node.publishers import CameraOutputs
from multishift_perception.node.stream_statistics import StreamStatistics


@dataclass(frozen=True)
class Camera:
    """The parts of one camera."""

    name: str
    input: CameraInput
    outputs: CameraOutputs
    statistics: StreamStatistics
