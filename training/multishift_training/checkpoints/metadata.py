# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint says of itself, read without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
import json
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, Protocol

from pydantic import AfterValidator, BaseModel, Field, model_validator
from safetensors import SafetensorError, safe_open

from multishift_perception.classes import CITYSCAPES, SemanticClass
from multishift_perception.engine.manifest import ClassEntry
from multishift_perception.errors import MultishiftError
from multishift_perception.images.class_table import differences
from multishift_perception.schema.open_union import OpenUnion
from multishift_perception.schema.words import Words, check_name, one_of, tag_of
from multishift_perception.schema.yaml_files import Document
from multishift_training import models
from multishift_training.datasets import Size, ValidationData
from multishift_training.methods import Method, registered

# Of `best.safetensors` and `last.pt`; those of the first version do not say it.
SCHEMA = 2
# As a run's weights: those of the installed package.
IMAGENET = 'imagenet'
# ``Any`` for mypy, which does not take an annotated union for a type.
_METHOD: Any = Annotated[Method, OpenUnion(registered)]
# A method that is not known may be one of a package that is not installed here.
_MEND = 'open it with the version and the packages that wrote it, or train again'


class NetworkConfig(Protocol):
    """What a configuration says of a network.

    Attributes:
        model: its name.
        folder: Hugging Face folder that says what to build, of the network that needs one.
    """

    model: str
    folder: Path | None


def check_folder(network: NetworkConfig) -> None:
    """See that a folder is given where the network takes its structure from one, and only there.

    Raises:
        ValueError: if not.
    """
    if (network.folder is not None) != (network.model in models.FROM_FOLDER):
        names = ' or '.join(models.FROM_FOLDER)
        raise ValueError(f'folder goes with model {names}, and only with these')


ModelName = Annotated[
    str,
    AfterValidator(lambda name: check_name(name, 'network', models.NAMES)),
    Words(lambda: one_of(list(models.NAMES))),
]


class RunStage(BaseModel):
    """What reading a network needs of a stage that trained it.

    Attributes:
        name: of the stage.
        method: its configuration; it is read where the method changed the network itself.
    """

    name: str
    method: dict[str, Any]


class _Stages(BaseModel):
    stages: list[RunStage] = Field(min_length=1)


class Run(_Stages):
    """What reading a trained network needs of the configuration that made it.

    Other keys are left alone: whatever becomes of them, the network can be opened.

    Attributes:
        model: name of the network.
        folder: of ``eomt`` and ``mask2former``: the Hugging Face folder that says what to build.
        val: what it was validated on.
        engine_size: rows and columns of the engine that it was trained for.
        workers: processes that load data.
        stages: in order.
    """

    model: ModelName
    folder: Path | None = None
    val: ValidationData
    engine_size: Size | None = None
    workers: int = Field(default=4, ge=0)

    @model_validator(mode='after')
    def _fitting(self) -> Run:
        check_folder(self)
        return self


class Origin(NamedTuple):
    """What `multishift train` writes beside the weights.

    Attributes:
        run: what reading them needs.
        adapting: the methods that the network was adapted by, in order: those of the runs that it
            goes on from, and its own.
        configuration: all of it, as it was stored.
        metrics: of the validation.
        classes: that the network knows, in order of its outputs.
        credits: whom to name for what the weights learned from that the run started from.
    """

    run: Run
    adapting: tuple[Method, ...]
    configuration: dict[str, Any]
    metrics: dict[str, Any]
    classes: tuple[SemanticClass, ...] = CITYSCAPES
    credits: tuple[str, ...] = ()


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
        MultishiftError: the file is missing, broken, not of `multishift train`, of a version that
            this one cannot read, or a key that is needed is wrong; the message names it.
    """
    return origin_of(path, read_metadata(path))


def origin_of(path: Path, metadata: Mapping[str, str]) -> Origin:
    """Return what metadata say, as a checkpoint of `multishift train` has them.

    Args:
        path: where they come from, for what is raised.
        metadata: the metadata.

    Raises:
        MultishiftError: as `read_origin`.
    """
    if 'config' not in metadata or 'metrics' not in metadata:
        lacking = 'config' if 'config' not in metadata else 'metrics'
        raise MultishiftError(
            f'{path} was not written by `multishift train` (it has no `{lacking}`): '
            'build an engine of published weights with `multishift import-checkpoint`'
        )
    configuration = _configuration(path, metadata)
    metrics = Document.of_json(f'{path}, its metrics', metadata['metrics'], mend=_MEND)
    run = configuration.typed(Run)
    return Origin(
        run,
        _adapting(path, metadata, configuration),
        configuration.content,
        metrics.typed(dict[str, Any]),
        _classes(path, metadata),
        _credits(path, metadata),
    )


def metadata_of(
    configuration: Mapping[str, Any],
    metrics: Mapping[str, Any],
    *,
    classes: Sequence[SemanticClass],
    inherited: Sequence[Mapping[str, Any]] = (),
    credits: Sequence[str] = (),
) -> dict[str, str]:
    """Return the metadata of a checkpoint, which `origin_of` reads.

    Args:
        configuration: of the run that trained it, the whole of it.
        metrics: of the validation.
        classes: that the network knows, in order of its outputs.
        inherited: configurations of the methods that the network was adapted by already whose
            weights the run started from.
        credits: whom to name for what those weights learned from.
    """
    return {
        'schema': str(SCHEMA),
        'config': json.dumps(configuration, separators=(',', ':')),
        'metrics': json.dumps(metrics),
        'classes': json.dumps([asdict(known) for known in classes]),
        'inherited': json.dumps(inherited),
        'credits': json.dumps(credits),
    }


def _classes(path: Path, metadata: Mapping[str, str]) -> tuple[SemanticClass, ...]:
    """Return the classes of a checkpoint; earlier versions knew Cityscapes' alone."""
    if 'classes' not in metadata:
        return CITYSCAPES
    document = Document.of_json(f'{path}, its classes', metadata['classes'], mend=_MEND)
    entries = document.typed(list[ClassEntry])
    return tuple(SemanticClass(entry.name, entry.color) for entry in entries)


