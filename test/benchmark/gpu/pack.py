# SPDX-License-Identifier: Apache-2.0
"""Collects what a GPU machine without registries lacks, in one folder under a size limit.

    python test/benchmark/gpu/pack.py [--data FOLDER]... [--skip PACKAGE]...

Run it where packages can be installed. The folder, `gpu-pack/`, travels with the checkout; there,
`make gpu` and `make gpu-train` install from it alone, and only what is missing. PyTorch,
transformers and NumPy are never packed: that machine has them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
import subprocess
import sys
import tarfile

ROOT = Path(__file__).resolve().parents[3]
PACK = ROOT / 'gpu-pack'
MIB = 2**20
LIMIT = 64 * MIB
# In order of value: what is further down is left out where the limit is reached.
PACKAGES = (
    *('pydantic', 'pydantic-core', 'annotated-types', 'typing-inspection', 'typing-extensions'),
    *('click', 'pyyaml', 'tqdm', 'safetensors', 'lightning-fabric', 'lightning-utilities'),
    *('packaging', 'fsspec', 'pillow', 'albumentations', 'albucore', 'stringzilla', 'simsimd'),
    *('jinja2', 'markupsafe', 'scipy', 'opencv-python-headless', 'tensorrt-rtx-cu13'),
)
# Not even fetched: with the checkout they never fit.
TOO_LARGE = {
    'opencv-python-headless': '55 MiB; parts that read images fail where it is missing',
    'tensorrt-rtx-cu13': 'more than 300 MiB; the part says so',
}
_PLATFORMS = ('manylinux2014_x86_64', 'manylinux_2_27_x86_64', 'manylinux_2_28_x86_64')


def pinned(requirements: Path) -> dict[str, str]:
    """Return the pinned requirement of each package, without its marker."""
    lines = (line.partition(';')[0].strip() for line in requirements.read_text().splitlines())
    return {line.partition('==')[0].lower(): line for line in lines if '==' in line}


def download(requirement: str, folder: Path) -> list[Path]:
    """Fetch a package's wheel for Python 3.12 on Linux x86-64; return what came."""
    before = set(folder.glob('*.whl'))
    command = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps']
    command += ['--disable-pip-version-check', '--only-binary', ':all:', '--dest', str(folder)]
    command += ['--python-version', '3.12', '--implementation', 'cp']
    command += [word for platform in _PLATFORMS for word in ('--platform', platform)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f'gpu-pack: pip cannot fetch {requirement}: {last_line(done.stderr)}')
    return sorted(set(folder.glob('*.whl')) - before)


def last_line(text: str) -> str:
    """Return the last line that says something."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), 'no word')


def checkout_size() -> int:
    """Return the bytes of the files that git tracks: they travel too."""
    listed = subprocess.run(
        ['git', '-C', str(ROOT), 'ls-files', '-z'], capture_output=True, check=False
    )
    names = listed.stdout.decode().split('\0') if listed.returncode == 0 else []
    return sum((ROOT / name).stat().st_size for name in names if (ROOT / name).is_file())


def pack_wheels(skipped: Sequence[str], room: int, folder: Path) -> int:
    """Fetch the wheels in order of value while there is room; return the room that is left."""
    requirements = pinned(ROOT / 'requirements.txt')
    for name in PACKAGES:
        if reason := 'skipped' if name in skipped else TOO_LARGE.get(name):
            print(f'left out: {name}: {reason}')
            continue
        for wheel in download(requirements[name], folder):
            size = wheel.stat().st_size
            if size > room:
                print(f'left out: {name}: {size / MIB:.1f} MiB, {room / MIB:.1f} MiB are left')
                wheel.unlink()
                continue
            room -= size
    return room


def pack_data(folders: Sequence[Path], room: int, pack: Path) -> int:
    """Put folders of images into archives as they are; return the room that is left."""
    for folder in folders:
        if not folder.is_dir():
            raise SystemExit(f'gpu-pack: {folder} is no folder: name one that holds images')
        archive = pack / f'{folder.name}.tar'
        with tarfile.open(archive, 'w') as file:  # images are compressed already
            file.add(folder, folder.name)
        size = archive.stat().st_size
        if size > room:
            archive.unlink()
            raise SystemExit(
                f'gpu-pack: {folder} takes {size / MIB:.1f} MiB, {room / MIB:.1f} MiB are left: '
                'name a smaller folder, or leave packages out with --skip'
            )
        print(f'packed: {folder}, {size / MIB:.1f} MiB')
        room -= size
    return room


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the folder anew, and say what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, action='append', default=[], metavar='FOLDER')
    parser.add_argument('--skip', action='append', default=[], choices=PACKAGES, metavar='PACKAGE')
    parser.add_argument('--limit-mib', type=float, default=LIMIT / MIB, help='with the checkout')
    parser.add_argument('--out', type=Path, default=PACK)
    options = parser.parse_args(arguments)
    options.out.mkdir(exist_ok=True)
    for old in (*options.out.glob('*.whl'), *options.out.glob('*.tar')):
        old.unlink()
    checkout = checkout_size()
    room = int(options.limit_mib * MIB) - checkout
    # Data that was asked for goes first: what it leaves no room for is said, package by package.
    room = pack_wheels(options.skip, pack_data(options.data, room, options.out), options.out)
    size = sum(path.stat().st_size for path in options.out.iterdir())
    assert size + checkout <= options.limit_mib * MIB, 'counted wrongly'
    print(
        f'{options.out}: {size / MIB:.1f} MiB, with the checkout {(size + checkout) / MIB:.1f} of '
        f'{options.limit_mib:g} MiB'
    )


if __name__ == '__main__':
    main()
