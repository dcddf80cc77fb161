"""Options that several commands have."""

from __future__ import annotations

import click

force_option = click.option(
    '--force', is_flag=True, help='Replace what the same command wrote there before.'
)
