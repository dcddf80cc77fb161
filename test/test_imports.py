# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: folders and modules stand on floors; none imports from its own or above."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The folders of a package, and the modules beside them, from the ground up. Those of one floor do
# not know each other. The package's face, ``__init__``, stands above all where no floor has it.
ROOTS = {'multishift_training': ROOT / 'training'}
FLOORS: dict[str, tuple[tuple[str, ...], ...]] = {
    'multishift_perception': (
        (
            'arrays',
            'classes',
            'errors',
            'folders',
            'frame_tally',
            'message_types',
            'offline',
            'process',
            'progress',
            'stamps',
            'ground_plane',
            'tracking',
        ),
        ('__init__', 'disk', 'outputs', 'registry', 'sample_drive', 'schema'),
        ('files', 'images'),
        ('bags', 'engine', 'ground', 'metrics', 'overlay'),
        ('destinations', 'footage', 'pipeline'),
        ('regions', 'shift'),
        ('objects', 'recording', 'rerun_file'),
        ('node', 'report'),
        ('calibration', 'demo', 'prediction', 'replay', 'view'),
        ('fleet',),
        ('cli',),
    ),
    'multishift_perception.sample_drive': (
        ('paint',),
        ('street', 'novel'),
        ('traffic', 'light'),
        ('cutouts', 'render'),
        ('drive', 'variety'),
        ('random_frames',),
    ),
    'multishift_training': (
        ('models',),
        ('losses',),
        ('datasets',),
        ('methods',),
        ('checkpoints',),
        ('scores',),
        ('inference',),
        ('export', 'loop'),
        ('evaluation', 'augmentation'),
        ('comparison',),
        ('cli',),
    ),
}


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


def modules(folder: Path, package: str) -> Iterator[tuple[Path, str]]:
    """Yield every module of a package, with the package that it is in."""
    for module in sorted(folder.rglob('*.py')):
        yield module, '.'.join([package, *module.parent.relative_to(folder).parts])


def is_of(name: str, package: str) -> bool:
    """Return whether a dotted name is the package's or of something in it."""
    return name == package or name.startswith(f'{package}.')


def rooms(folder: Path) -> set[str]:
    """Return the names of a package's folders and of the modules beside them, face included."""
    return {path.stem for path in folder.glob('*.py')} | {
        path.parent.name for path in folder.glob('*/*.py')
    }


def climbs(folder: Path, package: str, floors: tuple[tuple[str, ...], ...]) -> list[str]:
    """Return every import, ``MODULE -> NAME``, that is not of the own room or a lower floor."""
    found = []
    known = rooms(folder)
    below: set[str] = set()
    for names in floors:
        for module, own in modules(folder, package):
            name = module.relative_to(folder).parts[0].removesuffix('.py')
            if name not in names:
                continue
            for target in imported(module, own):
                room = target.removeprefix(package).lstrip('.').partition('.')[0]
                # What is no module comes from the face.
                room = room if room in known else '__init__'
                if is_of(target, package) and room not in below | {name}:
                    found.append(f'{module.relative_to(folder)} -> {target}')
        below |= set(names)
    return found


def reached(start: tuple[str, ...], package: str) -> dict[str, str]:
    """Return the names of all that is imported, in turn, from some modules of a package.

    Args:
        start: names of folders and modules of the package.
        package: in ``ROOT``.

    Returns:
        Dotted names, with the module that imports each.
    """
    found: dict[str, str] = {}
    waiting = [f'{package}.{name}' for name in start]
    files = {}
    for module, own in modules(ROOT / package, package):
        name = own if module.stem == '__init__' else f'{own}.{module.stem}'
        files[name] = module, own
    waiting = [name for name in files for root in waiting if is_of(name, root)]
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        for target in imported(*files[name]):
            found.setdefault(target, name)
            # Importing a module runs the faces of the packages that it is in, too.
            parts = target.split('.')
            for length in range(1, len(parts) + 1):
                inner = '.'.join(parts[:length])
                if inner in files and inner not in seen:
                    seen.add(inner)
                    waiting.append(inner)
    return found


def place(package: str) -> Path:
    """Return the folder of a package."""
    return ROOTS.get(package, ROOT) / package.replace('.', '/')


@pytest.mark.parametrize('package', FLOORS)
def test_nothing_imports_from_its_own_floor_or_above(package: str) -> None:
    assert climbs(place(package), package, FLOORS[package]) == []


@pytest.mark.parametrize('package', FLOORS)
def test_everything_stands_on_a_floor(package: str) -> None:
    named = [name for names in FLOORS[package] for name in names]
    assert sorted({*named, '__init__'}) == sorted(rooms(place(package)))
    assert len(named) == len(set(named))


def test_what_drives_knows_nothing_of_what_trains() -> None:
    folder = ROOT / 'multishift_perception'
    assert [
        f'{module.relative_to(folder)} -> {target}'
        for module, own in modules(folder, 'multishift_perception')
        for target in imported(module, own)
        if is_of(target, 'multishift_training')
    ] == []


@pytest.mark.parametrize(
    'absent',
    [
        'multishift_perception.sample_drive',
        'multishift_perception.view',
        'aiohttp',
        'click',
        'jinja2',
        'matplotlib',
        'rerun',
        'rosbags',
    ],
)
def test_the_vehicle_does_without(absent: str) -> None:
    found = reached(('node', 'engine', 'pipeline'), 'multishift_perception')
    assert [f'{by} -> {name}' for name, by in found.items() if is_of(name, absent)] == []


def test_what_is_imported_in_turn_is_found() -> None:
    found = reached(('replay',), 'multishift_perception')
    assert found['jinja2'] == 'multishift_perception.report.page'
    assert found['matplotlib.figure.Figure'] == 'multishift_perception.report.charts'


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


def test_modules_beside_the_folders_stand_on_floors_too(tmp_path: Path) -> None:
    (tmp_path / 'room').mkdir()
    (tmp_path / 'room/wall.py').write_text('from house.stone import mortar\n')
    (tmp_path / 'stone.py').write_text('import os\n')
    (tmp_path / 'roof.py').write_text('from house.room import wall\n')
    floors = (('stone',), ('room',), ('roof',))
    assert climbs(tmp_path, 'house', floors) == []
    (tmp_path / 'stone.py').write_text('from house.room.wall import height\n')
    (tmp_path / 'room/wall.py').write_text('from house import roof\n')
    assert climbs(tmp_path, 'house', floors) == [
        'stone.py -> house.room.wall.height',
        'room/wall.py -> house.roof',
    ]


def test_the_face_may_stand_on_a_floor(tmp_path: Path) -> None:
    (tmp_path / '__init__.py').write_text('from house.door import key\n')
    (tmp_path / 'door.py').write_text('')
    (tmp_path / 'attic.py').write_text('from house import version\n')
    assert climbs(tmp_path, 'house', (('door',), ('__init__',), ('attic',))) == []
    assert climbs(tmp_path, 'house', (('door',), ('attic',))) == ['attic.py -> house.version']
    (tmp_path / 'door.py').write_text('from house import version\n')
    found = climbs(tmp_path, 'house', (('door',), ('__init__',), ('attic',)))
    assert found == ['door.py -> house.version']
