# SPDX-License-Identifier: Apache-2.0
"""The ``config.json`` of a Hugging Face folder, which says what network to build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import json
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from multishift_perception.errors import MultishiftError


def read_config(path: Path, kind: str, name: str) -> dict[str, Any]:
    """Return the fields of a ``config.json``.

    Args:
        path: of the file.
        kind: its ``model_type``.
        name: of such networks, in words.

    Raises:
        MultishiftError: there is no such file, it is broken, or describes another network.
    """
    try:
        fields = json.loads(path.read_bytes())
    except OSError as error:
        raise MultishiftError(
            f'cannot read {path} ({error.strerror}): `folder` must be one that `transformers` '
            'saved, with config.json and model.safetensors'
        ) from error
    except ValueError as error:
        raise MultishiftError(f'{path} is not JSON ({error}): download it again') from error
    if not isinstance(fields, dict):
        raise MultishiftError(f'{path} holds no object: download it again')
    found = fields.get('model_type')
    if found != kind:
        raise MultishiftError(
            f"{path}: model_type is {found!r}, not '{kind}': give a {name} folder"
        )
    return fields


@contextmanager
def building(path: Path) -> Iterator[None]:
    """Say which file it is that `transformers` can make no network of.

    Raises:
        MultishiftError: what is done inside fails.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, StrictDataclassError) as error:
        fault = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise MultishiftError(
            f'{path} describes no network that `transformers` can build ({fault}): mend the '
            'field, download it again, or update `transformers`'
        ) from error


def check_config(path: Path, config: Any, num_classes: int, wanted: Mapping[str, Any]) -> None:
    """See that a configuration has as many classes, and options that are supported here.

    Args:
        path: of its file.
        config: of `transformers`.
        num_classes: known classes.
        wanted: by name of an option, its only value.

    Raises:
        MultishiftError: if not; the message names the option.
    """
    if config.num_labels != num_classes:
        raise MultishiftError(
            f'{path} has {config.num_labels} labels, the model is made for {num_classes} classes: '
            f'set num_classes to {config.num_labels}'
        )
    for name, value in wanted.items():
        if getattr(config, name) != value:
            raise MultishiftError(
                f'{path}: {name} is {getattr(config, name)!r}; only {value!r} is supported here'
            )
