"""Frozen dataclasses as JSON and back: one key a field, by the field's name.

A field that is None has no key. A number that is not known is NaN in a record and null in a file. Keys that a record
does not have are ignored when it is read, and fields without a key take their default, so that files of other
versions can be read.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from hpcir.errors import InputError

Record = TypeVar("Record")


def to_json(value: object) -> object:
    """A record, or a list or dict of some, as dicts, lists and plain values; NaN stays (see `json_result.finite`)."""
    if is_dataclass(value) and not isinstance(value, type):
        named = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {name: to_json(item) for name, item in named if item is not None}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value.value if isinstance(value, Enum) else value


def as_dict(record: object) -> dict[str, object]:
    """A record as a dict that JSON can hold."""
    found = to_json(record)
    if not isinstance(found, dict):
        raise TypeError(f"{type(record).__name__} is not a record")
    return found


def read_record(kind: type[Record], path: Path) -> Record:
    """The record of a JSON file. Raises InputError when it cannot be read or is not of this kind; FileNotFoundError
    where there is none."""
    return from_json(kind, read_json(path, str(path)), str(path))


def read_json(path: Path, where: str) -> object:
    """The content of a JSON file; raises as `read_record`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", where=where) from error


def from_json(kind: type[Record], content: object, where: str = "") -> Record:
    """The inverse of `to_json`. Raises InputError that names the key where the content is of another kind."""
    found = _value(kind, content, where)
    assert isinstance(found, kind)
    return found


def _record(kind: type, content: object, where: str) -> object:
    if not isinstance(content, Mapping):
        raise _wrong("a table", content, where)
    hints = get_type_hints(kind, include_extras=True)
    found: dict[str, object] = {}
    for field in fields(kind):
        inside = f"{where}: {field.name}" if where else field.name
        if field.name in content:
            found[field.name] = _value(hints[field.name], content[field.name], inside)
        elif _required(field):
            if _bare(hints[field.name]) is not float:
                raise InputError("the key is missing", where=inside)
            found[field.name] = np.nan
    return kind(**found)


def _required(field: Field[object]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _value(kind: object, content: object, where: str) -> object:
    """A value of a type: a record, an enumeration, a plain value, or an optional, tuple or dict of these."""
    kind, origin = _bare(kind), get_origin(_bare(kind))
    if origin in (Union, types.UnionType):
        inner = [item for item in get_args(kind) if item is not type(None)]
        # Null stands for a number that is not known, and for nothing else that is not there.
        return None if content is None and _bare(inner[0]) is not float else _value(inner[0], content, where)
    if origin is tuple:
        return tuple(_each(get_args(kind)[0], content, where))
    if origin is list:
        return _each(get_args(kind)[0], content, where)
    if origin in (dict, Mapping):
        if not isinstance(content, Mapping):
            raise _wrong("a table", content, where)
        inner = get_args(kind)[1]
        return {str(key): _value(inner, item, f"{where}: {key}") for key, item in content.items()}
    if isinstance(kind, type):
        if is_dataclass(kind):
            return _record(kind, content, where)
        if issubclass(kind, Enum):
            return _member(kind, content, where)
        return PLAIN[kind](content, where)
    raise TypeError(f"{kind} has no form in JSON")


def _bare(kind: object) -> object:
    """A type without its unit."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _each(kind: object, content: object, where: str) -> list[object]:
    if not isinstance(content, list):
        raise _wrong("a list", content, where)
    return [_value(kind, item, f"{where}[{number}]") for number, item in enumerate(content)]


def _member(kind: type[Enum], content: object, where: str) -> Enum:
    try:
        return kind(content)
    except ValueError as error:
        raise _wrong("one of " + ", ".join(str(item.value) for item in kind), content, where) from error


def _number(content: object, where: str) -> float:
    if content is None:
        return float("nan")
    if isinstance(content, bool) or not isinstance(content, (int, float)):
        raise _wrong("a number", content, where)
    return float(content)


def _whole(content: object, where: str) -> int:
    if isinstance(content, bool) or not isinstance(content, int):
        raise _wrong("a whole number", content, where)
    return content


def _flag(content: object, where: str) -> bool:
    if not isinstance(content, bool):
        raise _wrong("true or false", content, where)
    return content


def _text(content: object, where: str) -> str:
    if not isinstance(content, str):
        raise _wrong("a text", content, where)
    return content


def _wrong(wanted: str, content: object, where: str) -> InputError:
    return InputError(f"expected {wanted}", where=where, value=content)


# How a value of each plain type is read; `object` is whatever JSON has there.
PLAIN: dict[type, Callable[[object, str], object]] = {
    float: _number,
    int: _whole,
    bool: _flag,
    str: _text,
    object: lambda content, _: content,
}
