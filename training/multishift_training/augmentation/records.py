# SPDX-License-Identifier: Apache-2.0
"""What a run writes down: a record of each attempt, and their counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
import json
from typing import Literal

from multishift_training.datasets.config import Strict


class Record(Strict):
    """An attempt; or, as ``fault``, a source that could not be read.

    Attributes:
        source: name of the image that it starts from.
        sample: which of the samples wanted of the source; -1 for a fault.
        attempt: number of the attempt at the sample; -1 for a fault.
        verdict: what came of it.
        reason: why it was rejected, or what the fault is.
        object: class of the novel object in words.
        origin: where the object comes from.
        ade_index: of the object's class, where it has one.
        prompt: what a generator that reads was told.
        domain: look of the image, such as weather, time and place.
        seed: entropy of its ``numpy.random.SeedSequence``.
        generator: version of the generator.
        filters: versions of what judged, by filter.
        figures: what the filters measured, by name.
        file: what the published file names have in common; none unless it was accepted.
    """

    source: str
    sample: int = -1
    attempt: int = -1
    verdict: Literal['accepted', 'rejected', 'fault']
    reason: str = ''
    object: str = ''
    origin: str = ''
    ade_index: int | None = None
    prompt: str = ''
    domain: dict[str, str] = {}
    seed: tuple[int, ...] = ()
    generator: str = ''
    filters: dict[str, str] = {}
    figures: dict[str, float] = {}
    file: str | None = None

    @property
    def place(self) -> tuple[str, int, int]:
        """What records are sorted by."""
        return self.source, self.sample, self.attempt

    @property
    def thumbnail(self) -> str:
        """Path of the small picture of a rejected image below the run's folder."""
        return f'rejected/{self.source}_{self.sample}_{self.attempt}.jpg'


class Summary(Strict):
    """Counts of a run.

    Attributes:
        sources: images to start from.
        recorded: how many of them are done.
        accepted: samples.
        rejected: attempts, by reason.
        given_up: samples whose every attempt was rejected.
        faults: what is wrong with sources that could not be read, by name.
    """

    sources: int
    recorded: int
    accepted: int
    rejected: dict[str, int]
    given_up: int
    faults: dict[str, str]

    @property
    def complete(self) -> bool:
        """Whether no source is left to be done."""
        return self.recorded == self.sources

    def __str__(self) -> str:
        """Return the counts in a few words."""
        reasons = ', '.join(f'{count} {reason}' for reason, count in self.rejected.items())
        parts = [
            f'{self.accepted} samples of {self.recorded} sources accepted',
            f'{sum(self.rejected.values())} attempts rejected' + (f' ({reasons})' * bool(reasons)),
            f'{self.given_up} samples given up',
            f'{len(self.faults)} sources unreadable',
        ]
        return ', '.join(parts)


def summarize(records: Iterable[Record], *, sources: int, per_image: int) -> Summary:
    """Count what is recorded.

    Args:
        records: of all sources that are done.
        sources: images to start from.
        per_image: samples wanted of each.
    """
    found = list(records)
    faults = {r.source: r.reason for r in found if r.verdict == 'fault'}
    accepted = sum(r.verdict == 'accepted' for r in found)
    recorded = len({r.source for r in found})
    reasons = Counter(r.reason for r in found if r.verdict == 'rejected')
    return Summary(
        sources=sources,
        recorded=recorded,
        accepted=accepted,
        rejected=dict(sorted(reasons.items())),
        given_up=(recorded - len(faults)) * per_image - accepted,
        faults=dict(sorted(faults.items())),
    )


def to_lines(records: Iterable[Record]) -> str:
    """Return records as JSON lines, sorted."""
    return ''.join(
        json.dumps(record.model_dump(mode='json'), allow_nan=False) + '\n'
        for record in sorted(records, key=lambda record: record.place)
    )


def from_lines(text: str) -> list[Record]:
    """Return the records of JSON lines."""
    return [Record.model_validate_json(line) for line in text.splitlines()]
