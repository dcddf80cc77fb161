# SPDX-License-Identifier: Apache-2.0
"""Every Python file says its licence in its first line."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
LINE = '# SPDX-License-Identifier: Apache-2.0'
FOLDERS = ('multishift_perception', 'training', 'launch', 'test', 'docs')


def test_every_file_begins_with_the_licence() -> None:
    files = [ROOT / 'setup.py', *(file for f in FOLDERS for file in (ROOT / f).rglob('*.py'))]
    assert len(files) > 100
    bare = [
        str(file.relative_to(ROOT))
        for file in files
        if file.read_text('utf-8').removeprefix('#!/usr/bin/env python3\n').split('\n')[0] != LINE
    ]
    assert bare == []
