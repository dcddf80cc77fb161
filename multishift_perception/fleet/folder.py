# SPDX-License-Identifier: Apache-2.0
"""The folder of a report over many bags: which are done, by what settings, and what came of them.

``bags/NAME/`` has a bag's own report and its ``state.npz``; ``bag.json``, written last, says that
it is done, or why it cannot be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
import hashlib
import json
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

from multishift_perception.destinations import REPLAY, REPLAY_MANY, check_folder, report_of
from multishift_perception.errors import MultishiftError
from multishift_perception.files import (
    METRICS,
    claimed,
    remove_leftovers,
    write_bytes,
    write_json,
)
from multishift_perception.fleet.result import STATE, BagResult
from multishift_perception.fleet.sources import Source, fingerprint

_BAGS = 'bags'
_BAG = 'bag.json'
_RECORDED = 'recorded.json'
# How long the other processes of `torchrun` wait for the first one to say what is done.
_PATIENCE_S = 300.0


class FleetFolder:
    """What any number of processes, on this machine or others that share the folder, fill.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Take a folder; nothing of it is touched yet.

        Args:
            path: the folder.
            settings: all that decides what comes of a bag, for JSON.
        """
        self.path = path
        self._settings = json.loads(json.dumps(settings))
        self._done: set[str] = set()

    def begin(self, *, force: bool, reads: Sequence[Path]) -> None:
        """Open the folder, new or to be gone on with; bags that failed before are tried again.

        Args:
            force: whether what was done by other settings, or by the same, is done anew.
            reads: what is read.

        Raises:
            MultishiftError: something else is in it, it was made by other settings, or it cannot
                be written.
        """
        check_folder(self.path, report_of(REPLAY_MANY), option='--out', force=True, reads=reads)
        kept = self._kept_settings()
        if kept is not None and kept != self._settings and not force:
            keys = sorted(kept.keys() | self._settings)
            names = [key for key in keys if kept.get(key) != self._settings.get(key)]
            raise MultishiftError(
                f'{self.path} holds bags that were replayed otherwise ({", ".join(names)} '
                'changed): give another folder with --out, or --force to replay all anew'
            )
        # No bag that is to be done anew may count as done by what is written next.
        for note in (self.path / _BAGS).glob(f'*/{_BAG}'):
            if force or _read(note).get('failure') is not None:
                note.unlink()
        self.write_numbers({'command': REPLAY_MANY, 'finished': False, 'settings': self._settings})

    def join(self) -> None:
        """Wait until another process has opened the folder for the same settings.

        Raises:
            MultishiftError: none has within some minutes.
        """
        end = monotonic() + _PATIENCE_S
        while self._kept_settings() != self._settings:
            if monotonic() > end:
                raise MultishiftError(
                    f'{self.path}: the first process has not begun a replay by the same settings: '
                    'start all on one shared folder, with the same arguments'
                )
            sleep(0.5)

    def write_numbers(self, content: Mapping[str, Any]) -> None:
        """Write ``metrics.json``."""
        write_json(self.path / METRICS, content)

    def folder_of(self, source: Source) -> Path:
        """Return the folder of a bag."""
        return self.path / _BAGS / file_name_of(source.name)

    def is_done(self, source: Source) -> bool:
        """Return whether a bag, as it is now, is done or has failed; kept once it is so."""
        if source.name not in self._done:
            found = self._note(source)
            if found.get('fingerprint') == _fingerprint(source.path):
                self._done.add(source.name)
        return source.name in self._done

    def failure(self, source: Source) -> str | None:
        """Return why a bag that is done has no result; None where it has one."""
        found: str | None = self._note(source).get('failure')
        return found

    def result(self, source: Source) -> BagResult:
        """Return what came of a bag.

        Raises:
            MultishiftError: it is damaged.
        """
        return read_result(self.folder_of(source) / STATE)

    @contextmanager
    def claimed(self, source: Source) -> Iterator[bool]:
        """Yield whether a bag is this process's for the block."""
        locks = self.path / '.locks'
        locks.mkdir(parents=True, exist_ok=True)
        with claimed(locks / file_name_of(source.name)) as own:
            yield own

    def start(self, source: Source) -> str:
        """Clear up after a process that was killed over a bag; return the bag's fingerprint."""
        folder = self.folder_of(source)
        if folder.is_dir():
            for name in (STATE, _BAG):
                remove_leftovers(folder / name)
        return _fingerprint(source.path)

    def owns(self, source: Source, recording: Path) -> bool:
        """Return whether a recording was begun for a bag of this folder."""
        found = _read(self.folder_of(source) / _RECORDED).get('recording')
        return found == str(recording.resolve())

    def note_recording(self, source: Source, recording: Path) -> None:
        """Note that a recording is begun: what is found there later is this folder's."""
        content = {'recording': str(recording.resolve())}
        write_json(self.folder_of(source) / _RECORDED, content)

    def save(self, source: Source, result: BagResult, fingerprint: str) -> None:
        """Keep what came of a bag; its fingerprint is that of when it was begun."""
        write_bytes(self.folder_of(source) / STATE, result.to_bytes())
        self._write_note(source, fingerprint, None)

    def fail(self, source: Source, reason: str, fingerprint: str) -> None:
        """Keep why nothing came of a bag."""
        self._write_note(source, fingerprint, reason)

    def _write_note(self, source: Source, fingerprint: str, failure: str | None) -> None:
        content = {'name': source.name, 'fingerprint': fingerprint, 'failure': failure}
        write_json(self.folder_of(source) / _BAG, content)
        # Even if it grows meanwhile, as one that is being recorded does.
        self._done.add(source.name)

    def _note(self, source: Source) -> dict[str, Any]:
        return _read(self.folder_of(source) / _BAG)

    def _kept_settings(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = _read(self.path / METRICS).get('settings')
        return found


def file_name_of(name: str) -> str:
    """Return the file name that stands for a bag's name, a different one for each."""
    quoted = quote(name, safe=' +,=@()', errors='surrogateescape')
    if len(quoted) <= 150 and not quoted.startswith('.'):
        return quoted
    digest = hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:16]
    return f'{quoted[:100].lstrip(".")}~{digest}'


