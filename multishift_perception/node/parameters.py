# SPDX-License-Identifier: Apache-2.0
"""The node's parameters as it runs: declared, guarded, and read as one consistent snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from difflib import get_close_matches
import logging
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from multishift_perception.errors import MultishiftError
from multishift_perception.ground_plane import Mounting
from multishift_perception.node.given_parameters import GivenParameters
from multishift_perception.node.parameter_specs import (
    CAMERA_NAMES,
    CAMERA_SPECS,
    NODE_SPECS,
    QOS_SPECS,
    Change,
    Spec,
    all_specs,
    widened,
)
from multishift_perception.node.rclpy_private import judge_parameters, parameter_overrides
from multishift_perception.pipeline import OutputSize

logger = logging.getLogger(__name__)

_TYPES = {kind.value for kind in Parameter.Type}
# Declared by rclpy itself, never by us.
_FOREIGN = ('qos_overrides.', 'use_sim_time', 'start_type_description_service')


@dataclass(frozen=True)
class CameraSettings:
    """The values of one camera's parameters."""

    name: str
    image_topic: str
    transport: str
    mount_height: float = 0.0
    mount_pitch: float = 0.0
    ground_frame: str = ''

    @property
    def asks_tf(self) -> bool:
        """Whether tf tells how the camera is mounted."""
        return bool(self.ground_frame) and self.mounting is None

    @property
    def mounting(self) -> Mounting | None:
        """How the camera is mounted; None where that is not given, or for tf to tell."""
        return Mounting(self.mount_height, self.mount_pitch) if self.mount_height else None


@dataclass(frozen=True)
class Settings:
    """A consistent set of parameter values; see ``NODE_SPECS`` for units and ranges."""

    engine_bundle: Path | None
    backend: str
    device: int
    engine_restart: str
    engine_threads: int
    opencv_threads: int
    output_size: OutputSize
    anomaly_threshold: float
    min_anomaly_area: int
    anomaly_min_hits: int
    overlay_alpha: float
    max_frame_age_ms: int
    max_image_pixels: int
    max_batch_wait_ms: int
    publish_always: bool
    bond_heartbeat_period: float
    autostart: bool
    cameras: tuple[CameraSettings, ...]


