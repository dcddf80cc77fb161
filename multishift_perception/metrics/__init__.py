# SPDX-License-Identifier: Apache-2.0
"""Segmentation and anomaly metrics that stream: memory does not grow with the number of images.

Ground truth is in our label encoding: known classes 0..C-1, 254 novel, 255 void (ignored). All
results are fractions 0..1; what is undefined, such as an AUROC without a novel pixel, is None.

Metrics of parts of a data set add up: ``merge`` takes another object, and ``to_bytes`` and
``from_bytes`` bring one from another process.
"""

from multishift_perception.metrics.anomaly import AnomalyMetrics, AnomalyResult
from multishift_perception.metrics.bravo import BravoMetrics, BravoResult
from multishift_perception.metrics.components import (
    ANOMALY_TRACK,
    OBSTACLE_TRACK,
    ComponentMetrics,
    ComponentResult,
    Sizes,
)
from multishift_perception.metrics.curve import Curve
from multishift_perception.metrics.grouped import Grouped, Mergeable
from multishift_perception.metrics.objects import ObjectLog, ObjectMetrics, ObjectResult
from multishift_perception.metrics.operating_point import OperatingPoint, OperatingResult
from multishift_perception.metrics.segmentation import SegmentationMetrics, SegmentationResult
from multishift_perception.metrics.streaming import Stream, StreamingMetrics, StreamingResult
from multishift_perception.metrics.temporal import Steadiness, TemporalCounts, TemporalResult

__all__ = [
    'ANOMALY_TRACK',
    'OBSTACLE_TRACK',
    'AnomalyMetrics',
    'AnomalyResult',
    'BravoMetrics',
    'BravoResult',
    'ComponentMetrics',
    'ComponentResult',
    'Curve',
    'Grouped',
    'Mergeable',
    'ObjectLog',
    'ObjectMetrics',
    'ObjectResult',
    'OperatingPoint',
    'OperatingResult',
    'SegmentationMetrics',
    'SegmentationResult',
    'Sizes',
    'Steadiness',
    'Stream',
    'StreamingMetrics',
    'StreamingResult',
    'TemporalCounts',
    'TemporalResult',
]
