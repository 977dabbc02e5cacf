"""Errors that pydantic finds in a deck as messages to users: the line, the key, the value, and a correct form."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from hpcir.errors import InputError
from hpcir.storage.yaml_lines import KeyPath, YamlFile, dotted, shorten
from hpcir.units import is_number

_KINDS = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list such as [a, b]",
    "finite_number": "must be a finite number",
    "dict_type": "must be lines of 'name: value'",
    "model_type": "must be a section of 'key: value' lines",
}


def translate(error: ValidationError, file: YamlFile, model: type[BaseModel]) -> list[InputError]:
    """One InputError for each key of the file that the model refuses, in the order of the lines."""
    by_key: dict[KeyPath, list[Any]] = {}
    for item in error.errors(include_url=False):
        by_key.setdefault(_key_of(item, file.value), []).append(item)
    # An alternative of a union that failed deeper in the value explains more than one that refused all of it.
    keys = [key for key in by_key if not any(other != key and other[: len(key)] == key for other in by_key)]
    found = [_one(key, by_key[key], file, model) for key in sorted(keys, key=file.line)]
    return found


def join(errors: Iterable[InputError]) -> InputError:
    """Several errors as one, a line each."""
    several = list(errors)
    return several[0] if len(several) == 1 else InputError("\n".join(str(error) for error in several))


def nearest(word: str, valid: Iterable[str]) -> str:
    """A hint with the nearest valid word, or all of them."""
    words = sorted(valid)
    close = get_close_matches(word.lower(), words, 1, 0.6)
    return f"did you mean '{close[0]}'?" if close else "valid: " + ", ".join(words)


def _key_of(item: Any, data: Any) -> KeyPath:
    """The keys of an error's location that are keys of the file (pydantic adds the names of union branches)."""
    key: list[str | int] = []
    for part in item["loc"]:
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and isinstance(part, int)):
            key.append(part)
            data = data[part]
    if item["type"] == "missing":
        key.append(item["loc"][-1])
    return tuple(key)


def _one(key: KeyPath, items: list[Any], file: YamlFile, model: type[BaseModel]) -> InputError:
    kind = items[0]["type"]
    if kind == "missing":
        field = _fields(model, key[:-1]).get(str(key[-1]))
        hint = f"give the {field.description}" if field is not None else ""
        return InputError("the key is missing", where=file.where(key), hint=hint)
    if kind == "extra_forbidden":
        return InputError("there is no such key", where=file.where(key), hint=_unknown_key(key, model))
    written = _written(key, file.value)
    hints: list[str] = []
    whats = [_what(item, written, hints) for item in items]
    if written is None:
        whats = [f"no value after the colon; it {what}" if what.startswith("must") else what for what in whats]
        hints.append("give a value, or remove the line for the default")
    return InputError(
        " or ".join(dict.fromkeys(whats)), where=file.where(key), value=_shown(written), hint="; ".join(hints)
    )


def _what(item: Any, written: Any, hints: list[str]) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        valid = [word.strip().strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
        if isinstance(written, str):
            close = get_close_matches(written.lower(), valid, 1, 0.6)
            hints += [f"did you mean '{close[0]}'?"] if close else []
        return "must be " + (" or ".join(valid) if len(valid) < 3 else ", ".join(valid[:-1]) + " or " + valid[-1])
    limits = {"greater_than": ("gt", "more than"), "greater_than_equal": ("ge", "at least")}
    limits |= {"less_than": ("lt", "less than"), "less_than_equal": ("le", "at most")}
    if kind in limits:
        name, words = limits[kind]
        return f"must be {words} {context[name]:g}"
    if kind in ("too_short", "too_long"):
        number = context.get("min_length", context.get("max_length"))
        return f"must have {'at least' if kind == 'too_short' else 'at most'} {number} item{'s'[: number != 1]}"
    if kind in _KINDS:
        if isinstance(written, str) and kind in ("int_type", "float_type") and is_number(written):
            hints.append("write it without quotes")
        if kind == "string_type" and isinstance(written, (int, float)):
            hints.append("write it in quotes")
        return _KINDS[kind]
    return str(item["msg"])[:1].lower() + str(item["msg"])[1:]


def _unknown_key(key: KeyPath, model: type[BaseModel]) -> str:
    """A hint for an unknown key: the nearest one of its section, or the section that has a key of that name."""
    name = str(key[-1])
    here = _fields(model, key[:-1])
    if get_close_matches(name.lower(), list(here), 1, 0.75):
        return nearest(name, here)
    for path in _sections(model):
        if path != key[:-1] and name in _fields(model, path):
            return f"it belongs to {dotted(path)}" if path else "it belongs to the top of the deck, not indented"
    return nearest(name, here)


def _fields(model: type[BaseModel], path: KeyPath) -> dict[str, Any]:
    """The fields of the section at a path; none where the path leads to no section."""
    for part in path:
        if isinstance(part, int):  # an item of the list of sections before
            continue
        field = model.model_fields.get(part)
        kind = None if field is None else field.annotation
        kind = next(iter(get_args(kind)), kind)
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return {}
        model = kind
    return dict(model.model_fields)


def _sections(model: type[BaseModel], path: KeyPath = ()) -> list[KeyPath]:
    found = [path]
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += _sections(field.annotation, (*path, name))
    return found


def _written(key: KeyPath, data: Any) -> Any:
    for part in key:
        data = data[part]
    return data


def _shown(written: Any) -> Any:
    if written is None:
        return None
    if isinstance(written, str):
        return shorten(written)
    if isinstance(written, (bool, int, float)):
        return written
    return shorten(repr(written))
