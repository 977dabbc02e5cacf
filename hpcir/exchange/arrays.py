"""Data sets kept as arrays over geometries: NumPy's .npz and HDF5, with the layouts that are common by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.errors import InputError
from hpcir.exchange.collections.groups import NAMED, is_grouped, read_groups
from hpcir.exchange.collections.parts import present
from hpcir.exchange.datasets import (
    ATOMIC_UNITS,
    OWN_UNITS,
    QUANTITIES,
    Dataset,
    Frame,
    ReadOptions,
    checked_numbers,
    frame_of,
    refuse_near_misses,
    resolve_units,
    size_of,
)

# Layout -> quantity -> array name. `count` is the number of atoms of each geometry where arrays are padded.
LAYOUTS: dict[str, dict[str, str]] = {
    "hpcir": {
        "numbers": "numbers",
        "positions": "positions",
        "energy": "energy",
        "forces": "forces",
        "dipole": "dipole",
        "charges": "charges",
        "polar_tensors": "polar_tensors",
        "charge": "charge",
    },
    "MD17, sGDML": {"numbers": "z", "positions": "R", "energy": "E", "forces": "F", "dipole": "D"},
    "revised MD17": {
        "numbers": "nuclear_charges",
        "positions": "coords",
        "energy": "energies",
        "forces": "forces",
        "dipole": "dipoles",
    },
    "PhysNet": {
        "numbers": "Z",
        "positions": "R",
        "energy": "E",
        "forces": "F",
        "dipole": "D",
        "charge": "Q",
        "count": "N",
    },
}
KEYS = ("numbers", "positions", *QUANTITIES, "charge", "count")


def read_arrays(path: Path, options: ReadOptions) -> Dataset:
    """Geometries from arrays; see `datasets.read_dataset`.

    positions (S, N, 3); numbers (N,) or (S, N); energy (S,) or (S, 1); forces (S, N, 3); dipole (S, 3); charges
    (S, N); polar_tensors (S, N, 3, 3); charge () or (S,); count (S,). Without keys, the names decide: those of one of
    `LAYOUTS` and of no other.
    """
    if path.suffix.lower() != ".npz" and _is_labels(path):
        return _read_labels(path)
    in_paths = any("/" in name for name in (options.keys or {}).values())
    if path.suffix.lower() != ".npz" and not in_paths and is_grouped(path):
        return read_groups(path, options)
    held = _npz(path) if path.suffix.lower() == ".npz" else _hdf5(path)
    names = _layout(path, held, options.keys)
    refuse_near_misses({name: [array] for name, array in held.items()}, names, options.charge, str(path))
    declared = resolve_units(options.units, OWN_UNITS)
    arrays = {quantity: held[name] for quantity, name in names.items()}
    count, atoms = _shapes(path, arrays, names)
    scaled = {
        q: _numbers(arrays[q], names[q], path) * size_of(q, declared, str(path))
        for q in ("positions", *QUANTITIES)
        if q in arrays
    }
    totals = _totals(path, arrays.get("charge"), count, options.charge)
    numbers = np.broadcast_to(arrays["numbers"], (count, atoms))
    lengths = _lengths(arrays["count"], atoms, path) if "count" in arrays else np.full(count, atoms)
    frames = []
    for s in range(count):
        own = checked_numbers(numbers[s, : lengths[s]], str(path), names["numbers"])
        frames.append(_frame(s, own, scaled, int(totals[s]), options, str(path)))
    unread = tuple(sorted(set(held) - set(names.values())))
    return Dataset(tuple(frames), str(path), declared, names, unread, options.charge is not None or "charge" in names)


def _numbers(array: Any, name: str, path: Path) -> Any:
    """An array as real numbers; text and complex numbers are refused."""
    if np.asarray(array).dtype.kind not in "iuf":
        raise InputError(
            f"the array '{name}' does not hold real numbers", where=str(path), value=str(np.asarray(array).dtype)
        )
    return np.asarray(array, float)


def _lengths(found: Any, atoms: int, path: Path) -> Any:
    """(S,) the number of atoms of each geometry, from 1 to the padded number."""
    lengths = _numbers(found, "count", path).reshape(-1)
    wrong = lengths[(lengths != np.round(lengths)) | (lengths < 1) | (lengths > atoms)]
    if len(wrong):
        raise InputError(
            "a geometry's number of atoms does not fit the arrays",
            where=str(path),
            value=wrong[0].item(),
            hint=f"1 to {atoms}",
        )
    return lengths.astype(np.int64)


def _npz(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except ValueError as error:
        raise InputError(
            "an array holds Python objects, which are not read (they could run code)",
            where=str(path),
            hint="save arrays of numbers, padded where molecules differ in size",
        ) from error
    except Exception as error:  # zipfile and numpy raise many kinds on a damaged file
        raise InputError(f"the file cannot be read: {type(error).__name__}: {error}", where=str(path)) from error


def _hdf5(path: Path) -> dict[str, Any]:
    import h5py

    held: dict[str, Any] = {}
    try:
        with h5py.File(path, "r") as file:
            file.visititems(
                lambda name, item: held.__setitem__(name, item[()]) if isinstance(item, h5py.Dataset) else None
            )
    except OSError as error:
        raise InputError(f"the file cannot be read: {error}", where=str(path)) from error
    return held


def _layout(path: Path, held: dict[str, Any], keys: Mapping[str, str] | None) -> dict[str, str]:
    """Quantity -> array name."""
    holds = "it holds " + ", ".join(f"{name} {np.shape(array)}" for name, array in list(held.items())[:NAMED])
    holds += f", ... ({len(held)} arrays in all)" if len(held) > NAMED else ""
    if keys is not None:
        for quantity, name in keys.items():
            if quantity not in KEYS:
                raise InputError("keys of an unknown quantity", value=quantity, hint="valid: " + ", ".join(KEYS))
            if name not in held:
                raise InputError(f"no array '{name}' for {quantity}", where=str(path), hint=holds)
        absent = [q for q in ("numbers", "positions") if q not in keys]
        if absent or not set(keys) & {"energy", "forces", "dipole"}:
            raise InputError(
                f"keys must name {', '.join(absent or ['one of energy, forces and dipole'])}",
                where=str(path),
                hint=holds,
            )
        return dict(keys)
    fitting = {}
    for layout, names in LAYOUTS.items():
        found = {quantity: name for quantity, name in names.items() if name in held}
        needed = {"numbers", "positions"} | ({"count"} if "count" in names else set())
        if needed <= set(found) and set(found) & {"energy", "forces", "dipole"}:
            fitting[layout] = found
    if len(fitting) != 1:
        which = " and ".join(fitting) or "none of the known layouts"
        raise InputError(
            f"the names of the arrays are those of {which}",
            where=str(path),
            hint=f"{holds}; say which is which, such as --keys numbers=Z positions=R energy=E",
        )
    return next(iter(fitting.values()))


def _shapes(path: Path, arrays: dict[str, Any], names: dict[str, str]) -> tuple[int, int]:
    """Check every array's shape; returns the numbers of geometries and of (padded) atoms."""
    positions = np.shape(arrays["positions"])
    if len(positions) != 3 or positions[2] != 3:
        raise InputError(
            f"positions '{names['positions']}' are not (geometries, atoms, 3)",
            where=str(path),
            value=positions,
        )
    count, atoms, _ = positions
    valid = {
        "numbers": [(atoms,), (count, atoms)],
        "energy": [(count,), (count, 1)],
        "forces": [positions],
        "dipole": [(count, 3)],
        "charges": [(count, atoms)],
        "polar_tensors": [(count, atoms, 3, 3)],
        "charge": [(), (1,), (count,), (count, 1)],
        "count": [(count,), (count, 1)],
    }
    for quantity, shapes in valid.items():
        if quantity in arrays and np.shape(arrays[quantity]) not in shapes:
            raise InputError(
                f"{quantity} '{names[quantity]}' has the wrong shape",
                where=str(path),
                value=np.shape(arrays[quantity]),
                hint="expected " + " or ".join(map(str, shapes)),
            )
    return count, atoms


