# SPDX-License-Identifier: Apache-2.0
"""The table of the node's parameters: names, defaults, ranges, and when each may change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
import re
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidTopicNameException
from rclpy.qos import QoSPolicyKind
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.validate_topic_name import validate_topic_name

from multishift_perception.engine import BACKENDS
from multishift_perception.errors import one_line
from multishift_perception.images.decoding import MAX_PIXELS
from multishift_perception.node.engine_restart import MOST_ATTEMPTS, WAITS_S
from multishift_perception.overlay import ALPHA


class Change(Enum):
    """When a parameter may change."""

    AT_START = 'only at start'
    UNCONFIGURED = 'only while the node is unconfigured'
    ANY_TIME = 'at any time'


@dataclass(frozen=True)
class Spec:
    """One parameter.

    Attributes:
        name: name; of a camera's parameter the part after ``cameras.<name>.``.
        default: default value, which also fixes the type.
        description: what it does, with its unit.
        change: when it may change.
        low: least value of a number.
        high: largest value of a number.
        choices: values a string may have; empty for any.
        refuse: returns why a value of the right type and range is refused, None if it is not.
    """

    name: str
    default: Any
    description: str
    change: Change = Change.UNCONFIGURED
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()
    refuse: Callable[[Any], str | None] = lambda value: None

    @property
    def accepted(self) -> str:
        """What values it may have, in words."""
        if self.choices:
            return f'one of {", ".join(self.choices)}'
        limits = f', {self.low} to {self.high}' if self.low < self.high else ''
        return f'{_TYPE_WORDS[type(self.default)]}{limits}'

    def refusal(self, value: Any) -> str | None:
        """Return why a value is refused, None if it is accepted."""
        fits = _same_type(value, self.default)
        if fits and self.low < self.high:
            fits = self.low <= value <= self.high
        if fits and self.choices:
            fits = value in self.choices
        return self.refuse(value) if fits else f'it must be {self.accepted}'

    def descriptor(self) -> ParameterDescriptor:
        """Return the description that ROS tools show."""
        descriptor = ParameterDescriptor(
            description=self.description,
            read_only=self.change is Change.AT_START,
            additional_constraints=f'may change {self.change.value}'
            + (f'; one of {", ".join(self.choices)}' if self.choices else ''),
        )
        if self.low < self.high and isinstance(self.default, float):
            limits = FloatingPointRange(from_value=float(self.low), to_value=float(self.high))
            descriptor.floating_point_range = [limits]
        elif self.low < self.high:
            limits = IntegerRange(from_value=int(self.low), to_value=int(self.high))
            descriptor.integer_range = [limits]
        return descriptor


def _refuse_camera_names(names: Sequence[str]) -> str | None:
    if not names:
        return 'it must name at least one camera'
    for name in names:
        if not re.fullmatch('[A-Za-z](_?[A-Za-z0-9])*', name):
            return f'{name!r} is not a ROS name: letters, digits and single underscores'
    return 'a camera is named twice' if len(set(names)) < len(names) else None


def _refuse_topic(topic: str) -> str | None:
    try:
        validate_topic_name(topic)
    except InvalidTopicNameException as error:
        return one_line(error)
    return None


# As nav2 has it from Lyrical on; before, 0.1.
BOND_PERIOD_S = 0.25

CAMERA_NAMES = Spec(
    'camera_names',
    ['camera'],
    'Names of the cameras; each has parameters cameras.<name>.* and topics ~/<name>/*.',
    Change.AT_START,
    refuse=_refuse_camera_names,
)
NODE_SPECS = (
    Spec('autostart', True, 'Configure and activate without being asked.', Change.AT_START),
    Spec('engine_bundle', '', 'Path of an engine bundle; empty takes the embedded engine.'),
    Spec(
        'backend',
        'auto',
        'What runs the engine; auto takes the best of the bundle that fits this machine.',
        choices=('auto', *BACKENDS),
    ),
    Spec('device', 0, 'Index of the GPU, where the backend uses one.', high=63),
    Spec(
        'engine_restart',
        'reload',
        'What is done about an engine whose calls go on failing: never (nothing but to say so) '
        f'or reload (load it anew, at most {MOST_ATTEMPTS} times, after '
        f'{", ".join(map(str, WAITS_S[:-1]))} and {WAITS_S[-1]} s).',
        Change.ANY_TIME,
        choices=('never', 'reload'),
    ),
    Spec(
        'engine_threads',
        0,
        'Threads of an engine on the CPU (0: as many as its library takes by itself).',
        high=256,
    ),
    Spec(
        'opencv_threads',
        1,
        'Threads of OpenCV, which resizes and draws (0: as many as it takes by itself).',
        high=256,
    ),
    Spec(
        'output_size',
        'camera',
        'camera: outputs are aligned with the input image; engine: at network resolution.',
        choices=('camera', 'engine'),
    ),
    Spec(
        'anomaly_threshold',
        0.5,
        'Calibrated score (0..1, 0.5 = operating point) from which a pixel is anomalous.',
        Change.ANY_TIME,
        high=1,
    ),
    Spec(
        'min_anomaly_area',
        0,
        'Connected anomalous regions of fewer pixels are dropped.',
        Change.ANY_TIME,
        high=2**31 - 1,
    ),
    Spec(
        'anomaly_min_hits',
        3,
        'Frames that an anomaly has been seen in before it is among the objects.',
        Change.ANY_TIME,
        low=1,
        high=100,
    ),
    Spec('overlay_alpha', ALPHA, 'Weight of the class colours, 0..1.', Change.ANY_TIME, high=1),
    Spec(
        'max_frame_age_ms',
        200,
        'Frames older than this, by header stamp, are dropped, before their engine call or after '
        'it (milliseconds; 0: no limit).',
        Change.ANY_TIME,
        high=3_600_000,
    ),
    Spec(
        'max_image_pixels',
        MAX_PIXELS,
        'Frames of more pixels (height times width) are dropped, judged by their header before '
        'they are decoded: one that takes seconds would hold up all cameras.',
        Change.ANY_TIME,
        low=1,
        high=2**31 - 1,
    ),
    Spec(
        'max_batch_wait_ms',
        0,
        'How long to wait for other cameras whose next frame is due by then, where one engine '
        'call takes several frames (milliseconds).',
        Change.ANY_TIME,
        high=1000,
    ),
    Spec(
        'publish_always',
        False,
        'Compute and send every output, watched or not.',
        Change.ANY_TIME,
    ),
    Spec(
        'bond_heartbeat_period',
        BOND_PERIOD_S,
        "Seconds between heartbeats of the bond with nav2's lifecycle manager, below its "
        'bond_timeout (0: no bond). There is none without bondpy, nor with autostart.',
        high=60,
    ),
)
CAMERA_SPECS = (
    Spec(
        'image_topic',
        '/<name>/image_raw',
        "The camera's image topic; with transport compressed its /compressed is read, whether the "
        'name ends in it or not.',
        refuse=_refuse_topic,
    ),
    Spec('transport', 'raw', 'Form of the images.', choices=('raw', 'compressed')),
    Spec(
        'mount_height',
        0.0,
        'Height of the camera above the ground, by which anomalies are placed on it (metres; 0: '
        'not known).',
        high=100,
    ),
    Spec(
        'mount_pitch',
        0.0,
        'How far the camera looks below the horizon (radians).',
        low=-1.57,
        high=1.57,
    ),
    Spec(
        'ground_frame',
        '',
        'A tf frame on the ground, such as base_footprint: where mount_height is 0, tf tells how '
        'the camera is mounted above it.',
    ),
)

# Below qos_overrides.<topic>.<publisher or subscription>., declared by rclpy for each topic.
QOS_SPECS = (
    Spec('history', '', 'As in ROS.', choices=('keep_last', 'keep_all', 'system_default')),
    Spec('depth', 1, 'As in ROS.', low=1, high=10_000),
    Spec(
        'reliability',
        '',
        'As in ROS.',
        choices=('reliable', 'best_effort', 'best_available', 'system_default'),
    ),
    Spec(
        'durability',
        '',
        'As in ROS.',
        choices=('volatile', 'transient_local', 'best_available', 'system_default'),
    ),
)
OVERRIDABLE = QoSOverridingOptions([QoSPolicyKind[spec.name.upper()] for spec in QOS_SPECS])


def all_specs(camera_names: Sequence[str]) -> dict[str, Spec]:
    """Return the parameters of a node with these cameras, by full name."""
    specs = {spec.name: spec for spec in (*NODE_SPECS, CAMERA_NAMES)}
    for camera in camera_names:
        for spec in CAMERA_SPECS:
            default = spec.default
            if isinstance(default, str):
                default = default.replace('<name>', camera)
            specs[f'cameras.{camera}.{spec.name}'] = replace(spec, default=default)
    return specs


def help_text() -> str:
    """Return the table of parameters for people: name, default, description."""
    rows = [(spec.name, spec) for spec in (*NODE_SPECS, CAMERA_NAMES)]
    rows += [(f'cameras.<name>.{spec.name}', spec) for spec in CAMERA_SPECS]
    return '\n'.join(
        f'  {name} (default {spec.default!r}, may change {spec.change.value})\n'
        f'      {spec.description}'
        for name, spec in rows
    )


def widened(value: Any, default: Any) -> Any:
    """Return a whole number as a float where the default is a float, any other value as it is."""
    return float(value) if isinstance(default, float) and type(value) is int else value


def _same_type(value: Any, default: Any) -> bool:
    if isinstance(default, list):
        # A string is a sequence of strings, too.
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        return listed and all(isinstance(item, str) for item in value)
    return type(value) is type(default)


_TYPE_WORDS = {
    bool: 'true or false',
    int: 'a whole number',
    float: 'a number',
    str: 'a string',
    list: 'a list of strings',
}
