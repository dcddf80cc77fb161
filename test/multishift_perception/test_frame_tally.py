# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from multishift_perception.frame_tally import Drop, FrameTally
from multishift_perception.images.frame_errors import BrokenFrame, FrameError, OversizedFrame


@pytest.mark.parametrize('lost', [3, None])
def test_what_the_node_writes_others_read(lost: int | None) -> None:
    values = FrameTally(9, 6, {Drop.STALE: 2, Drop.ENGINE: 1}, lost).values()
    assert values['dropped: stale'] == 2
    assert values['dropped: superseded'] == 0
    status = {'transport': 'raw', **{key: str(value) for key, value in values.items()}}
    read = FrameTally.read(status)
    assert (read.received, read.processed, read.lost) == (9, 6, lost)
    assert read.dropped == dict.fromkeys(Drop, 0) | {Drop.STALE: 2, Drop.ENGINE: 1}


def test_unusable_frames_are_counted_under_causes_that_the_diagnostics_list() -> None:
    kinds = FrameError.__subclasses__()
    assert {BrokenFrame, OversizedFrame} <= set(kinds)
    assert {kind.cause for kind in kinds} <= set(Drop)
