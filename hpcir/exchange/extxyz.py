"""Extended xyz files and ASE databases of labelled geometries, with declared keys and units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.errors import InputError
from hpcir.exchange.datasets import (
    ASE_UNITS,
    OWN_UNITS,
    QUANTITIES,
    STANDARD_KEYS,
    Dataset,
    Frame,
    ReadOptions,
    checked_numbers,
    frame_of,
    refuse_near_misses,
    refuse_unread,
    resolve_units,
    size_of,
    unit_size,
)
from hpcir.molecules.structures import read_frames, symbols, take_sums
from hpcir.storage.provenance import origin_line

# Returns the value of a name in one frame and whether it is in a place whose units ASE defines; None: not there.
Lookup = Callable[[str], tuple[Any, bool] | None]
# Keys that `write_extxyz` writes beside quantities.
OWN_WORDS = ("units", "level", "charge", "origin")


def read_extxyz(path: str | Path, options: ReadOptions) -> Dataset:
    """Every geometry of an extended xyz file; see `datasets.read_dataset`. Positions are in angstrom unless units
    say otherwise. Units of energies, forces and dipoles are not part of the format and must be declared, except for
    files of `write_extxyz`, which say them."""
    entries = [(atoms, _lookup(atoms), _held(atoms)) for atoms in read_frames(path)]
    written = {str(atoms.info.get("units", "")) for atoms, _, _ in entries}
    own = _own_units(written.pop()) if len(written) == 1 else {}
    declared = resolve_units(options.units, {"positions": "A"} | OWN_UNITS | own)
    return _dataset(path, entries, declared, False, options)


def _own_units(text: str) -> dict[str, str]:
    """The units that `write_extxyz` put into a comment line, such as 'positions:A energy:eV'; none from other text."""
    pairs = [word.split(":") for word in text.split()]
    if not pairs or not all(len(pair) == 2 and pair[0] in (*QUANTITIES, "positions") for pair in pairs):
        return {}
    return {quantity: unit for quantity, unit in pairs}


def read_ase_db(path: str | Path, options: ReadOptions) -> Dataset:
    """Every row of an ASE database; see `datasets.read_dataset`. Calculator results are in ASE's units; what stands
    in key-value pairs or in `data` has no unit there, and needs one declared."""
    from ase.db import connect

    entries: list[tuple[Any, Lookup, list[str]]] = []
    try:
        open_database: Any = connect
        for row in open_database(str(path), serial=True).select():
            atoms = row.toatoms()
            take_sums(atoms)
            extra = dict(row.key_value_pairs) | dict(row.data)
            entries.append((atoms, _lookup(atoms, extra), sorted({*_held(atoms), *extra})))
    except InputError:
        raise
    except Exception as error:  # ASE and sqlite raise whatever they raise on a file that is none
        raise InputError(
            f"the ASE database cannot be read: {type(error).__name__}: {error}", where=str(path)
        ) from error
    if not entries:
        raise InputError("the ASE database is empty", where=str(path))
    declared = resolve_units(options.units, {"positions": "A"} | OWN_UNITS)
    return _dataset(path, entries, declared, True, options)


def _held(atoms: Any) -> list[str]:
    results = atoms.calc.results if atoms.calc is not None else {}
    return sorted({*atoms.info, *atoms.arrays, *results} - {"numbers", "positions"})


def _lookup(atoms: Any, extra: Mapping[str, Any] | None = None) -> Lookup:
    def find(name: str) -> tuple[Any, bool] | None:
        results = atoms.calc.results if atoms.calc is not None else {}
        if name in results:
            return results[name], True
        for place in (atoms.info, atoms.arrays, extra or {}):
            if name in place:
                return place[name], False
        return None

    return find


def _dataset(
    path: str | Path,
    entries: list[tuple[Any, Lookup, list[str]]],
    units: dict[str, str],
    ase_results: bool,
    options: ReadOptions,
) -> Dataset:
    wanted = _wanted(str(path), entries, options.keys)
    refuse_near_misses(_single_values(entries), wanted, options.charge, str(path))
    frames = []
    for number, (atoms, find, held) in enumerate(entries):
        where = f"{path}, geometry {number + 1}"
        if np.any(atoms.pbc):
            raise InputError(
                "the geometry is a periodic cell; hpcir's models are of molecules",
                where=where,
                hint='write it without a lattice, or with pbc="F F F"',
            )
        values: dict[str, Any] = {}
        for quantity in QUANTITIES:
            if quantity not in wanted:
                continue
            found = find(wanted[quantity])
            if found is None:
                if options.missing == "error":
                    _raise_missing(quantity, wanted[quantity], where, held)
                continue
            sizes = ASE_UNITS if ase_results and found[1] and quantity not in units else units
            values[quantity] = _array(quantity, found[0], len(atoms), where) * size_of(quantity, sizes, where)
        if options.missing == "allow":
            values = {name: value for name, value in values.items() if np.all(np.isfinite(value))}
        frames.append(_frame(atoms, values, find, wanted, units, options, where))
    unread = {name for _, _, held in entries for name in held} - {*wanted.values(), *OWN_WORDS}
    charge_known = options.charge is not None or "charge" in wanted
    return Dataset(tuple(frames), str(path), units, wanted, tuple(sorted(unread)), charge_known)


def _single_values(entries: list[tuple[Any, Lookup, list[str]]]) -> dict[str, list[Any]]:
    """The numbers that geometries have one of, by name."""
    found: dict[str, list[Any]] = {}
    for _, find, held in entries:
        for name in held:
            value = find(name)
            if value is not None and np.ndim(value[0]) == 0 and isinstance(value[0], (int, float, np.number)):
                found.setdefault(name, []).append(value[0])
    return found


def _wanted(path: str, entries: list[tuple[Any, Lookup, list[str]]], keys: Mapping[str, str] | None) -> dict[str, str]:
    """Quantity -> name: the keys given; the standard names that occur in the file where no energy, forces or dipole
    were."""
    if keys:
        unknown = set(keys) - set(STANDARD_KEYS)
        if unknown:
            raise InputError(
                "keys of an unknown quantity",
                value=sorted(unknown),
                hint="valid: " + ", ".join(STANDARD_KEYS),
            )
        if set(keys) & {"energy", "forces", "dipole"}:
            return dict(keys)
    there = {q: name for q, name in STANDARD_KEYS.items() if any(find(name) is not None for _, find, _ in entries)}
    if not set(there) & {"energy", "forces", "dipole"}:
        held = sorted({name for _, _, names in entries for name in names})
        raise InputError(
            "no energy, forces or dipole under their standard names",
            where=path,
            hint=f"the file holds {', '.join(held) or 'positions only'}; say which is which, such as "
            "--keys energy=REF_energy forces=REF_forces",
        )
    atoms, find, held = entries[0]
    unread = {name: value[0] for name in held if (value := find(name)) is not None}
    refuse_unread(unread, there, len(atoms), path)
    return there | dict(keys or {})


def _raise_missing(quantity: str, name: str, where: str, held: list[str]) -> None:
    raise InputError(
        f"no {quantity} under the name '{name}'",
        where=where,
        hint=f"it holds {', '.join(held) or 'positions only'}; give its name with --keys, or --missing allow to take "
        f"this geometry without its {quantity}",
    )


def _array(quantity: str, value: Any, atoms: int, where: str) -> Any:
    """A quantity as float array of its one right shape."""
    shapes = {"energy": (), "forces": (atoms, 3), "dipole": (3,), "charges": (atoms,), "polar_tensors": (atoms, 3, 3)}
    shape = shapes[quantity]
    try:
        array = np.asarray(value, float)
    except (TypeError, ValueError):
        raise InputError(f"the {quantity} is no array of numbers", where=where, value=value) from None
    flat = (quantity == "energy" and array.size == 1) or (quantity, array.shape) == ("polar_tensors", (atoms, 9))
    if array.shape != shape and not flat:
        raise InputError(
            f"the {quantity} has the wrong shape", where=where, value=array.shape, hint=f"expected {shape}"
        )
    return array.reshape(shape)


def _frame(
    atoms: Any,
    values: dict[str, Any],
    find: Lookup,
    wanted: dict[str, str],
    units: dict[str, str],
    options: ReadOptions,
    where: str,
) -> Frame:
    numbers = checked_numbers(atoms.numbers, where)
    positions = np.asarray(atoms.positions, float) * unit_size("positions", units["positions"])
    total = _charge(find(wanted["charge"]) if "charge" in wanted else None, options.charge, where)
    named = find(wanted["level"]) if "level" in wanted else None
    level = str(named[0]) if named is not None else options.level
    return frame_of(values, numbers, positions, total, level, options.dipole_origin, where)


def _charge(found: tuple[Any, bool] | None, declared: int | None, where: str) -> int:
    """The total charge of a geometry: the file's, which a declared one must not contradict; else that, else 0."""
    if found is None:
        return declared or 0
    value = float(np.asarray(found[0]))
    if not np.isfinite(value) or value != round(value):
        raise InputError("the total charge is not a whole number", where=where, value=value)
    if declared is not None and round(value) != declared:
        raise InputError(
            "the file gives another total charge than was declared",
            where=where,
            value=value,
            hint=f"declared {declared}",
        )
    return round(value)


