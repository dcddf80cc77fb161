# SPDX-License-Identifier: Apache-2.0
"""Progress of long work: a bar on a terminal, a line now and then in a log, nothing if quiet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import logging
from operator import length_hint
import sys
from threading import RLock
import time
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar('T')

_COLUMNS = 100
_LOG_SECONDS = 30.0
_LOG_LINE = (
    '{desc}: {percentage:.0f}%, {n_fmt} of {total_fmt} '
    '[{elapsed}<{remaining}, {rate_fmt}{postfix}]'
)

# Made now: on first use, Ctrl-C would end in a fault. Of this process alone: tqdm's own lock is
# one with that of forked processes, of which one that is killed while it has it stops all others.
tqdm.set_lock(RLock())

_quiet = False


class Bar(tqdm):  # type: ignore[type-arg]  # what it iterates over, `track` knows
    """Says how far work has come; make it with ``bar``."""

    # Of one whose making Ctrl-C cuts short: there is nothing to close.
    disable = True
    _in_log = False

    def __init__(self, *, quiet: bool, **options: Any) -> None:
        """Begin on the standard error stream."""
        self._in_log = not sys.stderr.isatty()
        self._told = time.monotonic()
        if self._in_log:
            options |= {'bar_format': _LOG_LINE}
        super().__init__(file=sys.stderr, dynamic_ncols=True, disable=quiet, **options)

    @property
    def format_dict(self) -> Any:
        """What a line is made of, its width among it."""
        found = super().format_dict
        found['ncols'] = None if self._in_log else min(found['ncols'] or _COLUMNS, _COLUMNS)
        return found

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Show it; in a log only if it has not been for a while."""
        if not self._in_log:
            super().display(msg, pos)
        # Without a start it is being made, and there is nothing to tell yet.
        elif msg is None and hasattr(self, 'start_t'):
            if time.monotonic() - self._told >= _LOG_SECONDS:
                self._tell()

    def clear(self, nolock: bool = False) -> None:
        """Take it off the line; in a log it is on none, and tqdm would write returns."""
        if not self._in_log:
            super().clear(nolock)

    def close(self) -> None:
        """End it; what is left to see of it is its last state."""
        if not self._in_log:
            super().close()
        elif not self.disable:
            self.disable = True
            self._decr_instances(self)  # type: ignore[attr-defined]
            if self.leave and hasattr(self, 'start_t'):
                self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        print(self, file=self.fp, flush=True)


def bar(
    desc: str,
    total: int | None,
    *,
    unit: str,
    initial: int = 0,
    leave: bool = True,
    disable: bool = False,
) -> Bar:
    """Return a bar that is moved on by ``update``; it is a context manager.

    Args:
        desc: what is being done, in a word or two.
        total: units of work, those before ``initial`` included; None if nobody knows.
        unit: what is counted.
        initial: units that were done before.
        leave: whether its end stays to be seen.
        disable: whether it shows nothing, as in all processes but the first.
    """
    return Bar(
        quiet=_quiet or disable, desc=desc, total=total, unit=unit, initial=initial, leave=leave
    )


def track(items: Iterable[T], desc: str, total: int | None = None, **options: Any) -> Iterator[T]:
    """Yield items, and show how many have been done.

    Args:
        items: to yield.
        desc: what is being done, in a word or two.
        total: how many there are, where they do not know themselves.
        **options: see ``bar``.
    """
    with bar(desc, total or length_hint(items) or None, **options) as shown:
        for item in items:
            yield item
            shown.update()


def set_quiet(quiet: bool) -> None:
    """Choose whether bars that are made from now on show nothing."""
    global _quiet
    _quiet = quiet


def close_bars() -> None:
    """End all bars, so that what is said next has a line of its own."""
    for shown in list(getattr(tqdm, '_instances', ())):
        shown.close()


class Handler(logging.StreamHandler[Any]):
    """Writes records to the standard error stream, above the bars that are shown there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one."""
        self.setStream(sys.stderr)
        with tqdm.external_write_mode(file=sys.stderr):
            super().emit(record)
