# SPDX-License-Identifier: Apache-2.0
"""A node that cannot start says why in one line."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ('parameters', 'said'),
    [
        (
            {'anomaly_treshold': 0.4},
            'there is no parameter anomaly_treshold; the nearest name is anomaly_threshold',
        ),
        ({'anomaly_threshold': 1.4}, 'anomaly_threshold cannot be 1.4: it must be 0 to 1'),
        (
            {'camera_names': '[front]', 'cameras.frnt.transport': 'raw'},
            'the nearest name is cameras.front.transport',
        ),
        ({'qos': '{'}, "Couldn't parse"),
    ],
)
def test_refused_at_start(start_node, parameters, said):
    node = start_node(**parameters)
    assert node.wait() == 1
    assert said in node.log
    assert 'Traceback' not in node.log
    assert len(node.log.splitlines()) == 1
