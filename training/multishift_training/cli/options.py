# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
import re
from typing import Any

import click

_SMALLEST = 16

data_option = click.option(
    '--data',
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path(),
    show_default='the current one',
    help='Folder that relative data paths start from.',
)
overrides_argument = click.argument('overrides', metavar='[KEY=VALUE]...', nargs=-1)
run_option = click.option(
    '--out',
    type=click.Path(path_type=Path),
    show_default='runs/CONFIG',
    help='Folder of the run. A run that was killed goes on from there.',
)


class SizeType(click.ParamType[tuple[int, int]]):
    """An image size: rows and columns in pixels, as ``1024x2048``."""

    name = 'HxW'

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return rows and columns."""
        found = re.fullmatch(r'(\d{1,5})x(\d{1,5})', str(value))
        if not found or min(map(int, found.groups())) < _SMALLEST:
            self.fail(
                f'{value!r} is no size: give rows x columns, each at least {_SMALLEST}, '
                'for example 1024x2048',
                param,
                ctx,
            )
        return int(found[1]), int(found[2])
