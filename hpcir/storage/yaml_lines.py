"""YAML that remembers its lines: the safe loader, plus duplicate keys, tabs and odd tags refused with their place.

Scalars follow YAML 1.2 where PyYAML (YAML 1.1) surprises: `1e-3` is a number, `1:30` and dates stay
text, `010` is ten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hpcir.errors import InputError

KeyPath = tuple[str | int, ...]

# A deck is a page or two; anything far larger is another file, or one made to exhaust the memory by its aliases.
MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_DEPTH = 30

_TAG = "tag:yaml.org,2002:"
_FLOAT = re.compile(r"^[+-]?(?:\d+\.?\d*|\.\d+)[eE][+-]?\d+$")
_ZERO_LED = re.compile(r"^[+-]?0\d+$")


@dataclass
class YamlFile:
    """The content of a YAML file, and the line (from 1) of every key and list item by its path of keys."""

    path: Path
    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[InputError] = field(default_factory=list)

    def line(self, key: KeyPath) -> int:
        """The line of a key, or of the nearest section above it that is written in the file."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def where(self, key: KeyPath) -> str:
        """The place of a key for a message: 'FILE:LINE: key.path'."""
        place = f"{self.path}:{self.line(key)}"
        return f"{place}: {dotted(key)}" if key else place

    def line_of(self, error: InputError) -> int:
        """The line that an error about this file names (0 where it names none)."""
        number = error.where.removeprefix(f"{self.path}:").split(":", 1)[0]
        return int(number) if number.isdecimal() else 0


def dotted(key: KeyPath) -> str:
    """A path of keys as a user would write it: 'model.hidden[2]' (list items count from 1)."""
    text = ""
    for part in key:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_yaml(path: str | Path) -> YamlFile:
    """Read one YAML file whose top is a mapping.

    Raises InputError when it cannot be read or is not YAML; what is wrong with single keys (written twice, an
    odd tag) is collected in `problems`, so that a caller can report it with everything else.
    """
    file = YamlFile(Path(path))
    root = _compose(file.path, _read_text(file.path))
    if root is None:
        raise InputError(
            "the deck is empty", where=str(file.path), hint="`hpcir init STRUCTURE.xyz` writes one that runs"
        )
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        raise InputError(
            f"the deck is {kind}, not sections of 'key: value' lines",
            where=f"{file.path}:{root.start_mark.line + 1}",
            hint="`hpcir init STRUCTURE.xyz` writes a deck that runs",
        )
    _Reader(file).fill(root)
    return file


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise InputError("this is a folder, not a deck", where=str(path))
        if path.stat().st_size > MAX_BYTES:
            raise InputError("the file is too large for a deck", where=str(path), value=f"{path.stat().st_size} bytes")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError("the deck does not exist", where=str(path), hint="check the path") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"the deck is not a text file: byte {error.start} is not UTF-8", where=str(path), hint="a deck is YAML text"
        ) from None
    except OSError as error:
        raise InputError(f"the deck cannot be read: {error.strerror}", where=str(path)) from None


def _compose(path: Path, text: str) -> yaml.Node | None:
    """The YAML node tree, or an InputError in place of the parser's own words."""
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        return node
    except RecursionError:
        raise InputError("the deck is nested too deeply", where=str(path)) from None
    except yaml.reader.ReaderError as error:
        raise InputError(
            f"the deck is not a text file: {error.reason}",
            where=str(path),
            value=chr(error.character) if isinstance(error.character, int) else None,
            hint="a deck is YAML text",
        ) from None
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(path, text, error) from None


def _not_yaml(path: Path, text: str, error: yaml.MarkedYAMLError) -> InputError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    rows = text.splitlines() or [""]
    row = rows[min(line, len(rows)) - 1]
    if "\t" in row and "\\t" in str(error.problem):
        return InputError(
            "a tab, where YAML needs spaces",
            where=f"{path}:{line}",
            value=shorten(row),
            hint="replace the tab by spaces; keys of one section start in the same column",
        )
    problem = (error.problem or error.context or "cannot be parsed").strip()
    context = f" ({error.context})" if error.context and error.context != problem else ""
    return InputError(
        f"not YAML: {problem}{context}",
        where=f"{path}:{line}",
        value=shorten(row.strip()),
        hint="a deck has lines 'key: value', indented by spaces under 'section:'",
    )


def shorten(text: str, limit: int = 60) -> str:
    """A value cut to a length that fits in a message."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


class _Reader:
    """Walks the node tree once: plain values, their lines, duplicate keys."""

    def __init__(self, file: YamlFile) -> None:
        self.file, self.count = file, 0
        self._scalars = yaml.SafeLoader("")

    def fill(self, root: yaml.MappingNode) -> None:
        self.file.lines[()] = root.start_mark.line + 1
        self.file.value = self._value(root, ())

    def _value(self, node: yaml.Node, key: KeyPath) -> Any:
        self.count += 1
        if self.count > MAX_VALUES or len(key) > MAX_DEPTH:
            raise InputError(
                "the deck is too large or nested too deeply (does an alias contain itself?)", where=self.file.where(key)
            )
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            for index, item in enumerate(node.value):
                place = (*key, index)
                self.file.lines[place] = item.start_mark.line + 1
            return [self._value(item, (*key, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, key)
        self._problem("this YAML tag is not read", key, node.tag)
        return None

    def _mapping(self, node: yaml.MappingNode, key: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name_node, value_node in node.value:
            line = name_node.start_mark.line + 1
            if not isinstance(name_node, yaml.ScalarNode):
                self._problem("a key must be a word", key, None)
                continue
            name = str(name_node.value)
            path = (*key, name)
            if name in result:
                self.file.problems.append(
                    InputError(
                        f"the key is written twice, first on line {self.file.lines[path]}",
                        where=f"{self.file.path}:{line}: {dotted(path)}",
                        hint="keep one of them",
                    )
                )
                continue
            self.file.lines[path] = line
            result[name] = self._value(value_node, path)
        return result

    def _scalar(self, node: yaml.ScalarNode, key: KeyPath) -> Any:
        kind = node.tag.removeprefix(_TAG)
        text = str(node.value)
        try:
            if kind in ("int", "float") and ":" in text:  # YAML 1.1 reads 1:30 as 90
                return text
            if kind == "int" and _ZERO_LED.match(text):  # and 010 as 8
                return int(text)
            if kind in ("null", "bool", "int", "float"):
                return self._bounded(self._scalars.construct_object(node))
        except (ValueError, KeyError):  # '!!int abc', '!!bool perhaps'
            self._problem(f"this cannot be read as {kind}", key, text)
            return None
        if kind not in ("str", "timestamp", "value", "merge"):
            self._problem("this YAML tag is not read", key, node.tag)
            return None
        if kind == "str" and node.style is None and _FLOAT.match(text):
            return float(text)
        return text

    @staticmethod
    def _bounded(value: Any) -> Any:
        if isinstance(value, int) and abs(value) >= 1 << 63:
            raise ValueError("beyond 64 bits")
        return value

    def _problem(self, what: str, key: KeyPath, value: str | None) -> None:
        shown = None if value is None else shorten(value)
        self.file.problems.append(InputError(what, where=self.file.where(key), value=shown))
