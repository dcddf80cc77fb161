# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
import math
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from multishift_perception.engine import BACKENDS

Command = TypeVar('Command', bound=Callable[..., Any])

DEFAULT_THRESHOLD = 0.5
_PATH = click.Path(path_type=Path)
_OTHER = {'cameras': ('topics', '--topic'), 'topics': ('cameras', '--cameras')}


class NameOf(click.Choice[str]):
    """A name that a registry has by the time that it is given, or help is shown."""

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        """Take what returns the names."""
        self._names = names
        self.case_sensitive = True

    @property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names that there are now."""
        return tuple(self._names())


class Number(click.FloatRange):
    """A number within bounds: no infinity, and not ``nan``, which every comparison lets pass."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f'{value!r} is no number', param, ctx)
        return found


def refuse_given(ctx: click.Context, names: Iterable[str], why: str) -> None:
    """Refuse options, by the names of their parameters, that would have no effect.

    Raises:
        UsageError: one is given; its text is the option with ``why``.
    """
    for param in ctx.command.params:
        given = ctx.get_parameter_source(str(param.name)) is not ParameterSource.DEFAULT
        if param.name in names and given:
            raise click.UsageError(f'{param.opts[0]} {why}', ctx)


class Renamed(click.Option):
    """An option that still goes by its older names, which help and errors do not show."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return name and help."""
        return click.Option.get_help_record(self._newest(), ctx)

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return the name for an error."""
        return click.Option.get_error_hint(self._newest(), ctx)

    def _newest(self) -> click.Option:
        shown = copy(self)
        shown.opts = self.opts[:1]
        return shown


def without_older_names(error: click.NoSuchOption) -> list[str]:
    """Return what to suggest for a mistyped option: no older name of one."""
    params = error.ctx.command.params if error.ctx else ()
    older = {name for param in params if isinstance(param, Renamed) for name in param.opts[1:]}
    return [name for name in error.possibilities or () if name not in older]


def report_option(files: str, **settings: Any) -> Callable[[Command], Command]:
    """Return the option for the folder of a report.

    Args:
        files: what goes into it, in words.
        **settings: of click.
    """
    return click.option(
        '--out',
        '--report',
        'out',
        cls=Renamed,
        type=_PATH,
        help=f'Folder for {files}.',
        **settings,
    )


def json_option(facts: str) -> Callable[[Command], Command]:
    """Return the option for machines; ``facts`` says what it prints."""
    return click.option('--json', 'as_json', is_flag=True, help=f'Print {facts} as JSON.')


def _split(ctx: click.Context, param: click.Parameter, value: Any) -> tuple[str, ...]:
    """Return names, of cameras with commas between them or of topics; never both."""
    name, option = _OTHER[str(param.name)]
    if value and ctx.params.get(name):
        raise click.UsageError(f'{param.opts[0]} and {option} do not go together: give one', ctx)
    words = value.split(',') if isinstance(value, str) else value or ()
    return tuple(dict.fromkeys(word.strip() for word in words if word.strip()))


def sources_options(command: Command) -> Command:
    """Give a command ``cameras`` and ``topics``, for ``bags.choose_topics``."""
    cameras = click.option(
        '--cameras',
        metavar='NAME,NAME',
        callback=_split,
        show_default='all',
        help='Cameras of the bag to use, such as front,left.',
    )
    topics = click.option(
        '--topic',
        'topics',
        metavar='TOPIC',
        multiple=True,
        callback=_split,
        help='Image topic of the bag to use, in place of --cameras; may be given several times.',
    )
    return cameras(topics(command))


engine_option = click.option(
    '--engine', 'bundle', type=_PATH, show_default='the embedded one', help='Engine bundle.'
)
backend_option = click.option(
    '--backend',
    type=NameOf(lambda: ('auto', *BACKENDS)),
    default='auto',
    help='What runs the engine; auto takes the best of the bundle that fits this machine.',
)
backends_option = click.option(
    '--backend',
    'backends',
    type=NameOf(lambda: BACKENDS),
    multiple=True,
    show_default='all that run here',
    help='Backend to look at; may be given several times.',
)
device_option = click.option(
    '--device',
    type=click.IntRange(0, 63),
    default=0,
    help='Index of the GPU, where one is used.',
)
threshold_option = click.option(
    '--threshold',
    type=Number(0, 1),
    default=DEFAULT_THRESHOLD,
    help='Calibrated score from which a pixel is anomalous; 0.5 is the operating point.',
)
min_area_option = click.option(
    '--min-area',
    type=click.IntRange(min=0),
    default=0,
    help='Pixels that an anomalous region has at least.',
)
every_option = click.option(
    '--every', type=click.IntRange(min=1), default=1, help='Take every n-th frame of a camera.'
)
force_option = click.option(
    '--force', is_flag=True, help='Replace what the same command wrote there before.'
)
