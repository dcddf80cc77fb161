"""What a checkpoint says of itself, read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from multishift_perception.errors import MultishiftError
from multishift_perception.schema.yaml_files import Document
from multishift_training.loop.config import TrainConfig


class Origin(NamedTuple):
    """The configuration that made a checkpoint, and its validation metrics."""

    config: TrainConfig
    metrics: dict[str, Any]


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file.

    Raises:
        MultishiftError: the file is missing or no whole safetensors file.
    """
    try:
        with safe_open(path, framework='np') as file:
            return dict(file.metadata() or {})
    except FileNotFoundError:
        raise MultishiftError(
            f'checkpoint {path} does not exist: give the best.safetensors of a training run'
        ) from None
    except (SafetensorError, OSError) as error:
        raise MultishiftError(
            f'{path} is no whole safetensors file ({error}): copy it again'
        ) from None


def read_origin(path: Path) -> Origin:
    """Return what `multishift train` writes beside the weights.

    Raises:
        MultishiftError: the file is missing, broken, not of `multishift train`, or its
            configuration is not one of this version; the message names the fields.
    """
    metadata = read_metadata(path)
    if 'config' not in metadata or 'metrics' not in metadata:
        lacking = 'config' if 'config' not in metadata else 'metrics'
        raise MultishiftError(
            f'{path} was not written by `multishift train` (it has no `{lacking}`): '
            'build an engine of published weights with `multishift import-checkpoint`'
        )
    mend = 'open it with the version that wrote it, or train again'
    # What trained it is known, whatever it is called since.
    stored = metadata['config'].replace('"kind":"rule_based"', '"kind":"pasted_weather"')
    configuration = Document.of_json(f'{path}, its configuration', stored, mend=mend)
    metrics = Document.of_json(f'{path}, its metrics', metadata['metrics'], mend=mend)
    return Origin(configuration.typed(TrainConfig), metrics.typed(dict[str, Any]))
