# SPDX-License-Identifier: Apache-2.0
"""What the node takes from rclpy past its public face, which offers nothing for it.

Read in rclpy 7.1 (Jazzy) and 9.1 (Kilted): both have all of it, and mean the same by it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
import rclpy
from rclpy.event_handler import QoSPublisherEventType
from rclpy.exceptions import InvalidHandle, NotInitializedException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import qos_policy_name_from_kind

from multishift_perception.errors import MultishiftError, one_line

_OF_A_NODE = (
    '_parameter_overrides',
    '_service_change_state.callback',
    '_state_machine.current_state',
    '_state_machine.destroy_when_not_in_use',
    '_state_machine.trigger_transition_by_id',
    '_state_machine.trigger_transition_by_label',
)

_CONFIGURING = 'configuring'


class Executor(SingleThreadedExecutor):
    """Frees in silence what could not be made, as where the context was shut down meanwhile.

    rclpy's then misses what its constructor sets last, and a traceback is printed.
    """

    _sigint_gc: Any = None


def check(node: LifecycleNode) -> None:
    """See that this rclpy has what the functions below take from it.

    Args:
        node: a node, its constructor done.

    Raises:
        MultishiftError: it lacks something; the error names it.
    """
    try:
        for name in _OF_A_NODE:
            attrgetter(name)(node)
        attrgetter('RCLError', 'EventHandle')(_implementation())
    except (AttributeError, ImportError) as error:
        raise MultishiftError(
            f'the rclpy in {Path(rclpy.__file__).parent} is not built as that of ROS 2 Jazzy and '
            f'Kilted ({one_line(error)}): run the node with one of these'
        ) from error


def parameter_overrides(node: Node) -> Mapping[str, Parameter]:
    """Return the parameters that were given at start, by name, declared or not."""
    overrides: Mapping[str, Parameter] = node._parameter_overrides
    return overrides


def lifecycle_state(node: LifecycleNode) -> str:
    """Return the label of the node's lifecycle state."""
    return str(node._state_machine.current_state[1])


def destroy_states(node: LifecycleNode) -> None:
    """Free the node's state machine, which outlives the node and keeps its shared memory."""
    node._state_machine.destroy_when_not_in_use()


def begin_configuring(node: LifecycleNode) -> None:
    """Enter the state configuring, in which the node goes on answering.

    Raises:
        RCLError: the node's state forbids it.
    """
    node._state_machine.trigger_transition_by_id(Transition.TRANSITION_CONFIGURE, True)


def end_configuring(node: LifecycleNode, result: TransitionCallbackReturn) -> None:
    """Leave the state configuring: to inactive after a success, else to unconfigured."""
    node._state_machine.trigger_transition_by_label(result.to_label(), True)


def serve_transitions(
    node: LifecycleNode,
    configure: Callable[[], Awaitable[TransitionCallbackReturn]],
    on_refusal: Callable[[Exception], None],
) -> None:
    """Have the service that changes states configure without blocking what else the node does.

    Transitions that the state forbids are refused: Jazzy's rclpy lets them end the process.

    Args:
        node: the node, whose lifecycle services are in a callback group that is reentrant.
        configure: awaited for the transition configure, in place of what rclpy does.
        on_refusal: called with what rclpy says of a transition that is refused.
    """
    service, refused = node._service_change_state, _implementation().RCLError
    change_state = service.callback

    async def serve(request: Any, response: Any) -> Any:
        try:
            if lifecycle_state(node) == _CONFIGURING:
                raise refused('the node is being configured')
            if _is_configure(request.transition):
                response.success = await configure() == TransitionCallbackReturn.SUCCESS
                return response
            return change_state(request, response)
        except refused as error:
            on_refusal(error)
            response.success = False
            return response

    service.callback = serve


def judge_parameters(node: Node, refusal: Callable[[ParameterMessage], str]) -> None:
    """Ask about what is to be set before rclpy does.

    It lets a value of a type that ROS does not have end the process, and of a name that is not
    declared it does not say which.

    Args:
        node: the node, with its parameter services.
        refusal: returns why a parameter is refused, nothing if rclpy may see it.
    """
    for service in node.services:
        if service.srv_type is SetParameters:
            service.callback = partial(_set_each, service.callback, refusal)
        elif service.srv_type is SetParametersAtomically:
            service.callback = partial(_set_all, service.callback, refusal)


def _set_each(set_parameters: Any, refusal: Any, request: Any, response: Any) -> Any:
    for parameter in request.parameters:
        if reason := refusal(parameter):
            response.results.append(SetParametersResult(successful=False, reason=reason))
        else:
            set_parameters(SetParameters.Request(parameters=[parameter]), response)
    return response


def _set_all(set_parameters: Any, refusal: Any, request: Any, response: Any) -> Any:
    for reason in filter(None, map(refusal, request.parameters)):
        response.result = SetParametersResult(successful=False, reason=reason)
        return response
    return set_parameters(request, response)


def _is_configure(transition: Any) -> bool:
    if transition.label:
        return bool(transition.label == 'configure')
    return bool(transition.id == Transition.TRANSITION_CONFIGURE)


class MismatchedReaders:
    """Subscribers that a publisher's QoS shuts out, to be asked for rather than waited for."""

    def __init__(self, publisher: Publisher) -> None:
        """Listen to a publisher."""
        self.topic: str = publisher.topic_name
        kind = QoSPublisherEventType.RCL_PUBLISHER_OFFERED_INCOMPATIBLE_QOS
        with publisher.handle:
            self._event = _implementation().EventHandle(publisher.handle, kind)

    def take(self) -> str:
        """Return the policy of the last that came since the last call; empty if none did."""
        with self._event:
            status = self._event.take_event()
        if status is None or status.total_count_change == 0:
            return ''
        return str(qos_policy_name_from_kind(status.last_policy_kind)).lower()

    def close(self) -> None:
        """Listen no longer."""
        self._event.destroy_when_not_in_use()


def comes_of_shutdown(error: BaseException) -> bool:
    """Whether an exception is what rclpy raises of anything once its context is shut down."""
    own = _implementation().RCLError, InvalidHandle, NotInitializedException
    return not rclpy.ok() and isinstance(error, (*own, ExternalShutdownException))


def rcl_error(text: str) -> Exception:
    """Return the exception that rclpy raises where a function of rcl fails."""
    error: Exception = _implementation().RCLError(text)
    return error


def _implementation() -> Any:
    from rclpy.impl.implementation_singleton import rclpy_implementation

    return rclpy_implementation
