"""Labelled geometries of other programs: one record a geometry, in atomic units, nothing guessed.

What each number means is declared: the names under which a file keeps energies, forces, dipoles and charges (`keys`)
and their units (`units`). A name that is given and not there, a quantity without a unit, an array whose shape
does not fit: each ends in an InputError that lists what the file holds. A quantity that a file does not have is None,
never zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.errors import InputError
from hpcir.labels.base import stacked_polar_tensors
from hpcir.molecules.structures import centre, standard_masses
from hpcir.units import UNITS

if TYPE_CHECKING:
    from hpcir.training.dataset import LabelledGroup

# Quantity -> its dimension in hpcir.units; the order is that of messages.
QUANTITIES = {
    "energy": "energy",
    "forces": "force",
    "dipole": "dipole",
    "charges": "charge",
    "polar_tensors": "charge",
}
# Those that a format without units may keep: they have one unit only.
OWN_UNITS = {"charges": "e", "polar_tensors": "e"}
STANDARD_KEYS = {name: name for name in (*QUANTITIES, "charge", "level")}
# The units that ASE writes and reads by its own convention, and atomic units.
ASE_UNITS = {"positions": "A", "energy": "eV", "forces": "eV/A", "dipole": "e*A", **OWN_UNITS}
ATOMIC_UNITS = {
    "positions": "bohr",
    "energy": "hartree",
    "forces": "hartree/bohr",
    "dipole": "e*bohr",
    **OWN_UNITS,
}
# Names, without anything but letters, under which files keep the total charge, and the spin or multiplicity.
_CHARGE_NAMES = ("qtot", "qtotal", "totalq", "q", "chargestate")
# Energies that are no total energy.
_OTHER_ENERGIES = ("freeenergy", "kineticenergy", "zeropointenergy", "formationenergy", "atomizationenergy")
_SPIN_NAMES = ("multiplicity", "spinmultiplicity", "mult", "spin", "totalspin", "uhf", "unpairedelectrons")
ORIGINS = ("charge", "mass", "geometry", "zero")


@dataclass(frozen=True)
class Frame:
    """One labelled geometry in atomic units; None is what is not known.

    numbers (N,); positions (N, 3) bohr; energy hartree; forces (N, 3) hartree/bohr; dipole (3,) e bohr about the
    centre of nuclear charge; charges (N,) e; polar_tensors (N, 3, 3) e, dmu_x / dr_jy about an origin at rest at
    [j, y, x]; charge: total, e; level: its theory; place: its position in the file.
    """

    numbers: IntArray
    positions: FloatArray
    energy: float | None = None
    forces: FloatArray | None = None
    dipole: FloatArray | None = None
    charges: FloatArray | None = None
    charge: int = 0
    level: str = ""
    place: str = ""
    polar_tensors: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class ReadOptions:
    """Statements about a file of labelled geometries: see `reading.read_dataset`."""

    units: Mapping[str, str] | str | None = None
    keys: Mapping[str, str] | None = None
    charge: int | None = None
    level: str = ""
    dipole_origin: str | None = None
    missing: str = "error"


@dataclass(frozen=True)
class Dataset:
    """Labelled geometries and where they came from. source: the file; units, keys: as declared or documented; unread:
    names in the file that nothing was taken from; charge_known: whether the file or the user said the total charge."""

    frames: tuple[Frame, ...]
    source: str = ""
    units: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    charge_known: bool = True

    def __len__(self) -> int:
        return len(self.frames)

    def having(self, quantity: str) -> list[int]:
        """Indices of the frames that have a quantity (one of `QUANTITIES`)."""
        return [n for n, frame in enumerate(self.frames) if getattr(frame, quantity) is not None]

    def compositions(self) -> dict[tuple[tuple[int, ...], int, str], list[int]]:
        """(sorted atomic numbers, charge, level) -> indices of its frames."""
        found: dict[tuple[tuple[int, ...], int, str], list[int]] = {}
        for n, frame in enumerate(self.frames):
            key = (tuple(sorted(frame.numbers.tolist())), frame.charge, frame.level)
            found.setdefault(key, []).append(n)
        return found

    def without(self, indices: Iterable[int]) -> Dataset:
        """The same set without some frames."""
        out = set(indices)
        return replace(self, frames=tuple(f for n, f in enumerate(self.frames) if n not in out))

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self.having(q))} {q}" for q in QUANTITIES if self.having(q))
        compositions = self.compositions()
        named = ", ".join(formula(numbers) for numbers in list(dict.fromkeys(k[0] for k in compositions))[:6])
        more = "..." if len(compositions) > 6 else ""
        source = self.source or "in memory"
        return f"Dataset({len(self)} geometries of {named}{more}; {counts or 'no labels'}; {source})"


def formula(numbers: Iterable[int]) -> str:
    """The empirical formula of atomic numbers, in Hill's order, such as 'CH4O'."""
    from ase.formula import Formula

    from hpcir.molecules.structures import symbols

    return str(Formula.from_list(symbols(np.array(list(numbers), np.int64))).format("hill"))


