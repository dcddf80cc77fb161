# SPDX-License-Identifier: Apache-2.0
"""What a newcomer reads is true: paths exist, docstrings render, hooks are what CI checks."""

from __future__ import annotations

from pathlib import Path
import re
import runpy

import pytest
import yaml

ROOT = Path(__file__).parents[1]
# What a command or a program writes, and what only users have, is not in the repository.
ABSENT = ('.venv', 'build/', 'demo-report', 'my_', 'runs/')
# In backticks or the target of a link, with a slash or the ending of a file.
PATH = re.compile(r'`([\w.\-]+(?:/[\w.\-]+)*/?)`|\]\(([\w./\-]+)(?:#[\w\-]*)?\)')
ENDINGS = ('.cfg', '.jpg', '.md', '.py', '.rst', '.toml', '.txt', '.xml', '.yaml', '/')
FOLDERS = ('', 'multishift_perception', 'training/multishift_training', 'docs')


def named_paths(text: str) -> list[str]:
    """Return the paths that a Markdown page names, as it has them."""
    found = [quoted or linked for quoted, linked in PATH.findall(text)]
    return [name for name in found if name.endswith(ENDINGS) and not name.startswith(ABSENT)]


def is_there(name: str, beside: Path) -> bool:
    """Return whether a path is one from the page, the root, or the folder of a package."""
    return any((base / name).exists() for base in (beside, *(ROOT / f for f in FOLDERS)))


@pytest.mark.parametrize('page', ['README.md', 'CONTRIBUTING.md', 'docs/architecture.md'])
def test_every_path_that_a_page_names_exists(page: str) -> None:
    names = named_paths((ROOT / page).read_text())
    assert len(names) > 5
    assert [name for name in names if not is_there(name, (ROOT / page).parent)] == []


def test_a_path_that_is_not_there_is_found() -> None:
    text = 'See `no/such.py`, [there](docs/gone.md#part), `loop/` and `multishift demo`.'
    names = named_paths(text)
    assert names == ['no/such.py', 'docs/gone.md', 'loop/']
    assert [name for name in names if not is_there(name, ROOT)] == names[:2]


PAGES = sorted([ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *(ROOT / 'docs').rglob('*.md')])
FENCED = re.compile(r'^```.*?^```$', re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """Return what links may lead to in a Markdown page: its headings, as GitHub names them."""
    headings = re.findall(r'^#+ (.*)$', FENCED.sub('', text), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', h.lower()).replace(' ', '-') for h in headings}


def dead_links(text: str, page: Path) -> list[str]:
    """Return the links of a page to files or headings that are not there."""
    dead = []
    for link in re.findall(r'\]\(([^)\s]+)\)', FENCED.sub('', text)):
        if link.startswith('http'):
            continue
        name, _, anchor = link.partition('#')
        target = page.parent / name
        if not name:
            found = anchor in anchors(text)
        else:
            found = target.exists() and (not anchor or anchor in anchors(target.read_text()))
        if not found:
            dead.append(link)
    return dead


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert dead_links(page.read_text(), page) == []


def test_a_link_that_leads_nowhere_is_found() -> None:
    text = '# A *b*: c\n[1](#a-b-c) [2](#c) [3](docs/gone.md) [4](docs/gpu.md#gone)'
    assert dead_links(text, ROOT / 'README.md') == ['#c', 'docs/gone.md', 'docs/gpu.md#gone']


def test_hooks_before_a_commit_are_the_checks_of_make_lint() -> None:
    makefile = (ROOT / 'Makefile').read_text()
    recipe = re.search(r'^lint:.*\n((?:\t.*\n)+)', makefile, re.MULTILINE)[1]
    checks = [line.strip().replace('$(BIN)', '.venv/bin') for line in recipe.splitlines()]
    config = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())
    assert [repo['repo'] for repo in config['repos']] == ['local']
    hooks = [hook for repo in config['repos'] for hook in repo['hooks']]
    assert [hook['entry'] for hook in hooks] == checks
    assert all(hook['language'] == 'system' and not hook['pass_filenames'] for hook in hooks)


@pytest.mark.parametrize(
    ('docstring', 'count'),
    [
        ('<p>Return <code>uint8 [N]</code>.</p>', 0),
        ('<p>As <code>a = ``b``</code> is written.</p>', 0),
        ('<p>Return ``uint8 [N].</p>', 1),
        ('<p>Args:\n  size: in pixels.</p>', 1),
    ],
)
def test_a_docstring_that_does_not_render_is_found(docstring: str, count: int) -> None:
    faults = runpy.run_path(str(ROOT / 'docs/api.py'))['faults']
    page = f'<p>``</p><div class="docstring">{docstring}</div>'
    assert len(faults(page)) == count
