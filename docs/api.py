# SPDX-License-Identifier: Apache-2.0
"""Write the reference of both packages from their docstrings: `make docs`.

It ends with an error where a module does not import, a face promises a name that it has not, or a
docstring does not render.
"""

from __future__ import annotations

from collections.abc import Iterator
import importlib
from pathlib import Path
import pkgutil
import re
import sys
import warnings

import pdoc
import pdoc.render

PACKAGES = ('multishift_perception', 'multishift_training')
_DOCSTRING = re.compile(r'<div class="docstring">(.*?)</div>', re.DOTALL)
_CODE = re.compile(r'<(code|pre)\b.*?</\1>', re.DOTALL)
# Backticks that open or close nothing, and sections that stayed text.
_LEFT = re.compile(r'``|<p>(?:Args|Attributes|Example|Raises|Returns|Yields):')


def faults(page: str) -> list[str]:
    """Return what did not render in the docstrings of an HTML page, with the words around it."""
    found = []
    for docstring in _DOCSTRING.findall(page):
        text = _CODE.sub('', docstring)
        found += [
            text[max(match.start() - 40, 0) : match.end() + 40] for match in _LEFT.finditer(text)
        ]
    return found


def names() -> Iterator[str]:
    """Import every module of the packages, and yield its name."""
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        yield package
        for found in pkgutil.walk_packages(path, f'{package}.', onerror=_fail):
            module = importlib.import_module(found.name)
            # What a face imports when it is asked for, pdoc would not find.
            for name in getattr(module, '__all__', ()):
                vars(module).setdefault(name, getattr(module, name))
            yield found.name


def _fail(name: str) -> None:
    raise ImportError(f'{name} does not import') from sys.exception()


def main(out: Path) -> None:
    """Write the pages to a folder."""
    pdoc.render.configure(docformat='google', search=True, show_source=True)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        # Fields of dataclasses whose types are imported for type checkers alone: shown as written.
        warnings.filterwarnings('ignore', 'Error parsing type annotation')
        # The folders that pdoc opens by itself.
        warnings.filterwarnings('ignore', 'The module specification')
        pdoc.pdoc(*names(), output_directory=out)
    broken = [
        f'{page.relative_to(out)}: {fault!r}'
        for page in sorted(out.rglob('*.html'))
        for fault in faults(page.read_text('utf-8'))
    ]
    if broken:
        sys.exit('\n'.join(['These docstrings do not render:', *broken]))
    print(f'Written: {out / "index.html"}')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
