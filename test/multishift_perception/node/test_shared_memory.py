# SPDX-License-Identifier: Apache-2.0
"""What is said of shared memory that nobody holds any more."""

from __future__ import annotations

import fcntl
import os
import time

import pytest

from multishift_perception.node import shared_memory


@pytest.fixture
def segment(tmp_path, monkeypatch):
    """Return a function that makes a segment as Fast DDS does."""
    monkeypatch.setattr(shared_memory, '_FOLDER', tmp_path)

    def make(name, *, age_s=10.0, library='fastrtps'):
        path = tmp_path / f'{library}_{name:016x}'
        path.write_bytes(bytes(1_500_000))
        os.utime(path, (time.time() - age_s,) * 2)
        lock = path.with_name(f'{path.name}_el')
        lock.touch()
        return path, lock

    return make


def test_what_nobody_holds_is_named_newest_first(segment):
    older, newer = segment(1, age_s=60)[0], segment(2, library='fastdds')[0]
    held, lock = segment(3)
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = shared_memory.name_leftovers()
    assert said.startswith('3.0 MB of shared memory are left')
    assert f'{newer.name}, {older.name} in' in said
    assert held.name not in said
    assert '1 more' not in said
    assert held.name in shared_memory.name_leftovers()


def test_what_is_just_being_made_and_what_is_no_segment_is_left_alone(segment, tmp_path):
    segment(1, age_s=0.0)
    (tmp_path / 'fastrtps_port7411').touch()
    (tmp_path / 'fastrtps_port7411_el').touch()
    segment(2)[1].unlink()
    assert shared_memory.name_leftovers() == ''


def test_of_many_some_are_named(segment):
    for number in range(23):
        segment(number)
    assert ' and 3 more in ' in shared_memory.name_leftovers()
