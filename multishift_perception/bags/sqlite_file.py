# SPDX-License-Identifier: Apache-2.0
"""The messages of one SQLite file (``.db3``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
import shlex
import sqlite3

from multishift_perception.bags.storage import StoredMessage
from multishift_perception.bags.types import kind_of
from multishift_perception.errors import MultishiftError

MAGIC = b'SQLite format 3\x00'

_HOT_JOURNAL = b'\xd9\xd5\x05\xf9\x20\xa1\x63\xd7'


class SqliteFile:
    """A SQLite bag file, whole or cut off; see ``Storage``."""

    def __init__(self, path: Path) -> None:
        """Open the file and count its messages."""
        address = _address(path)
        self._db = sqlite3.connect(address, uri=True, check_same_thread=False)
        self.counts: Counter[str] = Counter()
        self.first: int | None = None
        self.last: int | None = None
        self.is_complete, self.unread = True, 0
        # Bag time, topic and row of every message that a damaged file still gives.
        self._recovered: list[tuple[int, int, int]] | None = None
        try:
            try:
                self._count()
            except sqlite3.OperationalError:  # it is no bag, or not readable at all
                raise
            except sqlite3.DatabaseError:
                self._recover(path, address)
        except BaseException:
            self._db.close()
            raise

    def messages(
        self, topics: Collection[str], most: int | None = None
    ) -> Iterator[StoredMessage]:
        """Yield the messages on ``topics``, none of them cut, in order of time."""
        ids = [i for i, (topic, _) in self._topics.items() if topic in topics]
        if self._recovered is not None:
            yield from self._recovered_messages(ids)
            return
        marks = ','.join('?' * len(ids))
        rows = self._db.execute(
            'SELECT topic_id, data, timestamp FROM messages '
            f'WHERE topic_id IN ({marks}) ORDER BY timestamp, id',
            ids,
        )
        for topic, data, time in rows:
            yield StoredMessage(*self._topics[topic], data, time)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _count(self) -> None:
        self._read_topics()
        rows = self._db.execute(
            'SELECT topic_id, COUNT(*), MIN(timestamp), MAX(timestamp) FROM messages GROUP BY 1'
        )
        for topic, number, first, last in rows.fetchall():
            self._note(topic, number, first, last)

    def _read_topics(self) -> None:
        rows = self._db.execute('SELECT id, name, type, serialization_format FROM topics')
        self._topics = {i: (name, kind_of(kind, form)) for i, name, kind, form in rows}
        self.kinds = dict(self._topics.values())

    def _note(self, topic: int, number: int, first: int, last: int) -> None:
        if topic in self._topics:
            self.counts[self._topics[topic][0]] += number
            self.first = first if self.first is None else min(self.first, first)
            self.last = last if self.last is None else max(self.last, last)

    def _recover(self, path: Path, address: str) -> None:
        """Note the rows in the order in which they were written, up to the first that is lost."""
        self._db.close()
        self._db = sqlite3.connect(address, uri=True, check_same_thread=False)
        # SQLite opens a file that is shorter than its first page says only in this mode.
        self._db.execute('PRAGMA writable_schema=ON')
        self._read_topics()
        self.is_complete = False
        rows = list(self._whole_rows())
        (page,) = self._db.execute('PRAGMA page_size').fetchone()
        if path.stat().st_size % page:
            # SQLite fills half a page up with zeros, and the last row may end on it.
            rows = rows[:-1]
        for time, _, topic in rows:
            self._note(topic, 1, time, time)
        self._recovered = sorted(rows)

    def _whole_rows(self) -> Iterator[tuple[int, int, int]]:
        rows = self._db.execute('SELECT timestamp, id, topic_id, data FROM messages ORDER BY id')
        try:
            for time, row, topic, data in rows:
                if not isinstance(time, int) or topic not in self._topics or data is None:
                    return
                yield time, row, topic
        except sqlite3.DatabaseError:
            return  # as far as it goes

    def _recovered_messages(self, ids: Collection[int]) -> Iterator[StoredMessage]:
        for time, row, topic in self._recovered or ():
            if topic in ids:
                found = self._db.execute('SELECT data FROM messages WHERE id = ?', [row])
                with closing(found):
                    (data,) = found.fetchone()
                yield StoredMessage(*self._topics[topic], data, time)


def _address(path: Path) -> str:
    """Return the URI that opens the file with all its messages, and changes nothing beside it.

    Raises:
        MultishiftError: messages are in a file beside it that cannot be read with it.
    """
    address = path.absolute().as_uri()
    log, memory, journal = (
        path.with_name(path.name + end) for end in ('-wal', '-shm', '-journal')
    )
    if journal.exists() and _starts_with(journal, _HOT_JOURNAL):
        raise _unmerged(path, journal, f'undoes a write to {path.name} that was cut off')
    if not log.exists() or not log.stat().st_size:
        return f'{address}?immutable=1'
    if not memory.exists():
        raise _unmerged(path, log, f'holds messages that are not in {path.name} yet')
    return f'{address}?mode=ro&readonly_shm=1'


def _unmerged(path: Path, side: Path, what: str) -> MultishiftError:
    command = f"sqlite3 {shlex.quote(str(path))} 'PRAGMA wal_checkpoint'"
    return MultishiftError(f'{side}: {what}; merge the two, or a copy of them: {command}')


def _starts_with(path: Path, start: bytes) -> bool:
    with path.open('rb') as file:
        return file.read(len(start)) == start
