# SPDX-License-Identifier: Apache-2.0
"""The reference of configuration keys is whole, and that of the code."""

from __future__ import annotations

from pathlib import Path
import re

from pydantic import BaseModel
import pytest

from multishift_perception.schema.words import tag_of
from multishift_training.cli import reference

FILE = Path(__file__).parents[3] / 'docs' / 'configuration.md'


def models() -> list[type[BaseModel]]:
    roots = [root for _, _, root in reference.ROOTS]
    return [model for root in roots for model in (root, *reference._reached(root, []))]


def test_the_committed_file_is_current() -> None:
    assert FILE.read_text() == reference.reference(), (
        'run: python -m multishift_training.cli.reference docs/configuration.md'
    )


@pytest.mark.parametrize('model', dict.fromkeys(models()), ids=lambda model: model.__name__)
def test_every_key_is_described_and_nothing_else_is(model: type[BaseModel]) -> None:
    keys = {key for key in model.model_fields if not tag_of(model, key)}
    assert set(reference.meanings(model)) == keys


def test_links_lead_somewhere() -> None:
    text = reference.reference()
    titles = re.findall(r'^##+ (.+)$', text, re.MULTILINE)
    anchors = [title.lower().replace(' ', '-') for title in titles]
    assert len(set(anchors)) == len(anchors)
    assert set(re.findall(r'\(#([^)]+)\)', text)) <= set(anchors)


def test_what_is_shown_of_a_key() -> None:
    lines = reference.reference().splitlines()
    assert any(
        line.startswith('| `trusted_ratio` | a number, above 0, at most 1 | `0.8` | share of the')
        for line in lines
    )
    assert '| `epochs` | a whole number, 1 or more | required | passes over the training' in (
        '\n'.join(lines)
    )
    assert any(line.startswith('| `cameras.<name>.transport` | one of raw,') for line in lines)
