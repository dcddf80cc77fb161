# SPDX-License-Identifier: Apache-2.0
"""What becomes of a session whose worker is stuck."""

from __future__ import annotations

from threading import Event
import time
from types import SimpleNamespace

from multishift_perception.node.activity import Activity
from multishift_perception.node.frame_slots import FrameSlots
from multishift_perception.node.session import Session
from multishift_perception.node.worker import Worker

LIMIT_S = 10.0


def test_a_worker_that_a_closed_session_left_behind_takes_no_further_frame():
    slots, begun, may_end = FrameSlots(time.monotonic), Event(), Event()
    turns = []

    def hang(cameras):
        turns.append(cameras)
        begun.set()
        assert may_end.wait(LIMIT_S)

    worker = Worker(slots, hang, call_size=lambda waiting: waiting, max_wait=lambda: 0.0)
    session = Session.__new__(Session)
    vars(session).update(
        _node=SimpleNamespace(destroy_guard_condition=lambda condition: None),
        _on_change=None,
        _lookout=None,
        _cameras={},
        _slots=slots,
        _worker=worker,
        _processor=SimpleNamespace(activity=Activity(time.monotonic)),
        _engine_statistics=SimpleNamespace(stuck_after_s=0.0),
    )
    slots.put('front')
    assert begun.wait(LIMIT_S)
    assert not session.close()
    slots.put('front')
    may_end.set()
    worker._thread.join(LIMIT_S)  # nobody else ends it
    assert not worker.is_alive
    assert turns == [['front']]
