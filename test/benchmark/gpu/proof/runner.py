# SPDX-License-Identifier: Apache-2.0
"""Runs the parts in order, each within its time; whatever a part does, the others run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
import os
import signal
import threading
import time
import traceback
from typing import Any

import torch

from proof.results import Results, clocks
from proof.settings import AbsentError, Settings

# In order of value, with the seconds that each may take on a GPU; together less than 460.
PARTS = {
    'engine': 45,
    'pictures': 20,
    'faults': 45,
    'loss': 15,
    'loop': 50,
    'steps': 80,
    'latency': 100,
    'inductor': 45,
    'transfers': 15,
    'metrics': 15,
    'tensorrt': 25,
}
NAMES = tuple(PARTS)
_ON_CPU = 120  # where sizes are tiny, and the time is that of starting processes
# After this long over its time, a part hangs in a call that no signal ends: then all ends.
_GRACE = 15.0


class OverError(BaseException):
    """The time of a part is over; no part may catch it."""


def prove(options: Namespace, *, prepared: list[str]) -> int:
    """Run the parts that are asked for; return 0 where all of them are done."""
    on_gpu = torch.cuda.is_available() and not options.cpu
    device = torch.device('cuda', 0) if on_gpu else torch.device('cpu')
    results = Results(options.out, prepared)
    if not on_gpu:  # for networks too small to share among threads, here and in new processes
        torch.set_num_threads(1)
        os.environ['OMP_NUM_THREADS'] = '1'
    end = time.monotonic() + options.seconds
    for name in options.part or NAMES:
        allowed = PARTS[name] if on_gpu else _ON_CPU
        left = min(allowed, end - time.monotonic())
        settings = Settings(
            device, time.monotonic() + left, options.multishiftseg, options.detectron2
        )
        _run(name, settings, results)
    results.content['machine']['clocks at the end'] = str(clocks()) if on_gpu else 'no GPU'
    results.save()
    print(f'{options.out}/gpu.json, {options.out}/gpu.md')
    states = [part['state'] for part in results.content['parts'].values()]
    return 0 if all(state in ('done', 'absent') for state in states) else 1


def _run(name: str, settings: Settings, results: Results) -> None:
    """Run a part, and keep what became of it."""
    entry: dict[str, Any] = {'state': 'running', 'word': '', 'seconds': 0.0, 'figures': {}}
    results.content['parts'][name] = entry
    start = time.monotonic()
    try:
        if settings.left < 2:
            raise OverError
        with _limit(settings.left, results, entry):
            import_module(f'proof.parts.{name}').run(settings, partial(results.note, name))
        entry['state'] = 'done'
    except AbsentError as error:
        entry |= {'state': 'absent', 'word': str(error)}
    except OverError:
        entry |= {'state': 'cut', 'word': 'its time is over; what it found is kept'}
    except BaseException as error:  # whatever it is, the next part runs
        if isinstance(error, KeyboardInterrupt):
            raise
        word = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
        entry |= {'state': 'failed', 'word': word, 'traceback': traceback.format_exc()}
    entry['seconds'] = time.monotonic() - start
    results.save()
    print(f'{name}: {entry["state"]} {entry["word"]} ({entry["seconds"]:.0f} s)', flush=True)
    if settings.on_gpu:
        with suppress(RuntimeError):  # of a lost GPU; the parts that follow say so
            torch.cuda.empty_cache()


@contextmanager
def _limit(seconds: float, results: Results, entry: dict[str, Any]) -> Iterator[None]:
    """End the block after so long; all of it, where it does not end."""

    def give_up() -> None:
        entry.update(state='cut', word='it hangs in a call of the device: the run ends here')
        results.save()
        os._exit(3)

    def interrupt(*_: object) -> None:
        raise OverError

    watchdog = threading.Timer(seconds + _GRACE, give_up)
    watchdog.daemon = True
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    watchdog.start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        watchdog.cancel()