def read_result(path: Path) -> BagResult:
    """Return what came of a bag.

    Raises:
        MultishiftError: the file is missing or damaged.
    """
    try:
        return BagResult.from_bytes(path.read_bytes())
    except (OSError, ValueError, KeyError) as error:
        raise MultishiftError(
            f'{path} is missing, damaged or of an earlier version ({type(error).__name__}): '
            'delete its folder to have the bag replayed again'
        ) from error


class Kept:
    """What a finished report keeps of its bags, of one or of many.

    Attributes:
        report: its folder.
        recordings: what tells each bag from other recordings, by its name, in order.
        classes: names of the engine's classes.
        threshold: of the anomaly mask.
        min_area: pixels that a region of it has at least.
    """

    def __init__(self, report: Path) -> None:
        """Look what is there.

        Raises:
            MultishiftError: it is no such report.
        """
        self.report = report
        content = _read(report / METRICS)
        self.recordings: dict[str, str] = {}
        self._folders: dict[str, Path] = {}
        try:
            self._find(content)
            self.classes = tuple(map(str, content['classes']))
            self.threshold = float(content['threshold'])
            self.min_area = int(content.get('min_area', 0))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise MultishiftError(
                f'{report}: no finished report of `multishift replay`: give the folder of one '
                'that this version made'
            ) from None

    def _find(self, content: Mapping[str, Any]) -> None:
        """Find the bags and their folders.

        Raises:
            KeyError: the report is none, or not finished.
        """
        if content['command'] == REPLAY and (self.report / STATE).exists():
            found = read_result(self.report / STATE)
            self.recordings = {found.name: found.recording}
            self._folders = {found.name: self.report}
        elif content['command'] == REPLAY_MANY and content['finished']:
            self.recordings = {n: bag['recording'] for n, bag in content['bags'].items()}
            self._folders = {n: self.report / _BAGS / file_name_of(n) for n in content['bags']}
        else:
            raise KeyError

    def result(self, name: str) -> BagResult:
        """Return what came of a bag.

        Raises:
            MultishiftError: it is damaged.
        """
        return read_result(self._folders[name] / STATE)


def _fingerprint(path: Path) -> str:
    try:
        return fingerprint(path)
    except OSError:
        return 'missing'


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
