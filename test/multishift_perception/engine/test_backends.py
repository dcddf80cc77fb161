# SPDX-License-Identifier: Apache-2.0
"""The registry of backends: one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch

from multishift_perception.engine import openvino_backend, read_manifest
from multishift_perception.engine.backends import (
    BACKENDS,
    BackendEntry,
    in_order,
    register,
    set_threads,
)
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
    loader = resolve_name(BACKENDS[name].loader)
    assert callable(loader.run) and callable(loader.close)
    assert BACKENDS[name].gpu or BACKENDS[name].cpu


@pytest.mark.parametrize('name', ['openvino', 'torch'])
def test_threads_are_as_many_as_asked_for_or_the_librarys_own(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever share of the cores this process has, its own number differs from the one asked for.
    monkeypatch.setattr('multishift_perception.engine.torch_backend._OWN_THREADS', 2)

    def threads() -> int:
        if name == 'torch':
            return torch.get_num_threads()
        return int(openvino_backend._core().get_property('CPU', 'INFERENCE_NUM_THREADS'))

    set_threads(name, 0)  # whatever an earlier test left
    before = threads()
    assert name != 'torch' or before == 2
    set_threads(name, 1)
    assert threads() == 1
    set_threads(name, 0)
    assert threads() == before
    monkeypatch.undo()
    set_threads(name, 0)


def test_backends_without_threads_are_left_as_they_are() -> None:
    set_threads('tensorrt', 3)


@pytest.fixture
def forgotten(own_registries: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    with own_registries():
        yield


@pytest.mark.usefixtures('forgotten')
def test_another_backend_is_one_line(tiny_bundle: Path) -> None:
    register('other', BackendEntry('other_backend:Other', library='no_such_library', cpu=0))
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


@pytest.mark.usefixtures('forgotten')
@pytest.mark.parametrize(
    ('entry', 'fault'),
    [
        ('other_backend:Other', 'backend other is .*, no BackendEntry'),
        (BackendEntry('other_backend', 'numpy', cpu=0), "is 'other_backend', not MODULE:CLASS"),
        (BackendEntry('a:B', 'numpy'), 'backend other runs nowhere: give it a rank, gpu or cpu'),
    ],
)
def test_a_backend_is_whole(entry: Any, fault: str) -> None:
    with pytest.raises(TypeError, match=fault):
        register('other', entry)
    assert 'other' not in BACKENDS


def test_manifest_names_the_backends_that_it_knows(tiny_bundle: Path, tmp_path: Path) -> None:
    text = (tiny_bundle / 'manifest.yaml').read_text()
    (tmp_path / 'manifest.yaml').write_text(text.replace('backend: torch', 'backend: tpu'))
    with pytest.raises(
        MultishiftError, match=r'backend \(line \d+\): tpu is no backend, expected tensorrt, t'
    ):
        read_manifest(tmp_path)
