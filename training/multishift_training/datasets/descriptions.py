# SPDX-License-Identifier: Apache-2.0
"""The YAML files that name data sets to evaluate, fit or calibrate on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from multishift_perception.errors import MultishiftError
from multishift_perception.schema.yaml_files import Document, read_document
from multishift_training.datasets.kinds import ImageData
from multishift_training.datasets.training_data import ValidationData

# A union, which mypy takes for no type.
_IMAGES: Any = ImageData
_EXAMPLE = '`name: {kind: camvid, split: val}`'


def read_datasets(paths: Sequence[Path]) -> dict[str, ValidationData]:
    """Read descriptions of data sets, by name.

    A file is a mapping from names to descriptions, or one description, which is then named after
    the file. A description is one of images (``kind: ...``), or of images and of outliers to
    paste into them (``images: {kind: ...}``, ``outliers: {kind: ...}``).

    Raises:
        MultishiftError: a file is missing, no YAML, describes nothing or has a wrong field, or
            two data sets have one name.
    """
    found: dict[str, ValidationData] = {}
    for path in paths:
        for name, description in _read(path).items():
            if name in found:
                raise MultishiftError(f'{path}: {name} is described twice: rename one of them')
            found[name] = _validated(name, description)
    return found


def _read(path: Path) -> dict[str, Document]:
    document = read_document(path, f'a file that describes data sets, in lines such as {_EXAMPLE}')
    if _is_description(document.content):
        return {path.stem: document}
    return {str(name): document.at(name) for name in document.content}


def _is_description(content: Mapping[Any, Any]) -> bool:
    """Tell one description from data sets by name: its ``kind`` is a word, not a mapping."""
    inner = content.get('images')
    described = (content, inner) if isinstance(inner, dict) else (content,)
    return any(isinstance(part.get('kind'), str) for part in described)


def _validated(name: str, description: Document) -> ValidationData:
    if not isinstance(description.content, dict):
        where = description.where
        raise MultishiftError(f'{where}: {name} is no description: expected {_EXAMPLE}')
    if 'images' in description.content and 'kind' not in description.content:
        return description.typed(ValidationData)
    return ValidationData(images=description.typed(_IMAGES))
