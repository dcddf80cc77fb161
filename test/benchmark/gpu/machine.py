# SPDX-License-Identifier: Apache-2.0
"""Makes this checkout run on a machine where nothing of it is installed, from the pack alone."""

from __future__ import annotations

from importlib import metadata
import os
from pathlib import Path
import re
import subprocess
import sys

ROOT = Path(__file__).resolve().parents[3]
PACK = ROOT / 'gpu-pack'
# For each Python its own: wheels with compiled parts fit one.
SITE = ROOT / 'build' / f'gpu-site-{sys.implementation.cache_tag}'


def prepare(pack: Path = PACK, site: Path = SITE) -> list[str]:
    """Install what is missing, and let this process and those it starts import everything.

    Args:
        pack: folder of wheels; it need not be there.
        site: where to install to; the machine's own packages stay as they are.

    Returns:
        What was done, in lines.
    """
    site.mkdir(parents=True, exist_ok=True)
    places = [str(site), str(ROOT), str(ROOT / 'training')]
    sys.path[:0] = [place for place in places if place not in sys.path]
    inherited = os.environ.get('PYTHONPATH', '').split(os.pathsep)
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [*places, *inherited]))
    wheels = [wheel for wheel in sorted(pack.glob('*.whl')) if _is_wanted(wheel)]
    if not wheels:
        return ['nothing to install']
    together = _install(wheels, site)
    # One that does not fit this machine must not keep the others out.
    return [together] if together.startswith('inst') else [_install([w], site) for w in wheels]


def _install(wheels: list[Path], site: Path) -> str:
    """Install all of some wheels or none; return in words what became of it."""
    command = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-index', '--no-deps']
    command += ['--no-compile', '--disable-pip-version-check', '--upgrade', '--target', str(site)]
    done = subprocess.run(
        [*command, *map(str, wheels)], capture_output=True, text=True, check=False
    )
    names = ', '.join(wheel.name.split('-')[0] for wheel in wheels)
    if done.returncode == 0:
        return f'installed from the pack: {names}'
    reason = next((x for x in done.stderr.splitlines() if 'ERROR' in x), 'no word')
    return f'cannot install {names} from the pack: {reason.strip()}'


def _is_wanted(wheel: Path) -> bool:
    """Whether this machine has no such package, or an older one."""
    name, version = wheel.name.split('-')[:2]
    try:
        return _order(metadata.version(name)) < _order(version)
    except metadata.PackageNotFoundError:
        return True


def _order(version: str) -> tuple[int, ...]:
    """Return what orders released versions; `packaging` may be missing here."""
    return tuple(int(number) for number in re.findall(r'\d+', version.partition('+')[0]))