def write_extxyz(
    dataset: Dataset,
    path: str | Path,
    *,
    units: Mapping[str, str] | str = "ase",
    keys: Mapping[str, str] | None = None,
    extras: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """Write a data set as extended xyz, 12 decimals; what a geometry does not have is left out of it.

    keys: quantity -> name to write it under (default: its own). The dipole is about the centre of nuclear charge.
    The units stand in each comment line as 'units="..."', the program as 'origin="..."'. extras: further numbers
    of each geometry by name, written as they are: (N,) and (N, 3) arrays beside the atoms, others in the comment line.
    """
    names = STANDARD_KEYS | dict(keys or {})
    declared = resolve_units(units, {"positions": "A"} | OWN_UNITS)
    path = Path(path)
    further = extras if extras is not None else [{}] * len(dataset)
    texts = [_text(frame, declared, names, extra) for frame, extra in zip(dataset.frames, further, strict=True)]
    path.write_text("".join(texts), encoding="utf-8")
    return path


def _text(frame: Frame, units: dict[str, str], names: dict[str, str], extra: Mapping[str, Any]) -> str:
    properties, columns = (
        "species:S:1:pos:R:3",
        [frame.positions / unit_size("positions", units["positions"])],
    )
    info = []
    for quantity in QUANTITIES:
        value = getattr(frame, quantity)
        if value is None:
            continue
        scaled = np.asarray(value) / size_of(quantity, units, frame.place)
        if not np.all(np.isfinite(scaled)):
            raise InputError(f"the {quantity} is not finite and is not written", where=frame.place)
        if quantity in ("forces", *OWN_UNITS):
            columns.append(scaled.reshape(len(frame), -1))
            properties += f":{names[quantity]}:R:{columns[-1].shape[1]}"
        else:
            text = " ".join(f"{x:.12g}" if quantity == "dipole" else f"{x:.12f}" for x in np.atleast_1d(scaled))
            info.append(f'{names[quantity]}="{text}"' if quantity == "dipole" else f"{names[quantity]}={text}")
    for name, value in extra.items():
        array = np.asarray(value, float)
        if array.ndim and len(array) == len(frame) and array.shape != (3,):
            columns.append(array.reshape(len(frame), -1))
            properties += f":{name}:R:{columns[-1].shape[1]}"
        else:
            text = " ".join(f"{x:.12g}" for x in np.atleast_1d(array))
            info.append(f'{name}="{text}"' if array.ndim else f"{name}={text}")
    level = frame.level.replace("\\", "/").replace('"', "'").replace("\n", " ")
    shown = " ".join(f"{q}:{u}" for q, u in units.items())
    info += [f"{names['charge']}={frame.charge}", *([f'{names["level"]}="{level}"'] if level else [])]
    rows = zip(symbols(frame.numbers), np.hstack(columns), strict=True)
    return "\n".join(
        [
            str(len(frame)),
            f'Properties={properties} {" ".join(info)} units="{shown}" origin="{origin_line()}" pbc="F F F"',
            *(f"{symbol:<2} " + " ".join(f"{x:20.12f}" for x in row) for symbol, row in rows),
            "",
        ]
    )
