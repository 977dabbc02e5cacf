"""HDF5 files of one group a molecule, with the layouts that are common by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.errors import InputError
from hpcir.exchange.collections.parts import Reading, part_frames
from hpcir.exchange.datasets import ATOMIC_UNITS, OWN_UNITS, Dataset, Frame, ReadOptions, refuse_near_misses

# Layout -> (quantity -> the name in each group, units that its publication states). 'gradient' is minus the forces.
LAYOUTS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    # Eastman et al., Sci. Data 10, 11, 2023.
    "SPICE": (
        {
            "numbers": "atomic_numbers",
            "positions": "conformations",
            "energy": "dft_total_energy",
            "gradient": "dft_total_gradient",
            "dipole": "scf_dipole",
            "charges": "mbis_charges",
        },
        ATOMIC_UNITS,
    ),
    # Smith et al., Sci. Data 7, 134, 2020.
    "ANI-1x": (
        {
            "numbers": "atomic_numbers",
            "positions": "coordinates",
            "energy": "wb97x_dz.energy",
            "forces": "wb97x_dz.forces",
            "dipole": "wb97x_dz.dipole",
        },
        {"positions": "A", "energy": "hartree", "forces": "hartree/A", "dipole": "e*A", **OWN_UNITS},
    ),
    # Hoja et al., Sci. Data 8, 43, 2021.
    "QM7-X": (
        {
            "numbers": "atNUM",
            "positions": "atXYZ",
            "energy": "ePBE0+MBD",
            "forces": "totFOR",
            "dipole": "vDIP",
            "charges": "hCHG",
        },
        {"positions": "A", "energy": "eV", "forces": "eV/A", "dipole": "e*A", **OWN_UNITS},
    ),
    # Smith et al., Sci. Data 4, 170193, 2017 (ANI-1); with atomic numbers and forces: Devereux et al., J. Chem. Theory
    # Comput. 16, 4192, 2020 (ANI-2x).
    "ANI": (
        {"numbers": "species", "positions": "coordinates", "energy": "energies", "forces": "forces"},
        {"positions": "A", "energy": "hartree", "forces": "hartree/A", **OWN_UNITS},
    ),
    "hpcir": (
        {
            "numbers": "numbers",
            "positions": "positions",
            "energy": "energy",
            "forces": "forces",
            "dipole": "dipole",
            "charges": "charges",
            "charge": "charge",
        },
        OWN_UNITS,
    ),
}
NAMED = 10


def is_grouped(path: Path) -> bool:
    """True where everything at the top of an HDF5 file is a group. Raises InputError for a file that is none."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return len(file) > 0 and all(isinstance(file.get(name), h5py.Group) for name in file)
    except (OSError, RuntimeError) as error:
        raise InputError(f"the file cannot be read: {error}", where=str(path)) from error


def read_groups(path: Path, options: ReadOptions) -> Dataset:
    """Every geometry of a file of one group a molecule; see `datasets.read_dataset`.

    Without keys the names decide, and units are those of the layout's publication; with them they name the arrays
    within each group, and 'gradient' may be one. Raises InputError.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            groups = list(_groups(file, ""))
            if not groups:
                raise InputError("the file holds no group with arrays", where=str(path))
            names, known = _layout(path, groups, options.keys)
            reading = Reading.of(options, known)
            frames: list[Frame] = []
            unread: dict[str, list[Any]] = {}
            for name, group in groups:
                frames += _molecule(path, name, group, names, reading)
                for other in set(group) - set(names.values()):
                    array = group[other]
                    values = unread.setdefault(other, [])
                    if array.size == 1 and array.dtype.kind in "iuf":
                        values.append(array[()])
    except (OSError, RuntimeError, KeyError) as error:
        raise InputError(f"the file cannot be read: {error}", where=str(path)) from error
    refuse_near_misses(unread, names, options.charge, str(path))
    return Dataset(
        tuple(frames),
        str(path),
        dict(reading.units),
        names,
        tuple(sorted(unread)),
        options.charge is not None or "charge" in names,
    )


def _groups(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """(name, group) of every group that holds arrays, at any depth."""
    import h5py

    items = {name: group.get(name) for name in group}
    if prefix and any(isinstance(item, h5py.Dataset) for item in items.values()):
        yield prefix, {name: item for name, item in items.items() if isinstance(item, h5py.Dataset)}
    for name, item in items.items():
        if isinstance(item, h5py.Group):
            yield from _groups(item, f"{prefix}/{name}" if prefix else name)


def _layout(
    path: Path, groups: list[tuple[str, Any]], keys: Mapping[str, str] | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Quantity -> array name, and units, by the first group."""
    first = groups[0][1]
    holds = (
        f"{len(groups)} groups, the first ones {', '.join(name for name, _ in groups[:NAMED])}; in the first: "
        + ", ".join(list(first)[:NAMED])
        + (f", ... ({len(first)} in all)" if len(first) > NAMED else "")
    )
    if keys:
        absent = [name for name in ("numbers", "positions") if name not in keys]
        wrong = [name for name in keys.values() if name not in first]
        if absent or wrong:
            raise InputError(
                f"no key of {absent[0]}" if absent else f"no array '{wrong[0]}' in the first group",
                where=str(path),
                value=holds,
                hint="name the arrays of a group, such as --keys numbers=Z positions=R energy=E",
            )
        return dict(keys), dict(OWN_UNITS)
    for names, units in LAYOUTS.values():
        found = {quantity: name for quantity, name in names.items() if name in first}
        if {"numbers", "positions"} <= found.keys() and found.keys() & {"energy", "forces", "gradient", "dipole"}:
            return found, dict(units)
    raise InputError(
        f"the groups of the file are of none of the known layouts ({', '.join(LAYOUTS)})",
        where=str(path),
        value=holds,
        hint="say which is which, such as --keys numbers=Z positions=R energy=E",
    )


def _molecule(path: Path, name: str, group: Any, names: Mapping[str, str], reading: Reading) -> list[Frame]:
    where = f"{path}, group {name}"
    arrays = {quantity: group[own][()] for quantity, own in names.items() if own in group}
    absent = [quantity for quantity in names if quantity not in arrays]
    if absent and (reading.missing != "allow" or {"numbers", "positions"} & set(absent)):
        raise InputError(
            f"no array '{names[absent[0]]}' for {absent[0]}",
            where=where,
            value=", ".join(list(group)[:NAMED]),
            hint="--missing allow takes molecules without a quantity that others have",
        )
    if "gradient" in arrays:
        arrays["forces"] = -np.asarray(arrays.pop("gradient"), float)
    return part_frames(_atomic_numbers(arrays.pop("numbers"), where), arrays, reading, where)


def _atomic_numbers(held: Any, where: str) -> Any:
    """Atomic numbers of an array that has them, or the symbols of elements as text."""
    from ase.data import atomic_numbers

    array = np.asarray(held)
    if array.dtype.kind not in "SUO":
        return array
    words = [word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word) for word in array.ravel()]
    wrong = next((word for word in words if not atomic_numbers.get(word.strip())), None)
    if wrong is not None:
        raise InputError("no symbol of an element", where=where, value=wrong[:20])
    return np.array([atomic_numbers[word.strip()] for word in words]).reshape(array.shape)
