"""The registry of backends: one line each."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType

import pytest

from multishift_perception.engine import backends, read_manifest
from multishift_perception.engine.backends import BACKENDS, BackendEntry, in_order
from multishift_perception.engine.selection import choose, place
from multishift_perception.errors import MultishiftError


def test_order_of_auto() -> None:
    assert list(in_order()) == [
        ('tensorrt', 'gpu'),
        ('torch', 'gpu'),
        ('openvino', 'cpu'),
        ('torch', 'cpu'),
    ]


@pytest.mark.parametrize('name', BACKENDS)
def test_every_loader_is_there(name: str) -> None:
    loader = resolve_name(f'{backends.__package__}.{BACKENDS[name].loader}')
    assert callable(loader.run) and callable(loader.close)
    assert BACKENDS[name].gpu or BACKENDS[name].cpu


def test_another_backend_is_one_line(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = BackendEntry('other_backend:Other', library='no_such_library', cpu=0)
    others = MappingProxyType({**BACKENDS, 'other': entry})
    for module in ('backends', 'selection'):
        monkeypatch.setattr(f'multishift_perception.engine.{module}.BACKENDS', others)
    assert list(in_order())[2] == ('other', 'cpu')
    manifest = read_manifest(tiny_bundle)
    artifact = manifest.artifacts[0].model_copy(update={'backend': 'other', 'file': 'other.bin'})
    with pytest.raises(MultishiftError, match='no_such_library is not installed: pip install no_'):
        place(artifact)
    both = manifest.model_copy(update={'artifacts': [*manifest.artifacts, artifact]})
    assert str(choose(tiny_bundle, both)).endswith(
        'other.bin cannot run on the CPU: no_such_library is not installed: '
        'pip install no_such_library'
    )


def test_manifest_names_the_backends_that_it_knows(tiny_bundle: Path, tmp_path: Path) -> None:
    text = (tiny_bundle / 'manifest.yaml').read_text()
    (tmp_path / 'manifest.yaml').write_text(text.replace('backend: torch', 'backend: tpu'))
    with pytest.raises(
        MultishiftError, match=r'backend \(line \d+\) is tpu, expected tensorrt, t'
    ):
        read_manifest(tmp_path)
