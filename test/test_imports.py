"""Who may import whom: folders stand on floors, and none imports from its own floor or above."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The folders of a package from the ground up. Those of one floor do not know each other; modules
# beside them stand above all floors.
ROOTS = {'multishift_training': ROOT / 'training'}
FLOORS: dict[str, tuple[tuple[str, ...], ...]] = {
    'multishift_perception.sample_drive': (
        ('paint',),
        ('street', 'novel'),
        ('traffic', 'light'),
    ),
    'multishift_training': (
        ('losses', 'models'),
        ('datasets',),
        ('methods',),
        ('checkpoints',),
        ('scores',),
        ('export', 'loop'),
        ('evaluation', 'augmentation'),
        ('cli',),
    ),
}
# What still climbs; nothing may be added.
PENDING = {'augmentation/networks.py -> multishift_training.evaluation.runners.NetworkRunner'}


def imported(module: Path, package: str) -> Iterator[str]:
    """Yield the dotted name of all that a module imports anywhere; ``package`` is its own."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                above = package.split('.')[: len(package.split('.')) - node.level + 1]
                base = '.'.join([*above, base] if base else above)
            yield from (f'{base}.{alias.name}' for alias in node.names)


def climbs(folder: Path, package: str, floors: tuple[tuple[str, ...], ...]) -> list[str]:
    """Return every import, ``MODULE -> NAME``, that is not of the own folder or a lower floor."""
    found = []
    for floor, names in enumerate(floors):
        below = {name for lower in floors[:floor] for name in lower}
        for name in names:
            for module in sorted((folder / name).rglob('*.py')):
                own = '.'.join([package, *module.parent.relative_to(folder).parts])
                for target in imported(module, own):
                    inside = target == package or target.startswith(f'{package}.')
                    room = target.removeprefix(package).lstrip('.').partition('.')[0]
                    if inside and room not in below | {name}:
                        found.append(f'{module.relative_to(folder)} -> {target}')
    return found


def place(package: str) -> Path:
    """Return the folder of a package."""
    return ROOTS.get(package, ROOT) / package.replace('.', '/')


@pytest.mark.parametrize('package', FLOORS)
def test_no_folder_imports_from_its_own_floor_or_above(package: str) -> None:
    found = climbs(place(package), package, FLOORS[package])
    assert set(found) <= PENDING


@pytest.mark.parametrize('package', FLOORS)
def test_every_folder_stands_on_a_floor(package: str) -> None:
    folders = {init.parent.name for init in place(package).glob('*/*.py')}
    assert sorted(folders) == sorted(name for names in FLOORS[package] for name in names)


def test_nothing_of_training_stands_beside_its_folders() -> None:
    modules = {path.name for path in place('multishift_training').iterdir() if path.is_file()}
    assert modules == {'__init__.py', 'py.typed'}


@pytest.mark.parametrize(
    'line',
    [
        'from house.upper.attic import roof',
        'from house.upper import attic',
        'from house import upper',
        'import house.upper.attic as high',
        'from ..upper import attic',
        'from .. import upper',
        'from house.beside import door',
        'from house.face import door',
        'from house import door',
        'import house',
        'def late():\n    from house.upper import attic',
    ],
)
def test_an_import_upwards_is_found(tmp_path: Path, line: str) -> None:
    floors = (('ground', 'beside'), ('upper',))
    (tmp_path / 'ground').mkdir()
    (tmp_path / 'upper').mkdir()
    (tmp_path / 'ground/floor.py').write_text('import os\nfrom house.ground import wall\n')
    (tmp_path / 'upper/attic.py').write_text('from house.ground.floor import wall\n')
    assert climbs(tmp_path, 'house', floors) == []
    (tmp_path / 'ground/cellar.py').write_text(line + '\n')
    [found] = climbs(tmp_path, 'house', floors)
    assert found.startswith('ground/cellar.py -> house')
