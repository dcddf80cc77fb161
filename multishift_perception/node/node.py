# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node: its states, and its diagnostics."""

from __future__ import annotations

import logging

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from multishift_perception.errors import MultishiftError, one_line
from multishift_perception.node import rclpy_private
from multishift_perception.node.diagnostics import EngineState, camera_status, engine_status
from multishift_perception.node.parameters import NodeParameters, Settings
from multishift_perception.node.session import Session
from multishift_perception.outputs import DIAGNOSTICS, NODE_NAME

logger = logging.getLogger(__name__)

_DIAGNOSTICS_PERIOD_S = 1.0
_CLOCK_PATIENCE_S = 5.0


class PerceptionNode(LifecycleNode):
    """Labels and anomalies of several cameras by one engine."""

    def __init__(self) -> None:
        """Create the unconfigured node.

        Raises:
            MultishiftError: a parameter given at start has an unknown name or a bad value, or
                this rclpy is none that the node knows.
        """
        super().__init__(NODE_NAME)
        rclpy_private.check(self)
        self._session: Session | None = None
        self._fault = ''
        self._node_parameters = NodeParameters(self, lambda: self._session is None)
        self._node_parameters.on_change(self._on_parameters)
        rclpy_private.guard_transitions(self, self._on_refusal)
        self._diagnostics = self.create_publisher(DiagnosticArray, DIAGNOSTICS, 10)
        self.create_timer(_DIAGNOSTICS_PERIOD_S, self._publish_diagnostics)
        # Simulated time that never begins stops the timer above: this one runs on steady time.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._clock_check = self.create_timer(_CLOCK_PATIENCE_S, self._check_clock, clock=steady)

    @property
    def settings(self) -> Settings:
        """The parameters' current values."""
        return self._node_parameters.settings

    def start(self) -> None:
        """Walk to active; after a failure stay where the node is, to be tried again."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load, verify and warm up the engine; create the topics."""
        self._fault = ''
        try:
            self._session = Session(self, lambda: self.settings)
            engine = self._session.engine
            logger.info('configured: %s on %s', engine.name, engine.backend)
            for name in self._node_parameters.unused_qos_overrides():
                logger.warning('parameter %s fits no topic and policy of this node', name)
            return super().on_configure(state)
        except MultishiftError as error:
            self._fault = str(error)
            logger.error('cannot configure: %s', error)
        except Exception as error:  # rclpy would swallow it
            self._fault = f'{type(error).__name__}: {error}'
            logger.exception('cannot configure')
        return TransitionCallbackReturn.FAILURE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start publishing."""
        result = super().on_activate(state)
        if self._session is not None:
            self._session.activate()
            self._session.publish_label_info()
        logger.info('active')
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop publishing."""
        if self._session is not None:
            self._session.deactivate()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the engine."""
        self.release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the engine, for good."""
        self.release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured after an exception in a transition."""
        self.release()
        return super().on_error(state)

    def release(self) -> None:
        """End the session, if there is one."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _on_parameters(self) -> None:
        if self._session is not None:
            self._session.update()
            self._session.publish_label_info()

    def _on_refusal(self, error: Exception) -> None:
        logger.warning('transition refused: %s', one_line(error))

    def _publish_diagnostics(self) -> None:
        session = self._session
        if session is not None:
            session.update()
        name = self.get_name()
        state = EngineState(
            lifecycle=rclpy_private.lifecycle_state(self),
            engine=session.engine if session else None,
            report=session.engine_report() if session else None,
            fault=self._fault,
            worker_alive=session.worker_alive if session else None,
        )
        message = DiagnosticArray(status=[engine_status(name, state)])
        message.header.stamp = self.get_clock().now().to_msg()
        if session is not None:
            message.status += [camera_status(name, camera) for camera in session.camera_states()]
        self._diagnostics.publish(message)

    def _check_clock(self) -> None:
        self._clock_check.cancel()
        if self.get_clock().now().nanoseconds == 0:
            logger.warning(
                'use_sim_time is set and no /clock comes: play the bag with --clock, '
                'or unset use_sim_time'
            )