def unit_size(quantity: str, unit: str) -> float:
    """The size of a unit of 'positions' or one of `QUANTITIES` in atomic units.

    Forces may be any energy unit over any length unit, such as 'kcal/mol/A'. Raises InputError.
    """
    if quantity in OWN_UNITS:
        table = {"e": 1.0}
    elif quantity == "forces":
        energy, _, length = unit.rpartition("/")
        if energy in UNITS["energy"] and length in UNITS["length"]:
            return UNITS["energy"][energy] / UNITS["length"][length]
        table = UNITS["force"]
    else:
        table = UNITS[{"positions": "length"}.get(quantity, quantity)]
    if unit not in table:
        raise InputError(f"no such unit of {quantity}", value=unit, hint="valid: " + ", ".join(table))
    return table[unit]


def resolve_units(units: Mapping[str, str] | str | None, default: Mapping[str, str] | None) -> dict[str, str]:
    """The declared units: a mapping, the words 'ase' or 'atomic', or the format's own (`default`)."""
    if isinstance(units, str):
        named = {"ase": ASE_UNITS, "atomic": ATOMIC_UNITS}
        if units not in named:
            raise InputError("no such set of units", value=units, hint="'ase', 'atomic', or a unit for each quantity")
        return dict(named[units])
    result = dict(default or {}) | dict(units or {})
    for quantity, unit in result.items():
        if quantity not in (*QUANTITIES, "positions"):
            raise InputError("units of an unknown quantity", value=quantity, hint="valid: positions, " + _names())
        unit_size(quantity, unit)
    return result


def _names() -> str:
    return ", ".join(QUANTITIES)


def size_of(quantity: str, units: Mapping[str, str], where: str) -> float:
    """The declared unit of a quantity that the file holds; raises InputError when none was declared."""
    if quantity not in units:
        raise InputError(
            f"the unit of {quantity} is not declared",
            where=where,
            hint=f"say which, such as --units {quantity}={ASE_UNITS[quantity]}; 'ase' stands for A, eV, eV/A and e*A, "
            "'atomic' for bohr, hartree, hartree/bohr and e*bohr",
        )
    return unit_size(quantity, units[quantity])


def checked_numbers(values: Any, where: str, name: str = "numbers") -> IntArray:
    """Atomic numbers as integers. Raises InputError for none at all, symbols, fractions, and other numbers."""
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise InputError(
            f"the atomic numbers '{name}' are no numbers",
            where=where,
            value=array.ravel()[:3].tolist(),
            hint="give 1 for H, 6 for C, ...",
        )
    if not array.size:
        raise InputError("a geometry without atoms", where=where)
    known = np.isfinite(array) & (array == np.round(array)) & (array >= 1) & (array <= 118)
    if not known.all():
        raise InputError(
            f"no atomic number in '{name}'",
            where=where,
            value=array[~known][0].item(),
            hint="1 to 118; padding of smaller molecules needs the number of atoms of each geometry (key count)",
        )
    return array.astype(np.int64)


def check_origin(origin: str | None) -> None:
    """Raise InputError for an origin of dipoles that is none of `ORIGINS`."""
    if origin is not None and origin not in ORIGINS:
        raise InputError("no such origin of dipoles", value=origin, hint="valid: " + ", ".join(ORIGINS))


def shifted_dipole(
    dipole: FloatArray, numbers: IntArray, positions: FloatArray, charge: int, origin: str | None, where: str
) -> FloatArray:
    """A dipole (3,) about the centre of nuclear charge, from one about `origin`.

    origin: 'charge' (of nuclear charge), 'mass', 'geometry' (mean position) or 'zero' (of the coordinates). It
    matters only for ions, and for them must be declared: mu(R') = mu(R) + Q (R - R').
    """
    if charge == 0:
        return dipole
    if origin is None:
        raise InputError(
            f"the origin of the dipole of an ion (charge {charge:+d}) is not declared",
            where=where,
            hint="say --dipole-origin charge (centre of nuclear charge), mass, geometry or zero (of the coordinates)",
        )
    weights = {
        "charge": numbers.astype(float),
        "mass": standard_masses(numbers),
        "geometry": np.ones(len(numbers)),
    }
    old = centre(positions, weights[origin]) if origin in weights else np.zeros(3)
    return dipole + charge * (old - centre(positions, weights["charge"]))


def frame_of(
    values: Mapping[str, Any],
    numbers: IntArray,
    positions: FloatArray,
    charge: int,
    level: str,
    dipole_origin: str | None,
    where: str,
) -> Frame:
    """A geometry with the quantities that it has, all in atomic units; for dipole_origin see `shifted_dipole`."""
    dipole = values.get("dipole")
    if dipole is not None:
        dipole = shifted_dipole(dipole, numbers, positions, charge, dipole_origin, where)
    return Frame(
        numbers=numbers,
        positions=positions,
        energy=float(np.reshape(values["energy"], ())) if "energy" in values else None,
        forces=values.get("forces"),
        dipole=dipole,
        charges=values.get("charges"),
        polar_tensors=values.get("polar_tensors"),
        charge=charge,
        level=level,
        place=where,
    )


