# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node: its states, and its diagnostics."""

from __future__ import annotations

import logging
import time

from diagnostic_msgs.msg import DiagnosticArray
import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.task import Future

from multishift_perception.errors import MultishiftError, one_line
from multishift_perception.node import rcl, rclpy_private
from multishift_perception.node.bond import Bond, form_bond
from multishift_perception.node.diagnostics import Diagnostics, EngineState
from multishift_perception.node.given_parameters import GivenParameters
from multishift_perception.node.loaded_engine import load_engine, work_aside
from multishift_perception.node.log_bridge import log_to
from multishift_perception.node.parameters import NodeParameters, Settings
from multishift_perception.node.session import Session
from multishift_perception.outputs import DIAGNOSTICS, NODE_NAME

logger = logging.getLogger(__name__)

_DIAGNOSTICS_PERIOD_S = 1.0
# A stuck worker is said at once, not with the next regular diagnostics.
_WATCH_PERIOD_S = 0.25
_CLOCK_PATIENCE_S = 5.0


class PerceptionNode(LifecycleNodeMixin, Node):
    """Labels and anomalies of several cameras by one engine."""

    def __init__(self, given: GivenParameters | None = None) -> None:
        """Create the unconfigured node.

        Args:
            given: where the parameters come from that the command line gives; those that a file
                gives to all nodes and are none of this one are ignored with a warning.

        Raises:
            MultishiftError: a parameter given at start has an unknown name or a bad value, or
                this rclpy is none that the node knows.
        """
        try:
            Node.__init__(self, NODE_NAME)
        except InvalidParameterTypeException as error:  # of use_sim_time, which rclpy declares
            raise MultishiftError(one_line(error)) from error
        log_to(self.get_logger())
        # Of their own, so that they answer while one of them waits for the engine to be loaded.
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        rclpy_private.check(self)
        rcl.check()
        self._session: Session | None = None
        self._loading: Future | None = None
        self._bond: Bond | None = None
        self._is_led = True
        self._fault = ''
        self._node_parameters = NodeParameters(
            self, self._is_unconfigured, given or GivenParameters()
        )
        self._node_parameters.on_change(self._on_parameters)
        rclpy_private.serve_transitions(self, self._configure, self._on_refusal)
        self._twins_named = self._was_stuck = False
        self._diagnostics = Diagnostics(self.get_fully_qualified_name()[1:], time.monotonic)
        self._publisher = self.create_publisher(DiagnosticArray, DIAGNOSTICS, 10)
        # Simulated time may never begin, or stand still: diagnostics go on.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=steady)
        self.create_timer(_WATCH_PERIOD_S, self._watch, clock=steady)
        self._clock_check = self.create_timer(_CLOCK_PATIENCE_S, self._check_clock, clock=steady)

    @property
    def settings(self) -> Settings:
        """The parameters' current values."""
        return self._node_parameters.settings

    async def start(self) -> None:
        """Walk to active; after a failure stay where the node is, to be tried again.

        A node that does so has no lifecycle manager, and forms no bond with one.
        """
        self._is_led = False
        if await self._configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    async def _configure(self) -> TransitionCallbackReturn:
        """Load, verify and warm up the engine in a thread; then create the topics.

        Raises:
            RCLError: the node's state forbids it.
        """
        rclpy_private.begin_configuring(self)
        self._fault, settings = '', self.settings
        self._loading = work_aside(lambda: load_engine(settings), self.executor.wake)
        result = TransitionCallbackReturn.FAILURE
        try:
            self._session = Session(self, lambda: self.settings, await self._loading)
            engine = self._session.engine
            logger.info('configured: %s on %s', engine.name, engine.backend)
            for name in self._node_parameters.unused_qos_overrides():
                logger.warning('parameter %s fits no topic and policy of this node', name)
            result = TransitionCallbackReturn.SUCCESS
        except MultishiftError as error:
            self._fault = str(error)
            logger.error('cannot configure: %s', error)
        except Exception as error:
            if not rclpy.ok():  # the process is about to end, and nothing can be created
                raise
            self._fault = f'{type(error).__name__}: {error}'
            logger.exception('cannot configure')
        finally:
            self._loading = None
        rclpy_private.end_configuring(self, result)
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start publishing."""
        result = super().on_activate(state)
        if self._session is not None:
            self._session.activate()
            self._session.publish_label_info()
        if self._is_led:
            self._bond = form_bond(self, self.settings.bond_heartbeat_period)
        logger.info('active')
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop publishing; a node whose worker is stuck stays active."""
        if self._session is not None and not self._session.deactivate():
            logger.error(
                'cannot deactivate: %s; the node stays active, start it anew if it does not '
                'return',
                self._session.stuck or 'the worker does not end',
            )
            return TransitionCallbackReturn.FAILURE
        self._break_bond()
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

    def release(self) -> bool:
        """End the session, if there is one; returns whether nothing of it runs any more."""
        if self._loading is not None:
            return False
        self._break_bond()
        session, self._session = self._session, None
        return session is None or session.close()

    def destroy_node(self) -> None:
        """Free what the node has of the middleware: a process that is left at once cannot."""
        super().destroy_node()
        rclpy_private.destroy_states(self)

    def _break_bond(self) -> None:
        bond, self._bond = self._bond, None
        if bond is not None:
            bond.close()

    def _is_unconfigured(self) -> bool:
        return self._session is None and self._loading is None

    def _on_parameters(self) -> None:
        if self._session is not None:
            self._session.update()
            self._session.publish_label_info()

    def _on_refusal(self, error: Exception) -> None:
        logger.warning('transition refused: %s', one_line(error))

    def _watch(self) -> None:
        stuck = self._session.stuck if self._session else None
        if stuck and not self._was_stuck:
            logger.error('%s', stuck)
        if bool(stuck) != self._was_stuck:
            self._was_stuck = bool(stuck)
            self._publish_diagnostics()

    def _publish_diagnostics(self) -> None:
        session = self._session
        now = self.get_clock().now()
        state = EngineState(
            rclpy_private.lifecycle_state(self),
            fault=self._fault,
            reloads=self.settings.engine_restart == 'reload',
            twins=self._twins(),
            has_clock=now.nanoseconds > 0,
        )
        cameras = session.camera_states() if session else []
        if session is not None:
            state = session.engine_state(state, cameras)
        message = DiagnosticArray(status=self._diagnostics.statuses(state, cameras))
        message.header.stamp = (now if state.has_clock else Clock().now()).to_msg()
        self._publisher.publish(message)

    def _twins(self) -> int:
        """Return how many other nodes have this one's name."""
        own = self.get_name(), self.get_namespace()
        twins: int = self.get_node_names_and_namespaces().count(own) - 1
        if twins > 0 and not self._twins_named:
            self._twins_named = True
            logger.error(
                '%d more node(s) are named %s: end them, or start this one with another '
                '__node or __ns',
                twins,
                self.get_fully_qualified_name(),
            )
        return max(twins, 0)

    def _check_clock(self) -> None:
        self._clock_check.cancel()
        if self.get_clock().now().nanoseconds == 0:
            logger.warning(
                'use_sim_time is set and no /clock comes: play the bag with --clock, '
                'or unset use_sim_time'
            )
