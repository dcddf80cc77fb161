# SPDX-License-Identifier: Apache-2.0
"""Waits until a lifecycle node is active.

    python -m multishift_perception.node.await_active NODE

Asks the node instead of listening for its transitions, which a late subscriber misses.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import sys
import time
from typing import Any

from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
import rclpy
from rclpy.executors import ExternalShutdownException

from multishift_perception.errors import MultishiftError

# A node may load a large engine before it is active.
PATIENCE_S = 90.0
_ASK_EVERY_S = 0.1
# After this long it is asked again: a node that just starts may answer before it has discovered
# whom, and such an answer is lost.
_FIRST_WAIT_S = 1.0
_UNDER_WAY = (State.TRANSITION_STATE_CONFIGURING, State.TRANSITION_STATE_ACTIVATING)


def wait_until_active(node: Any, name: str, patience_s: float = PATIENCE_S) -> None:
    """Return when the lifecycle node ``name`` is active.

    One that starts itself is being configured when it first answers, so that any other state than
    active counts.

    Args:
        node: a node of this process to ask with.
        name: full name of the node to wait for.
        patience_s: how long it may take to answer, in seconds.

    Raises:
        MultishiftError: it does not answer in time, or is in another state.
    """
    client = node.create_client(GetState, f'{name}/get_state')
    end = time.monotonic() + patience_s
    answer, wait_s = None, _FIRST_WAIT_S
    is_there = client.wait_for_service(patience_s)
    while is_there and (answer is None or answer.current_state.id in _UNDER_WAY):
        if (left_s := end - time.monotonic()) <= 0:
            break
        if answer is not None:
            time.sleep(_ASK_EVERY_S)
        told = _ask(node, client, min(wait_s, left_s))
        if told is None:
            wait_s *= 2  # until it suffices for the slowest node
        answer = told or answer
    node.destroy_client(client)
    if answer is None:
        raise MultishiftError(f'{name}: does not answer within {patience_s:.0f} s; is it running?')
    if answer.current_state.id != State.PRIMARY_STATE_ACTIVE:
        raise MultishiftError(
            f'{name}: is {answer.current_state.label}, not active; its log says why'
        )


def _ask(node: Any, client: Any, patience_s: float) -> Any:
    future = client.call_async(GetState.Request())
    rclpy.spin_until_future_complete(node, future, timeout_sec=patience_s)
    return future.result()


def main(arguments: Sequence[str] | None = None) -> int:
    """Wait; return 0 once the node is active."""
    parser = argparse.ArgumentParser(prog='await_active', description='Wait for a lifecycle node.')
    parser.add_argument('name', help='full name of the node')
    name = parser.parse_args(arguments).name
    rclpy.init(args=[])
    node = rclpy.create_node('await_active')
    try:
        wait_until_active(node, name)
    except MultishiftError as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
