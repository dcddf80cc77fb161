"""The YAML files that name the data sets to evaluate on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from multishift_perception.errors import MultishiftError, schema_faults
from multishift_perception.files import read_yaml
from multishift_training.datasets import ImageData, ValidationData

_IMAGES: TypeAdapter[ImageData] = TypeAdapter(ImageData)
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
            found[name] = _validated(path, name, description)
    return found


def _read(path: Path) -> dict[str, Any]:
    content = read_yaml(path, 'a YAML file that describes data sets')
    if not isinstance(content, dict) or not content:
        raise MultishiftError(f'{path} describes no data set: expected lines such as {_EXAMPLE}')
    if _is_description(content):
        return {path.stem: content}
    return {str(name): description for name, description in content.items()}


def _is_description(content: Mapping[Any, Any]) -> bool:
    """Tell one description from data sets by name: its ``kind`` is a word, not a mapping."""
    inner = content.get('images', content)
    return isinstance(inner, dict) and isinstance(inner.get('kind'), str)


def _validated(path: Path, name: str, description: Any) -> ValidationData:
    if not isinstance(description, dict):
        raise MultishiftError(f'{path}: {name} is no description: expected {_EXAMPLE}')
    try:
        if 'images' in description and 'kind' not in description:
            return ValidationData.model_validate(description)
        return ValidationData(images=_IMAGES.validate_python(description))
    except ValidationError as error:
        raise MultishiftError(f'{path}: {name}: {schema_faults(error)}') from None
