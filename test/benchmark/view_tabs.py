# SPDX-License-Identifier: Apache-2.0
"""What tabs of a real browser, opened and killed, leave behind in `multishift view`.

    python test/benchmark/view_tabs.py drive.mp4 --tabs 100

A headless Chromium, driven by Playwright (`pip install playwright`), opens the page again and
again and waits until its tile shows a frame. Every second tab is closed, every tenth time the
whole browser is killed with what it has open. Counted are the threads, handles and memory of the
server before and after.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

from playwright.sync_api import Browser, Playwright, sync_playwright  # type: ignore[import-not-found, unused-ignore]

_KILLED_EVERY = 10
_WIDTHS = 'images => images.map(image => image.naturalWidth)'
_PATIENCE_S = 120


def counts(process: int) -> dict[str, float]:
    """Return what a process holds."""
    folder = Path(f'/proc/{process}')
    pages = int((folder / 'statm').read_text().split()[1])
    return {
        'threads': len(list((folder / 'task').iterdir())),
        'handles': len(list((folder / 'fd').iterdir())),
        'resident MB': round(pages * os.sysconf('SC_PAGESIZE') / 1e6, 1),
    }


def open_browser(started: Playwright) -> tuple[Browser, set[int]]:
    """Return a browser, and its processes."""
    path = shutil.which('chromium')
    browser = started.chromium.launch(executable_path=path, args=['--no-sandbox'])
    # Playwright's own process, which started it, is to live.
    return browser, {p for p in children(os.getpid()) if 'chromium' in name_of(p)}


def name_of(process: int) -> str:
    """Return what a process was called by."""
    return Path(f'/proc/{process}/cmdline').read_text().partition('\0')[0]


def children(process: int) -> set[int]:
    """Return all processes that one has started, and those of these."""
    found = set()
    for task in Path(f'/proc/{process}/task').iterdir():
        for child in map(int, (task / 'children').read_text().split()):
            found |= {child} | children(child)
    return found


def look(browser: Browser, url: str, *, closed: bool) -> None:
    """Open a tab, wait until it shows frames, and close it or leave it."""
    tab = browser.new_page()
    tab.goto(url)
    end = time.monotonic() + _PATIENCE_S
    while not all(tab.locator('img').evaluate_all(_WIDTHS) or [0]):
        if time.monotonic() > end:
            raise TimeoutError('a tile shows no frame')
        time.sleep(0.05)
    if closed:
        tab.close()


def main() -> None:
    """Open and kill tabs, and print what was held before, on the way, and after."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source')
    parser.add_argument('--tabs', type=int, default=100)
    parser.add_argument('--json', type=Path)
    options = parser.parse_args()
    command = [sys.executable, '-m', 'multishift_perception.cli.main', 'view', options.source]
    found: list[dict[str, Any]] = []
    with subprocess.Popen([*command, '--port', '0'], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[0]
        with sync_playwright() as started:
            browser, processes = open_browser(started)
            for number in range(options.tabs + 1):
                if number % _KILLED_EVERY == 0:
                    for process in processes:
                        if Path(f'/proc/{process}').exists():
                            os.kill(process, signal.SIGKILL)
                    time.sleep(3)
                    found.append({'tabs': number, **counts(server.pid)})
                    print(found[-1], flush=True)
                    browser, processes = open_browser(started)
                look(browser, url, closed=number % 2 == 1)
        server.send_signal(signal.SIGINT)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + '\n')


if __name__ == '__main__':
    main()
