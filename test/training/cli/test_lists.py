# SPDX-License-Identifier: Apache-2.0
"""`multishift models` and `multishift datasets`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
import json
from pathlib import Path
import re
from typing import Literal

from click.testing import CliRunner
import pytest

from multishift_perception.cli.main import multishift
from multishift_perception.schema.words import tag_of
from multishift_training import models
from multishift_training.datasets.kinds import CamvidData, kinds, register

DOCUMENT = Path(__file__).parents[3] / 'docs/models.md'
SMALL = 'segformer_b0'


def shown(*words: str) -> str:
    done = CliRunner().invoke(multishift, words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take one network for all, and the one whose structure is in a folder."""
    monkeypatch.setattr(models, 'NAMES', [SMALL, 'mask2former'])


def documented() -> dict[str, tuple[str, str]]:
    """Return parameters and operations of each network of the table in docs/models.md."""
    rows = re.findall(r'^\| `(\w+)` \| ([\d.]* ?M?) \| ([\d,]*) \|', DOCUMENT.read_text(), re.M)
    return {name: (parameters, flops) for name, parameters, flops in rows}


@pytest.mark.usefixtures('small')
def test_the_document_has_the_figures_of_the_networks() -> None:
    listed = json.loads(shown('models', '--json'))
    assert listed['size'] == [1024, 2048]
    network = listed['models'][0]
    found = f'{network["parameters"] / 1e6:.1f} M', f'{network["flops"] / 1e9:,.0f}'
    assert found == documented()[SMALL]


def test_the_document_has_every_network() -> None:
    assert set(documented()) == set(models.names_alone())


@pytest.mark.usefixtures('small')
def test_networks_are_listed_with_weights_and_licences() -> None:
    text = shown('models', '--size', '64x96')
    assert 'GFLOPs at 64x96' in text
    assert 'SegFormer of Hugging Face: NVIDIA Source Code License, non-commercial' in text
    assert 'ours' not in text and 'mask2former' in text.splitlines()[-1]


def test_every_data_set_is_listed() -> None:
    found = {entry['kind']: entry for entry in json.loads(shown('datasets', '--json'))}
    assert list(found) == [tag_of(kind) for kind in kinds()]
    assert found['camvid']['on_disk']['root']['default'] == 'camvid'
    assert found['road_anomaly21']['classes'] == 'anomalies alone'
    assert 'vehicle' in found['idd_lite']['classes']
    assert found['folder']['classes'].endswith('those of a class table')
    assert found['lums_road']['licence'].startswith('MIT')


def test_the_list_says_what_a_data_set_needs() -> None:
    text = shown('datasets')
    assert 'road_anomaly: RoadAnomaly (EPFL)' in text
    assert 'folder that holds images/ and labels_masks/ (default dataset_AnomalyTrack)' in text
    assert '``' not in text


def test_those_of_other_packages_are_listed(
    own_registries: Callable[[], AbstractContextManager[None]],
) -> None:
    class MineData(CamvidData):
        """Mine."""

        kind: Literal['mine']  # type: ignore[assignment]

    with own_registries():
        register(MineData)
        assert 'mine: Mine.' in shown('datasets')
