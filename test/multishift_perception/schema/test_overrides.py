# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
import pytest

from multishift_perception.errors import MultishiftError
from multishift_perception.schema.overrides import override
from multishift_perception.schema.yaml_files import read_document

TEXT = """
seed: 0
stages:
  - {name: first, epochs: 1, optimizer: &rate {rate: 1.0e-3}}
  - {name: second, epochs: 1, optimizer: *rate}
"""


class Strict(BaseModel):
    model_config = ConfigDict(extra='forbid')


class Optimizer(Strict):
    rate: float = 0.1
    name: str | None = None


class Stage(Strict):
    name: str
    epochs: int
    optimizer: Optimizer = Optimizer()
    schedule: dict[str, Any] | None = None


class Run(Strict):
    seed: int
    stages: list[Stage]


def read(path: Path, *assignments: str) -> Run:
    path = path / 'run.yaml'
    path.write_text(TEXT)
    return override(read_document(path, 'a run'), assignments).typed(Run)


def test_values_are_set_at_their_places_and_nowhere_else(tmp_path: Path) -> None:
    run = read(
        tmp_path,
        'seed=3',
        'stages.1.optimizer.rate=0.5',
        'stages[0].schedule.kind=cosine',
        'stages.0.optimizer.name=null',
        'stages.0.name=a=b',
    )
    assert run.seed == 3
    assert [stage.optimizer.rate for stage in run.stages] == [1e-3, 0.5]  # one anchor
    assert run.stages[0].schedule == {'kind': 'cosine'}  # which the file leaves out
    assert run.stages[0].name == 'a=b'
    assert read(tmp_path, 'stages=[{name: only, epochs: 4}]').stages[0].epochs == 4


def test_a_file_without_overrides_names_lines(tmp_path: Path) -> None:
    assert read(tmp_path).seed == 0
    path = tmp_path / 'run.yaml'
    path.write_text('seed: x\nstages: []')
    with pytest.raises(MultishiftError, match=r'run.yaml: seed \(line 1\) is x'):
        override(read_document(path, 'a run'), ()).typed(Run)


@pytest.mark.parametrize(
    ('assignment', 'message'),
    [
        ('seed', 'seed sets nothing: give PLACE=VALUE, as seed=3'),
        ('=3', '=3 sets nothing'),
        ('stages.2.epochs=1', 'stages is a list of 2: give 0 to 1 in place of 2'),
        ('stages.first.epochs=1', 'stages is a list of 2: give 0 to 1 in place of first'),
        ('seed.x=1', 'seed is 0, which holds no x'),
        ('seed=[1', 'no valid YAML'),
        ('seed=' + '[' * 3000, 'no valid YAML'),
        ('sed=1', 'with sed=1: sed is no key, expected seed or stages'),
        ('stages.1.epochs=many', r'stages\[1\].epochs is many, expected a whole number'),
    ],
)
def test_what_cannot_be_set_is_named(assignment: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(MultishiftError, match=message):
        read(tmp_path, assignment)