class NodeParameters:
    """Declares the parameters on a node and keeps a snapshot of their values."""

    def __init__(
        self, node: Node, is_unconfigured: Callable[[], bool], given: GivenParameters
    ) -> None:
        """Declare everything, overrides from the command line and files included.

        Args:
            node: the node.
            is_unconfigured: tells whether parameters bound to that state may change now.
            given: where overrides come from.

        Raises:
            MultishiftError: an override has an unknown name or a bad value, or is given in two
                types.
        """
        self._node = node
        self._is_unconfigured = is_unconfigured
        given.refuse_mixed(node.get_fully_qualified_name())
        _name_unused(given, node.get_fully_qualified_name())
        overrides = {name: p.value for name, p in parameter_overrides(node).items()}
        names = _accepted(CAMERA_NAMES, CAMERA_NAMES.name, overrides)
        self._specs = all_specs(names)
        self._ignore_or_refuse_unknown(overrides, given.of_all_nodes)
        _refuse_bad_qos(overrides)
        for name, spec in self._specs.items():
            value = _accepted(spec, name, overrides)
            node.declare_parameters('', [(name, value, spec.descriptor())], ignore_override=True)
        self.settings = self._read()
        self._listeners: list[Callable[[], None]] = []
        judge_parameters(node, self._refusal)
        node.add_pre_set_parameters_callback(self._widen)
        node.add_on_set_parameters_callback(self._judge)
        node.add_post_set_parameters_callback(self._apply)

    def unused_qos_overrides(self) -> list[str]:
        """Return the QoS overrides that no topic has taken; ask once all topics were created."""
        overrides = (n for n in parameter_overrides(self._node) if n.startswith('qos_overrides.'))
        return [name for name in overrides if not self._node.has_parameter(name)]

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every change."""
        self._listeners.append(listener)

    def _ignore_or_refuse_unknown(
        self, overrides: Mapping[str, Any], of_all_nodes: Set[str]
    ) -> None:
        for name in overrides:
            if name in self._specs or name.startswith(_FOREIGN):
                continue
            near = self._nearest(name)
            if name not in of_all_nodes:
                raise MultishiftError(f'there is no parameter {name}; the nearest name is {near}')
            logger.warning(
                'parameter %s, which a file gives to all nodes, is none of this one (the nearest '
                'name is %s): ignored',
                name,
                near,
            )

    def _nearest(self, name: str) -> str:
        return get_close_matches(name, self._specs, n=1, cutoff=0)[0]

    def _refusal(self, parameter: ParameterMessage) -> str:
        name, kind = parameter.name, parameter.value.type
        if not self._node.has_parameter(name):
            return f'there is no parameter {name}; the nearest name is {self._nearest(name)}'
        return '' if kind in _TYPES else f'{name} cannot be of type {kind}: ROS has none such'

    def _widen(self, parameters: list[Parameter]) -> list[Parameter]:
        """Accept whole numbers where a float is meant."""
        return [
            Parameter(p.name, value=widened(p.value, self._specs[p.name].default))
            if p.name in self._specs
            else p
            for p in parameters
        ]

    def _judge(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            spec = self._specs.get(parameter.name)
            if spec is None:
                continue
            if spec.change is Change.UNCONFIGURED and not self._is_unconfigured():
                reason = (
                    f'{parameter.name} may change {spec.change.value}: '
                    'deactivate and clean up the node first'
                )
                return SetParametersResult(successful=False, reason=reason)
            if refusal := spec.refusal(parameter.value):
                reason = f'{parameter.name} cannot be {parameter.value!r}: {refusal}'
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _apply(self, parameters: list[Parameter]) -> None:
        if any(parameter.name in self._specs for parameter in parameters):
            self.settings = self._read()
            for listener in self._listeners:
                listener()

    def _read(self) -> Settings:
        def value(name: str) -> Any:
            return self._node.get_parameter(name).value

        values = {spec.name: value(spec.name) for spec in NODE_SPECS}
        bundle = values.pop('engine_bundle')
        return Settings(
            engine_bundle=Path(bundle).expanduser() if bundle else None,
            cameras=tuple(
                CameraSettings(
                    name, **{s.name: value(f'cameras.{name}.{s.name}') for s in CAMERA_SPECS}
                )
                for name in value(CAMERA_NAMES.name)
            ),
            **values,
        )


def _name_unused(given: GivenParameters, node: str) -> None:
    for place in given.places_without(node):
        logger.warning(
            '%s gives nothing to %s: mend the name of the node in it, or write /**', place, node
        )
    for option, place in given.giving_way(node):
        logger.warning('%s gives way to %s: change it there', option, place)


def _accepted(spec: Spec, name: str, overrides: Mapping[str, Any]) -> Any:
    """Return a parameter's value at start: the override if there is one, else the default."""
    value = widened(overrides.get(name, spec.default), spec.default)
    if value is None and isinstance(spec.default, list):
        value = []  # of an empty list rcl does not know the type
    if refusal := spec.refusal(value):
        raise MultishiftError(f'parameter {name} cannot be {value!r}: {refusal}')
    return value


def _refuse_bad_qos(overrides: Mapping[str, Any]) -> None:
    """Refuse what rclpy would refuse in riddles, once a topic takes it."""
    specs = {spec.name: spec for spec in QOS_SPECS}
    for name, value in overrides.items():
        if name.startswith('qos_overrides.'):
            spec = specs.get(name.rpartition('.')[2])
            refusal = spec and spec.refusal(value.lower() if isinstance(value, str) else value)
            if refusal:
                raise MultishiftError(f'parameter {name} cannot be {value!r}: {refusal}')
