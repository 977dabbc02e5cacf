"""One part of a collection: arrays over the geometries of one molecule, made into frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import InputError
from hpcir.exchange.datasets import (
    OWN_UNITS,
    QUANTITIES,
    Frame,
    ReadOptions,
    checked_numbers,
    frame_of,
    resolve_units,
    size_of,
    unit_size,
)


@dataclass(frozen=True)
class Reading:
    """Reading of the arrays of a collection: units by quantity, total charge (None: not declared), level, the origin
    of dipoles, and whether values that are not finite count as missing."""

    units: Mapping[str, str]
    charge: int | None
    level: str
    dipole_origin: str | None
    missing: str

    @classmethod
    def of(cls, options: ReadOptions, known: Mapping[str, str]) -> Reading:
        """The options of a reader, with the units of a format that says some of them."""
        units = resolve_units(options.units, known)
        return cls(units, options.charge, options.level, options.dipole_origin, options.missing)


def part_frames(numbers: Any, arrays: Mapping[str, Any], reading: Reading, where: str) -> list[Frame]:
    """The frames of one molecule of N atoms: positions (S, N, 3), energy (S,), forces (S, N, 3), dipole (S, 3), charges
    (S, N), charge (S,), each in any shape of so many numbers; in the declared units.

    numbers (N,) or (S, N), with values below 1 where a geometry has fewer atoms. Raises InputError.
    """
    species = np.atleast_2d(_real(numbers, "numbers", where))
    if species.ndim != 2:
        raise InputError("numbers has the wrong shape", where=where, value=species.shape, hint="one for every atom")
    atoms = species.shape[1]
    places = _shaped(arrays["positions"], (-1, atoms, 3), "positions", where)
    count = len(places)
    shapes = {"energy": (count,), "dipole": (count, 3), "charges": (count, atoms), "forces": (count, atoms, 3)}
    shapes["polar_tensors"] = (count, atoms, 3, 3)
    values = {
        name: _shaped(arrays[name], shapes[name], name, where) * size_of(name, reading.units, where)
        for name in QUANTITIES
        if name in arrays
    }
    places = places * unit_size("positions", reading.units["positions"])
    totals = _totals(arrays.get("charge"), count, reading.charge, where)
    if len(species) not in (1, count):
        raise InputError(
            "numbers has the wrong shape", where=where, value=species.shape, hint=f"expected {(count, atoms)}"
        )
    species = np.broadcast_to(species, (count, atoms))
    return [
        _frame(s, species[s], places[s], values, int(totals[s]), reading, f"{where}, geometry {s + 1}")
        for s in range(count)
    ]


def _frame(
    s: int, species: Any, places: Any, values: Mapping[str, Any], total: int, reading: Reading, where: str
) -> Frame:
    there = species > 0
    numbers = checked_numbers(species[there], where)
    own = {name: value[s][there] if name in ("forces", *OWN_UNITS) else value[s] for name, value in values.items()}
    own = present(own, reading.missing)
    return frame_of(own, numbers, places[there], total, reading.level, reading.dipole_origin, where)


def present(values: Mapping[str, Any], missing: str) -> dict[str, Any]:
    """The quantities of one geometry that are there: with missing='allow' those that are not finite are not."""
    if missing != "allow":
        return dict(values)
    return {name: value for name, value in values.items() if np.all(np.isfinite(value))}


def _shaped(array: Any, shape: tuple[int, ...], name: str, where: str) -> FloatArray:
    found = _real(array, name, where)
    size = int(np.prod([n for n in shape if n >= 0]))
    fits = size > 0 and (found.size % size == 0 if -1 in shape else found.size == size)
    if not fits:
        raise InputError(f"{name} has the wrong shape", where=where, value=found.shape, hint=f"expected {shape}")
    return found.reshape(shape)


def _real(array: Any, name: str, where: str) -> FloatArray:
    found = np.asarray(array)
    if found.dtype.kind not in "iuf":
        raise InputError(f"the array of {name} does not hold real numbers", where=where, value=str(found.dtype))
    return np.asarray(found, float)


def _totals(found: Any, count: int, declared: int | None, where: str) -> FloatArray:
    if found is None:
        return np.full(count, float(declared or 0))
    given = _real(found, "charge", where).reshape(-1)
    if given.size not in (1, count):
        raise InputError("charge has the wrong shape", where=where, value=given.shape, hint=f"expected {(count,)}")
    totals = np.broadcast_to(given, (count,))
    if not np.all(np.isfinite(totals)) or np.any(totals != np.round(totals)):
        raise InputError("a total charge is not a whole number", where=where)
    if declared is not None and np.any(totals != declared):
        raise InputError("the file gives another total charge than was declared", where=where, value=declared)
    return totals
