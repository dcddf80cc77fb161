# SPDX-License-Identifier: Apache-2.0
"""The HTML pages of all reports: each is one file that holds everything it shows."""

from __future__ import annotations

import base64
from pathlib import Path

import jinja2

from multishift_perception import files
from multishift_perception.report.text import percent

HTML = 'report.html'


def write_report_files(folder: Path, *, numbers: str, page: str) -> Path:
    """Write a report, each file whole or not at all; other files in the folder stay.

    Args:
        folder: where to write; it is made if it is not there.
        numbers: what ``metrics.json`` is to hold.
        page: what ``report.html`` is to hold.

    Returns:
        Path of the page.
    """
    files.write_text(folder / files.METRICS, numbers)
    files.write_text(folder / HTML, page)
    return folder / HTML


def environment(*folders: jinja2.BaseLoader) -> jinja2.Environment:
    """Return what renders the pages: ``page.html.j2`` and ``parts.html.j2`` are for all of them.

    Args:
        folders: where templates are, besides those of this package.
    """
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader([*folders, jinja2.PackageLoader(__package__)]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters.update(percent=percent, jpeg=_jpeg_uri, rgb=_rgb)
    return made


def _jpeg_uri(data: bytes) -> str:
    return 'data:image/jpeg;base64,' + base64.b64encode(data).decode()


def _rgb(color: tuple[int, int, int]) -> str:
    return 'rgb({}, {}, {})'.format(*color)
