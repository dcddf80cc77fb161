# SPDX-License-Identifier: Apache-2.0
"""Rows of a part that fail alone."""

from __future__ import annotations

from collections.abc import Callable

import torch

from proof.settings import Note


class Attempts:
    """Keeps a row for each attempt, and fails at the end where one of them did."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._failed: list[str] = []

    def row(self, name: str, work: Callable[[], dict[str, object]]) -> dict[str, object] | None:
        """Keep what some work finds; None where it failed."""
        try:
            found = work()
        except Exception as error:
            word = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
            self._note(name, {'failed': word})
            self._failed.append(name)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return None
        self._note(name, found)
        return found

    def end(self) -> None:
        """Raise where something failed."""
        if self._failed:
            raise RuntimeError(f'failed: {", ".join(self._failed)}')
