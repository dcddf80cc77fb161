# SPDX-License-Identifier: Apache-2.0
"""The folder of an augmentation run: every source's files appear in it whole, or not at all.

A source's files are staged below ``.work``; renaming the stage commits them, and moving them to
their places comes after it. What a killed process committed is moved by the next one, and what
it had not is removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import shutil

from filelock import Timeout
from pydantic import ValidationError
import yaml

from multishift_perception.destinations import Kind, check_folder
from multishift_perception.errors import MultishiftError
from multishift_perception.files import file_lock, remove_leftovers, write_text
from multishift_training.augmentation.config import AugmentConfig, read_config
from multishift_training.augmentation.records import Record, from_lines, to_lines

IMAGES, LABELS = 'leftImg8bit', 'gtFine'
RECORDS, SUMMARY, SHEET = 'records.jsonl', 'summary.json', 'index.html'
_CONFIG = 'config.yaml'
# What a run leaves that has done no source.
_SCRAPS = ('cache', 'records', RECORDS, SUMMARY, SHEET, 'timing_*.json')


class AugmentFolder:
    """``leftImg8bit/``, ``gtFine/``, ``records/``, ``rejected/``, and what sums them up.

    Attributes:
        path: the folder.
        cache: of rendered source frames.
    """

    def __init__(self, path: Path, config: AugmentConfig) -> None:
        """Open the folder of a run, new or to be resumed.

        The first source that is done claims it: ``config.yaml`` holds all that decides the set;
        the number of processes does not.

        Raises:
            MultishiftError: it holds a run of another configuration, or something else.
        """
        self.path = path
        self.cache = path / 'cache'
        self._work = path / '.work'
        self._split = config.split
        self._claimed = path / _CONFIG
        content = config.model_dump(mode='json', exclude={'workers'})
        self._text = yaml.safe_dump(content, sort_keys=False)
        check_folder(path, _RUN, option='--out', force=True, scraps=_SCRAPS)
        self._work.mkdir(parents=True, exist_ok=True)
        with self.locked():
            self._check_claim()
            for name in (_CONFIG, RECORDS, SUMMARY, SHEET):
                remove_leftovers(path / name)

    def _check_claim(self) -> None:
        if self._claimed.exists() and self._claimed.read_text() != self._text:
            raise MultishiftError(
                f'{self.path} holds a run of another configuration ({self._claimed}): give '
                'another folder with --out'
            )

    def _claim(self) -> None:
        """Keep other configurations out from now on."""
        with self.locked():
            # Two runs may have begun while the folder was nobody's.
            self._check_claim()
            if not self._claimed.exists():
                self.write(_CONFIG, self._text)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until no other process writes what belongs to all."""
        with file_lock(self._work / 'lock'):
            yield

    @contextmanager
    def held(self, rank: int) -> Iterator[None]:
        """Keep the same process of a second start out.

        Raises:
            MultishiftError: one is at work.
        """
        try:
            held = file_lock(self._work / f'{rank}.lock').acquire(blocking=False)
        except Timeout:
            raise MultishiftError(
                f'another process is at work on {self.path}: wait for its end, or end it'
            ) from None
        with held:
            yield

    def write(self, name: str, text: str) -> None:
        """Write a file that belongs to all, atomically, while it is ``locked``."""
        write_text(self.path / name, text)

    def is_done(self, source: str) -> bool:
        """Finish or clear what a killed process left of a source; return whether it is recorded.

        One that could not be read is not done: it may have been mended.

        Raises:
            MultishiftError: its record is damaged.
        """
        shutil.rmtree(self._work / f'{source}.part', ignore_errors=True)
        if (self._work / f'{source}.whole').is_dir():
            self._publish(source)
        records = self.records(source)
        return bool(records) and all(record.verdict != 'fault' for record in records)

    def records(self, source: str) -> list[Record]:
        """Return the records of a source; none where it has not been done.

        Raises:
            MultishiftError: the file was damaged after it was written.
        """
        path = self.path / 'records' / f'{source}.jsonl'
        if not path.exists():
            return []
        try:
            return from_lines(path.read_text())
        except (ValidationError, UnicodeDecodeError) as error:
            raise MultishiftError(
                f'{path} is damaged ({type(error).__name__}): delete it to have its source done '
                'anew'
            ) from None

    def commit(self, source: str, records: Sequence[Record], files: Mapping[str, bytes]) -> None:
        """Write all that came of a source, as one.

        Args:
            source: name of the source.
            records: its attempts.
            files: content by path below the folder.

        Raises:
            MultishiftError: a run of another configuration was faster; nothing of the source is
                recorded.
        """
        # Sources that cannot be read may be a fault of the configuration.
        if any(record.verdict != 'fault' for record in records):
            self._claim()
        stage = self._work / f'{source}.part'
        record = {f'records/{source}.jsonl': to_lines(records).encode()}
        for name, content in {**files, **record}.items():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            (stage / name).write_bytes(content)
        stage.rename(stage.with_name(f'{source}.whole'))
        self._publish(source)

    def _publish(self, source: str) -> None:
        """Move a source's files to their places, the record last."""
        stage = self._work / f'{source}.whole'
        files = [path.relative_to(stage) for path in stage.rglob('*') if path.is_file()]
        for name in sorted(files, key=lambda name: name.parts[0] == 'records'):
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(stage / name, self.path / name)
        shutil.rmtree(stage)

    def image(self, record: Record) -> str:
        """Return the path of an accepted sample's image below the folder."""
        return f'{IMAGES}/{self._split}/{_city(record)}/{record.file}_leftImg8bit.png'

    def labels(self, record: Record) -> str:
        """Return the path of an accepted sample's label image below the folder."""
        return f'{LABELS}/{self._split}/{_city(record)}/{record.file}_gtFine_labelTrainIds.png'


def _is_run(path: Path) -> bool:
    try:
        read_config(path / _CONFIG)
    except MultishiftError:
        return False
    return True


_RUN = Kind('an augmentation run', _is_run)


def _city(record: Record) -> str:
    """Return the folder of a source's images, as Cityscapes has one for each city."""
    return record.source.partition('_')[0] or record.source
