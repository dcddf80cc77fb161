# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from multishift_perception.demo.environment import graph_environment, shared_profile


def test_the_shipped_profile_is_found() -> None:
    assert '<segment_size>' in shared_profile().read_text()


def test_the_graph_is_alone_and_has_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('FASTRTPS_DEFAULT_PROFILES_FILE', raising=False)
    environment = graph_environment()
    assert environment['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert 0 < int(environment['ROS_DOMAIN_ID']) < 102
    assert Path(environment['FASTRTPS_DEFAULT_PROFILES_FILE']) == shared_profile()


def test_a_profile_of_the_user_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('FASTRTPS_DEFAULT_PROFILES_FILE', '/mine.xml')
    assert graph_environment()['FASTDDS_DEFAULT_PROFILES_FILE'] == '/mine.xml'
