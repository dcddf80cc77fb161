# SPDX-License-Identifier: Apache-2.0
"""What the fields of a schema accept, in people's words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from multishift_perception.schema.composed import OneOrList
from multishift_perception.schema.open_union import OpenUnion

_TYPES = {
    bool: 'true or false',
    int: 'a whole number',
    float: 'a number',
    str: 'text',
    Path: 'a path',
    Any: 'anything',
}


@dataclass(frozen=True)
class Words:
    """What a type accepts where its annotation cannot say so: ``Annotated[str, Words('a')]``.

    Attributes:
        text: the words, or what returns them, where they are known later.
    """

    text: str | Callable[[], str]


class Accepted(NamedTuple):
    """A type, and what narrows it.

    Attributes:
        kind: the annotation, without ``Annotated``.
        limits: constraints and other metadata.
        tag: key that tells the members of a union apart, if it is one.
    """

    kind: Any
    limits: tuple[Any, ...] = ()
    tag: str | None = None

    @classmethod
    def of(cls, annotation: Any) -> Accepted:
        """Return what an annotation, or a field of a model, accepts."""
        if isinstance(annotation, FieldInfo):
            return cls.of(annotation.annotation)._narrowed(annotation)
        if get_origin(annotation) is not Annotated:
            return cls(annotation)
        kind, *metadata = get_args(annotation)
        found = cls.of(kind)
        for part in metadata:
            found = found._narrowed(part)
        return found

    def _narrowed(self, part: Any) -> Accepted:
        """Return the same with a part of its metadata."""
        if isinstance(part, OpenUnion):
            return self._replace(kind=part.union, tag=part.tag)
        if not isinstance(part, FieldInfo):
            return self._replace(limits=(*self.limits, part))
        found = self
        for inner in part.metadata:
            found = found._narrowed(inner)
        tag = part.discriminator
        return found._replace(tag=tag) if isinstance(tag, str) else found

    @property
    def members(self) -> tuple[Any, ...]:
        """The types that a union joins, without null; the type alone where it is none."""
        if get_origin(self.kind) in (Union, UnionType):
            return tuple(member for member in get_args(self.kind) if member is not NoneType)
        return (self.kind,)

    @property
    def without_null(self) -> Accepted:
        """The same where null is not meant."""
        if len(self.members) > 1 or self.members[0] is self.kind:
            return self
        inner = Accepted.of(self.members[0])
        return inner._replace(limits=(*inner.limits, *self.limits), tag=inner.tag or self.tag)

    @property
    def forms(self) -> tuple[Any, ...]:
        """The types of one entry and of a list, where both are accepted; else nothing."""
        return self.members if OneOrList() in self.limits else ()

    @property
    def choices(self) -> tuple[str, ...]:
        """Words of which one is accepted; of a tagged union, those of its tag."""
        accepted = self.without_null
        if accepted.tag:
            return tuple(tag_of(model, accepted.tag) for model in accepted.members)
        return get_args(accepted.kind) if get_origin(accepted.kind) is Literal else ()


def tag_of(model: type[BaseModel], key: str = 'kind') -> str:
    """Return the word by which a model is chosen among others; empty where there is none."""
    field = model.model_fields.get(key)
    if field is None or get_origin(field.annotation) is not Literal:
        return ''
    word, *others = get_args(field.annotation)
    return '' if others else str(word)


def _keys(models: Sequence[type[BaseModel]], tag: str | None) -> str:
    if tag:
        return f'keys with `{tag}`: {one_of([tag_of(model, tag) for model in models])}'
    return f'the keys {", ".join(models[0].model_fields)}'


def words(
    annotation: Any,
    models: Callable[[Sequence[type[BaseModel]], str | None], str] = _keys,
) -> str:
    """Return what an annotation, or a field of a model, accepts.

    Args:
        annotation: the annotation or field.
        models: gives the words for a model, or for several and the key that tells them apart.
    """
    accepted = annotation if isinstance(annotation, Accepted) else Accepted.of(annotation)
    for limit in accepted.limits:
        if isinstance(limit, Words):
            return limit.text if isinstance(limit.text, str) else limit.text()
    if accepted.without_null != accepted:
        return f'{words(accepted.without_null, models)}, or null'
    if accepted.forms:
        return ', or '.join(words(form, models) for form in accepted.forms)
    kind, origin, inner = accepted.kind, get_origin(accepted.kind), get_args(accepted.kind)
    if all(isinstance(m, type) and issubclass(m, BaseModel) for m in accepted.members):
        return models(accepted.members, accepted.tag)
    if origin is Literal:
        return one_of([str(choice) for choice in inner])
    if origin is list:
        length = ''.join(f' {bound}' for bound in _bounds(accepted.limits))
        return f'a list{length}, each entry {words(inner[0], models)}'
    if origin is tuple:
        entries = list(dict.fromkeys(words(entry, models) for entry in inner))
        each = f'each {entries[0]}' if len(entries) == 1 else ', '.join(entries)
        return f'a list of {len(inner)} entries, {each}'
    if origin is dict:
        key, value = (words(part, models) for part in inner)
        return f'lines `key: value`, key {key}, value {value}'
    return f'{_TYPES[kind]}{_range(accepted.limits)}'


def one_of(choices: Sequence[str]) -> str:
    """Return choices as ``a, b or c``."""
    *others, last = choices
    return f'{", ".join(others)} or {last}' if others else last


def check_name(name: str, sort: str, names: Collection[str]) -> str:
    """Return a name that is one of some; what a field of a schema validates by.

    Args:
        name: what was given.
        sort: what it names, such as ``network``.
        names: those that there are; two or more.

    Raises:
        ValueError: it is none of them.
    """
    if name not in names:
        hint = did_you_mean(name, names)
        raise ValueError(f'{name} is no {sort}{hint}, expected {one_of(list(names))}')
    return name


def did_you_mean(given: object, choices: Iterable[object]) -> str:
    """Return `` (did you mean ...?)`` for what is nearly one of the choices; else nothing."""
    by_lower = {str(choice).lower(): choice for choice in choices}
    near = get_close_matches(str(given).lower(), by_lower, 1)
    return f' (did you mean {by_lower[near[0]]}?)' if near else ''


def _range(limits: Iterable[Any]) -> str:
    """Return least and largest value or number of entries, with a comma before them."""
    found = {type(limit): limit for limit in limits}
    low, high = found.get(annotated_types.Ge), found.get(annotated_types.Le)
    if low and high:
        return f' from {low.ge} to {high.le}'
    parts = list(_bounds(found.values()))
    return f', {", ".join(parts)}' if parts else ''


def _bounds(limits: Iterable[Any]) -> Iterator[str]:
    for limit in limits:
        match limit:
            case annotated_types.Ge(ge=low):
                yield f'{low} or more'
            case annotated_types.Gt(gt=low):
                yield f'above {low}'
            case annotated_types.Le(le=high):
                yield f'at most {high}'
            case annotated_types.Lt(lt=high):
                yield f'below {high}'
            case annotated_types.MinLen(min_length=least):
                yield f'of {least} or more'
            case annotated_types.MaxLen(max_length=most):
                yield f'of at most {most}'
            case _ if pattern := getattr(limit, 'pattern', None):
                yield f'of the form {pattern}'