def refuse_near_misses(
    found: Mapping[str, Iterable[Any]], keys: Mapping[str, str], charge: int | None, where: str
) -> None:
    """Raise InputError where a file has the total charge, or several spin states, under a name that is not read.

    found: the values under each name of the file; keys: the names that are read; charge: as declared.
    """
    if "charge" in keys:
        return
    for name, values in found.items():
        word = re.sub(r"[^a-z]", "", name.lower())
        is_charge = word in _CHARGE_NAMES or word.endswith("charge")
        whole = {round(v) for v in _whole_numbers(values)} if is_charge or word in _SPIN_NAMES else set()
        if is_charge and whole - {charge or 0}:
            raise InputError(
                f"the file has what looks like the total charge under '{name}', and it is not read",
                where=where,
                value=sorted(whole)[:6],
                hint=f"say --keys charge={name}, or declare another charge for all with --charge",
            )
        if word in _SPIN_NAMES and len(whole) > 1:
            raise InputError(
                f"the file has geometries of several spin states, by '{name}', and a model is of one",
                where=where,
                value=sorted(whole)[:6],
                hint="train on one spin state at a time",
            )


def refuse_unread(found: Mapping[str, Any], there: Mapping[str, str], atoms: int, where: str) -> None:
    """Raise InputError where a file whose names are not given has what looks like an energy, forces or a dipole under
    another name, and none under the standard one.

    found: the values of a geometry of so many atoms by name; there: the standard names of the quantities that it has.
    """
    for name, value in found.items():
        word = re.sub(r"[^a-z]", "", name.lower())
        shape = np.shape(value)
        if "dipole" in word or word in ("mu", "dip"):
            quantity, alike = "dipole", np.size(value) == 3 or shape == (atoms, 3)
        elif "force" in word or word.startswith("grad"):
            quantity, alike = "forces", shape == (atoms, 3)
        else:
            quantity, alike = "energy", word.endswith("energy") and word not in _OTHER_ENERGIES and np.size(value) == 1
        if not alike or quantity in there:
            continue
        names = {key: there[key] for key in ("energy", "forces", "dipole") if key in there} | {quantity: name}
        hint = "say --keys " + " ".join(f"{key}={own}" for key, own in names.items())
        if quantity == "dipole" and np.size(value) != 3:
            hint = "the dipole of a geometry is three numbers, not a vector of each atom: sum them"
        elif quantity == "forces" and word.startswith("grad"):
            hint = "forces are minus the gradient: write them as forces"
        raise InputError(
            f"the file has what looks like the {quantity} under '{name}', and it is not read",
            where=where,
            value=value if np.size(value) <= 3 else f"an array {shape}",
            hint=f"{hint}; or leave {quantity} out there to do without",
        )


def _whole_numbers(values: Iterable[Any]) -> list[float]:
    """The whole numbers among values of any kind."""
    found = []
    for value in values:
        array = np.asarray(value)
        if array.dtype.kind in "iuf":
            found += [float(v) for v in np.unique(array) if np.isfinite(v) and v == np.round(v)]
    return found


def to_groups(dataset: Dataset) -> list[LabelledGroup]:
    """The data set as training groups: geometries of one molecule (atoms in one order, charge) that have the same
    quantities stand together, in the order of their first geometry. Levels of theory are not separated: audit
    first. Raises InputError for a geometry without energy, forces and dipole.
    """
    from hpcir.training.dataset import LabelledGroup

    groups: dict[tuple[Any, ...], list[Frame]] = {}
    for n, frame in enumerate(dataset.frames):
        has = tuple(getattr(frame, q) is not None for q in ("energy", "forces", "dipole"))
        if not any(has):
            raise InputError(
                "a geometry without energy, forces and dipole teaches nothing",
                where=frame.place or f"{dataset.source}, geometry {n}",
            )
        groups.setdefault((tuple(frame.numbers.tolist()), frame.charge, has), []).append(frame)

    def stacked(frames: list[Frame], name: str, has: bool) -> FloatArray | None:
        return np.array([getattr(frame, name) for frame in frames], float) if has else None

    return [
        LabelledGroup(
            numbers=np.array(numbers, np.int64),
            positions=np.array([frame.positions for frame in frames]),
            energies=stacked(frames, "energy", has[0]),
            forces=stacked(frames, "forces", has[1]),
            dipoles=stacked(frames, "dipole", has[2]),
            charge=charge,
            multiplicity=1 + (sum(numbers) - charge) % 2,
            polar_tensors=stacked_polar_tensors([frame.polar_tensors for frame in frames], len(numbers)),
        )
        for (numbers, charge, has), frames in groups.items()
    ]