def _totals(path: Path, found: Any, count: int, declared: int | None) -> Any:
    if found is None:
        return np.full(count, declared or 0)
    totals = np.broadcast_to(_numbers(found, "charge", path).reshape(-1), (count,))
    if not np.all(np.isfinite(totals)) or np.any(totals != np.round(totals)):
        raise InputError("a total charge is not a whole number", where=str(path))
    if declared is not None and np.any(totals != declared):
        raise InputError("the file gives another total charge than was declared", where=str(path), value=declared)
    return np.round(totals)


def _frame(
    s: int,
    numbers: Any,
    scaled: dict[str, Any],
    charge: int,
    options: ReadOptions,
    path: str,
) -> Frame:
    where, atoms = f"{path}, geometry {s + 1}", len(numbers)
    by_atom = ("forces", *OWN_UNITS)
    values = {q: scaled[q][s, :atoms] if q in by_atom else scaled[q][s] for q in QUANTITIES if q in scaled}
    values = present(values, options.missing)
    positions = scaled["positions"][s, :atoms]
    return frame_of(values, numbers, positions, charge, options.level, options.dipole_origin, where)


def _is_labels(path: Path) -> bool:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get("format") == "hpcir labels")
    except OSError as error:
        raise InputError(f"the file cannot be read: {error}", where=str(path)) from error


def _present(group: Mapping[str, Any], name: str, s: int) -> Any:
    """An array of one label, or None where the label has none (nan)."""
    return None if name not in group or np.isnan(group[name][s]).any() else group[name][s]


def _read_labels(path: Path) -> Dataset:
    """The labels.h5 of a run: every label, in atomic units, with its level of theory and charge."""
    from hpcir.storage.hdf5 import read_h5

    arrays, attributes = read_h5(path)
    frames = []
    for prefix in sorted({name.split("/")[0] for name in arrays}):
        group = {name.split("/")[1]: value for name, value in arrays.items() if name.startswith(prefix + "/")}
        for s in range(len(group["energy"])):
            frames.append(
                Frame(
                    numbers=np.asarray(group["numbers"], np.int64),
                    positions=group["positions"][s],
                    energy=float(group["energy"][s]),
                    forces=group["forces"][s],
                    dipole=group["dipole"][s],
                    polar_tensors=_present(group, "polar_tensors", s),
                    charge=int(attributes[f"{prefix}.charge"]),
                    level=str(attributes[f"{prefix}.level"]),
                    place=f"{path}, {prefix}, geometry {s + 1}",
                )
            )
    if not frames:
        raise InputError("the file holds no label", where=str(path))
    return Dataset(tuple(frames), str(path), dict(ATOMIC_UNITS), {})
