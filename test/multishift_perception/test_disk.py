# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
import errno
from pathlib import Path

import pytest

from multishift_perception import files
from multishift_perception.disk import FullDiskError, reporting_full_disk

SmallFiles = Callable[[int], AbstractContextManager[None]]


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_is_one_line(number: int) -> None:
    with pytest.raises(FullDiskError) as caught, reporting_full_disk('a.txt'):
        raise OSError(number, 'full')
    assert str(caught.value) == (
        'a.txt cannot be written: no room on the disk; free some and start again'
    )


def test_the_outermost_has_the_word_also_over_what_a_library_made_of_it() -> None:
    with pytest.raises(FullDiskError) as caught, reporting_full_disk('run', resumes=True):
        with reporting_full_disk('a.txt'):
            try:
                raise OSError(errno.ENOSPC, 'full')
            finally:
                raise RuntimeError('unexpected position')
    assert str(caught.value).startswith('run cannot be written')
    assert str(caught.value).endswith('it goes on where it was saved last')


@pytest.mark.parametrize('error', [RuntimeError('a defect'), PermissionError(errno.EACCES, 'no')])
def test_other_faults_keep_their_names(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, reporting_full_disk('a.txt'):
        raise error
    assert caught.value is error


def test_nothing_is_left_half_written(tmp_path: Path, small_files: SmallFiles) -> None:
    files.write_text(tmp_path / 'a.txt', 'old')
    with pytest.raises(FullDiskError, match='a.txt cannot be written'), small_files(1000):
        files.write_bytes(tmp_path / 'a.txt', bytes(1001))
    assert (tmp_path / 'a.txt').read_text() == 'old'
    assert len(list(tmp_path.iterdir())) == 1