def _credits(path: Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
    stored = metadata.get('credits', '[]')
    document = Document.of_json(f'{path}, its credits', stored, mend=_MEND)
    return tuple(document.typed(list[str]))


def check_same_classes(path: Path, classes: Sequence[SemanticClass]) -> None:
    """See that weights that a run starts from know its classes, where they say which they know.

    Raises:
        MultishiftError: the file is no whole safetensors file, or its classes are others; the
            message names those that differ.
    """
    metadata = _of_ours(path)
    if metadata is None:
        return
    found = _classes(path, metadata)
    if [c.name for c in found] == [c.name for c in classes]:
        return
    theirs, ours = differences(found, classes)
    parts = [
        f'{words} {", ".join(names)}'
        for words, names in (('they alone know', theirs), ('the data alone have', ours))
        if names
    ]
    raise MultishiftError(
        f'weights: {path} were trained for other classes than those of data.images '
        f'({"; ".join(parts) or "the order differs"}): start from weights of the same classes, '
        f'or from {IMAGENET}'
    )


class Ancestry(NamedTuple):
    """What a run takes over with the weights that it starts from.

    Attributes:
        adapting: methods that the network was adapted by, in order.
        configuration: of the run that trained them, as it was stored; empty where that was none
            of ours.
        credits: as those of an `Origin`.
    """

    adapting: tuple[Method, ...] = ()
    configuration: Mapping[str, Any] = MappingProxyType({})
    credits: tuple[str, ...] = ()


def read_ancestry(path: Path) -> Ancestry:
    """Return what a run takes over with the weights of a file that it starts from.

    With those that `multishift train` has not written, it is nothing.

    Raises:
        MultishiftError: the file is no whole safetensors file, or of a version that this one
            cannot read.
    """
    metadata = _of_ours(path)
    if metadata is None:
        return Ancestry()
    configuration = _configuration(path, metadata)
    adapting = _adapting(path, metadata, configuration)
    return Ancestry(adapting, configuration.content, _credits(path, metadata))


def _of_ours(path: Path) -> dict[str, str] | None:
    """Return the metadata of weights that `multishift train` wrote; None of others."""
    if not path.is_file() or path.suffix != '.safetensors':
        return None
    metadata = read_metadata(path)
    return metadata if {'config', 'metrics'} <= metadata.keys() else None


def each_kind_once(inherited: Iterable[Method], own: Iterable[Method]) -> tuple[Method, ...]:
    """Return what a run's network is adapted by, in order.

    Args:
        inherited: what that of the weights was adapted by that the run starts from.
        own: methods of the run's stages, all of them. One that was inherited too is adapted at its
            place there, as it is configured here.
    """
    found = {method.kind: method for method in inherited}
    first: dict[str, Method] = {}
    for method in own:
        if type(method).adapt is not Method.adapt:
            first.setdefault(method.kind, method)
    return tuple((found | first).values())


def _configuration(path: Path, metadata: Mapping[str, str]) -> Document:
    check_schema(path, metadata.get('schema', '1'), mend=_MEND)
    # What an earlier version called rule_based. Of a new configuration that is refused, see
    # `refuse_renamed`; of a stored one it is known what is meant.
    stored = metadata['config'].replace('"kind":"rule_based"', '"kind":"pasted_weather"')
    return Document.of_json(f'{path}, its configuration', stored, mend=_MEND)


def check_schema(path: Path, schema: object, *, mend: str) -> None:
    """See that a file of a run is of a version that can be read.

    Args:
        path: of the file.
        schema: the version that it says it is of.
        mend: what to do where it is not.

    Raises:
        MultishiftError: if not.
    """
    known = [str(version) for version in range(1, SCHEMA + 1)]
    if str(schema) not in known:
        raise MultishiftError(
            f'{path}: its schema is version {schema}, this program reads {one_of(known)}: {mend}'
        )


def _adapting(
    path: Path, metadata: Mapping[str, str], configuration: Document
) -> tuple[Method, ...]:
    """Return the methods that changed the network itself, each kind once.

    Only of these the keys must be those of this version.
    """
    stored = metadata.get('inherited', '[]')
    inherited = Document.of_json(f'{path}, its inherited methods', stored, mend=_MEND)
    return each_kind_once(inherited.typed(list[_METHOD]), _own_adapting(configuration))


def _own_adapting(configuration: Document) -> Iterator[Method]:
    # A list: what a damaged file has for a kind may have no hash.
    plain = [tag_of(method) for method in registered() if method.adapt is Method.adapt]
    for place, stage in enumerate(configuration.typed(_Stages).stages):
        if stage.method.get('kind') not in plain:
            yield configuration.at('stages').at(place).at('method').typed(_METHOD)
