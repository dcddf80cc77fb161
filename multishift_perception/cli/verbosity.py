# SPDX-License-Identifier: Apache-2.0
"""How much commands say: `--quiet` and `--verbose`, before a subcommand or after it."""

from __future__ import annotations

import logging
import traceback

import click

from multishift_perception.errors import without_control
from multishift_perception.progress import Handler, close_bars, set_quiet

_PACKAGES = ('multishift_perception', 'multishift_training')
_LEVELS = {'quiet': logging.ERROR, 'verbose': logging.DEBUG}
_CHOSEN = f'{__name__}.chosen'


class Plain(logging.Formatter):
    """Writes a record as its message, in which no file's name steers the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of one."""
        return without_control(super().format(record))


def set_up_logging() -> None:
    """Show what our packages log; of what others do, warnings alone."""
    handler = Handler()
    handler.setFormatter(Plain())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in _PACKAGES:
        logging.getLogger(name).setLevel(logging.INFO)


def verbosity_options() -> list[click.Parameter]:
    """Return the options for one more command."""
    helps = {
        'quiet': 'Say nothing but results and errors.',
        'verbose': 'Say what is tried, and with an error where it came from.',
    }
    return [
        click.Option(
            (f'-{name[0]}', f'--{name}'),
            is_flag=True,
            expose_value=False,
            callback=_choose,
            help=text,
        )
        for name, text in helps.items()
    ]


def _choose(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value:
        return
    name = str(param.name)
    # A group's contexts share it with those of its commands.
    if _CHOSEN not in ctx.meta:
        ctx.meta[_CHOSEN] = name
        _apply(ctx.find_root(), name)
    elif ctx.meta[_CHOSEN] != name:
        raise click.UsageError('--quiet and --verbose do not go together: give one', ctx)


def _apply(root: click.Context, name: str) -> None:
    loggers = [logging.getLogger(package) for package in _PACKAGES]
    before = [(logger, logger.level) for logger in loggers]

    def undo() -> None:
        for logger, level in before:
            logger.setLevel(level)
        set_quiet(False)

    root.call_on_close(undo)
    for logger in loggers:
        logger.setLevel(_LEVELS[name])
    set_quiet(name == 'quiet')


def notice(text: str) -> None:
    """Say, unless quiet, what is neither a result nor an error."""
    ctx = click.get_current_context(silent=True)
    if ctx is None or ctx.meta.get(_CHOSEN) != 'quiet':
        click.echo(text, err=True)


def tell_origin(ctx: click.Context, error: Exception) -> None:
    """Show, if verbose, where a user's fault was found, and what it was found by."""
    if ctx.meta.get(_CHOSEN) == 'verbose':
        close_bars()
        traceback.print_exception(error)
