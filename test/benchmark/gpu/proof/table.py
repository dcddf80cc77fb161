# SPDX-License-Identifier: Apache-2.0
"""The results as Markdown, for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def table(content: Mapping[str, Any]) -> str:
    """Return the page of a run's content."""
    return '\n'.join(_lines(content)) + '\n'


def _lines(content: Mapping[str, Any]) -> Iterator[str]:
    machine = content['machine']
    if 'card' not in machine:
        yield '**No GPU: sizes are tiny, and these figures say nothing of speed.**\n'
    facts = [f'{name} {value}' for name, value in machine.items() if name != 'prepared']
    yield ', '.join(facts) + '.\n'
    yield '| part | | seconds |\n|---|---|---|'
    for name, part in content['parts'].items():
        word = part['state'] + (f': {part["word"]}' if part.get('word') else '')
        yield f'| {name} | {_cell(word)} | {part.get("seconds", 0):.0f} |'
    for name, part in content['parts'].items():
        yield from _figures(name, part['figures'])


def _figures(name: str, figures: Mapping[str, Any]) -> Iterator[str]:
    """Yield a part's figures: those that are records as one table, the others as another."""
    records = {key: value for key, value in figures.items() if isinstance(value, dict)}
    single = {key: value for key, value in figures.items() if key not in records}
    if figures:
        yield f'\n### {name}\n'
    if single:
        yield '| | |\n|---|---|'
        yield from (f'| {key} | {_cell(value)} |' for key, value in single.items())
    if single and records:
        yield ''
    if records:
        titles = list(dict.fromkeys(title for row in records.values() for title in row))
        yield f'| | {" | ".join(titles)} |\n|---|{"---|" * len(titles)}'
        for key, row in records.items():
            yield f'| {key} | {" | ".join(_cell(row.get(title, "")) for title in titles)} |'


def _cell(value: object) -> str:
    text = f'{value:.4g}' if isinstance(value, float) else str(value)
    return ' '.join(text.replace('|', '/').split())
