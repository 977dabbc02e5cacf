"""Two run directories held against each other, bit for bit: every array, every table, every number and word of results.

Left out, because they may differ between runs that gave the same: times, hosts, versions, commits, provenance, the
deck's copy, and digests ("data", "digest", "final", "inputs", "starts" where they are text: they say what something was
made from, and how they are made may change). So are journals, logs, pages and pictures. What only the newer run has is
no difference: results are added to, never taken away. For the same reason labels are compared purpose by purpose, their
total is not, and what was null may have become a number.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

# Names in a newer tree, where they are not those of an older one: (pattern, replacement) for re.sub over the whole name
# of a value, such as "targets/C8H18/test.h5:energy_model" or "summary.json:labels/count". Applied to the older run's.
RENAMED: list[tuple[str, str]] = [
    # The one target of a run has its files in the run directory itself.
    (r"^targets/ethanol/", ""),
]

# Keys, attributes and datasets that are never compared.
PROVENANCE = {"deck", "faster", "format_version", "origin", "program_version", "provenance", "stages", "times"}
TIMES = {"microseconds_per_step", "seconds", "seconds_at_the_last"}
# Not compared where they are text.
DIGESTS = {"checksum", "content_digest", "data", "deck_digest", "digest", "final", "inputs", "starts"}
# Totals, to which labels for another purpose would add, and a sentence with label times in it.
TOTALS = re.compile(r"labels/count$|labels\.h5@(count|group_)|chain/verdict$")
# Files that hold no results: the state of the run.
STATE = {"lock.json", "manifest.json", "progress.json"}


def values_of(run: Path) -> dict[str, Any]:
    """Every value that counts of a run directory, by name: "FILE:KEY/KEY", "FILE:DATASET", "FILE@ATTRIBUTE"."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.name == "labels.h5":
            found |= _labels_by_purpose(path, name)
        elif path.suffix == ".h5":
            found |= _values_of_h5(path, name)
        elif path.suffix == ".json" and path.name not in STATE:
            found |= dict(_leaves(json.loads(path.read_text()), f"{name}:"))
        elif path.suffix == ".csv":
            lines = path.read_text().splitlines()
            found[name] = "\n".join(line for line in lines if not line.startswith("#"))
    return {key: value for key, value in found.items() if not TOTALS.search(key)}


def differences(old: Path, new: Path) -> tuple[list[str], list[str]]:
    """What differs between the values of two run directories: of numbers, and of words alone (prose, names)."""
    before, after = {renamed(name): value for name, value in values_of(old).items()}, values_of(new)
    numbers, words = [], []
    for name, value in before.items():
        if name not in after:
            numbers.append(f"{name}: missing")
        elif said := difference(value, after[name]):
            is_word = isinstance(value, str) and isinstance(after[name], str) and not name.endswith(".csv")
            (words if is_word else numbers).append(f"{name}: {said}")
    return numbers, words


def renamed(name: str) -> str:
    """The name of a value in a newer tree."""
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def difference(old: Any, new: Any) -> str:
    """How two values differ; empty where they are equal bit for bit (a NaN equals a NaN), or where there was none."""
    if old is None:
        return ""
    if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        return _difference_of_arrays(old, new)
    if isinstance(old, float) and isinstance(new, float) and math.isnan(old) and math.isnan(new):
        return ""
    return "" if type(old) is type(new) and old == new else f"{str(old)[:60]!r} became {str(new)[:60]!r}"


def _difference_of_arrays(old: np.ndarray, new: np.ndarray) -> str:
    if (old.shape, old.dtype) != (new.shape, new.dtype):
        return f"{old.dtype} {old.shape} became {new.dtype} {new.shape}"
    if old.dtype.kind not in "fc":
        return "" if np.array_equal(old, new) else "differs"
    if np.array_equal(old, new, equal_nan=True):
        return ""
    largest = np.nanmax(np.abs(old - new)) / (np.nanmax(np.abs(old)) or 1.0)
    return f"differs by {largest:.1e} of the largest element"


def _values_of_h5(path: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def attributes(where: str, item: Any) -> None:
        for key, value in item.attrs.items():
            plain = value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value
            found.update(_leaves({key: _parsed(plain)}, f"{where}@"))

    def visit(key: str, item: Any) -> None:
        if key.split("/")[-1] in TIMES:
            return
        if isinstance(item, h5py.Dataset):
            found[f"{name}:{key}"] = np.asarray(item[()])
        attributes(f"{name}:{key}", item)

    with h5py.File(path) as file:
        attributes(name, file)
        file.visititems(visit)
    return found


def _labels_by_purpose(path: Path, name: str) -> dict[str, Any]:
    """The labels' arrays by level, composition and purpose: FILE:LEVEL/COMPOSITION/PURPOSE/ARRAY."""
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        for key, group in file.items():
            numbers = group["numbers"][()]
            composition = "".join(f"{z}x{(numbers == z).sum()}-" for z in np.unique(numbers)).rstrip("-")
            kind = f"{name}:{file.attrs[f'{key}.level']}/{composition}"
            purposes = group["purpose"][()]
            for array in sorted(set(group) - TIMES - {"numbers", "purpose", "quarantine_positions"}):
                for purpose in np.unique(purposes):
                    found[f"{kind}/{purpose.decode()}/{array}"] = group[array][()][purposes == purpose]
    return found


def _parsed(value: Any) -> Any:
    """What an attribute holds: JSON text as its content."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """All numbers and words in nested JSON that count, by their path; of lists the length too."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in PROVENANCE or key in TIMES or (key in DIGESTS and isinstance(item, str)):
                continue
            yield from _leaves(item, f"{name}{key}/")
    elif isinstance(value, list):
        yield f"{name}length", len(value)
        for number, item in enumerate(value):
            yield from _leaves(item, f"{name}{number}/")
    else:
        yield name.rstrip("/"), value
