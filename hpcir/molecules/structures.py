"""Molecular structures: atomic numbers, positions, charge, spin; bonds; superposition; (ext)xyz at the edge."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.errors import InputError
from hpcir.molecules.plain_xyz import read_plain_xyz
from hpcir.units import AMU, ANGSTROM

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Largest distances of overlapping and of bonded atoms as fractions of the sum of their covalent radii.
OVERLAP_FRACTION = 0.5
BOND_FRACTION = 1.3


@dataclass(frozen=True)
class Structure:
    """One molecule.

    numbers (N,) atomic numbers; positions (N, 3) in bohr; charge in e; multiplicity 2S+1; name for reports.
    """

    numbers: IntArray
    positions: FloatArray
    charge: int = 0
    multiplicity: int = 1
    name: str = "molecule"
    source: str = field(default="", compare=False)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def symbols(self) -> list[str]:
        return symbols(self.numbers)

    @property
    def masses(self) -> FloatArray:
        """(N,) standard atomic weights in electron masses."""
        return standard_masses(self.numbers)

    def moved(self, positions: FloatArray) -> Structure:
        """The same molecule with other positions (N, 3) in bohr."""
        return replace(self, positions=np.asarray(positions, float))


def symbols(numbers: IntArray) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[z] for z in numbers]


def standard_masses(numbers: IntArray) -> FloatArray:
    """(N,) IUPAC standard atomic weights in electron masses (through ASE)."""
    from ase.data import atomic_masses

    return np.asarray(atomic_masses, float)[np.asarray(numbers)] * AMU


def read_frames(path: str | Path) -> list[Any]:
    """Every frame of a structure file as ASE Atoms (xyz, extxyz and whatever else ASE reads)."""
    from ase.io import read

    path = Path(path)
    if not path.is_file():
        raise InputError("the structure file does not exist", where=str(path), hint="check the path")
    try:
        # Not ASE's parallel way: it broadcasts over all ranks, and here rank 0 often reads alone.
        frames = read(str(path), index=":", parallel=False)
    except Exception as error:  # ASE raises whatever its many readers raise
        raise InputError(
            f"the structure cannot be read: {type(error).__name__}: {error}",
            where=str(path),
            hint="an xyz file has the atom count, a comment, then 'Symbol x y z' in angstrom on each line",
        ) from error
    if not frames:
        raise InputError("the structure file holds no frame", where=str(path))
    return list(frames)


def read_structure(
    path: str | Path, charge: int = 0, multiplicity: int = 1, name: str | None = None, spin_where: str = ""
) -> Structure:
    """The first frame of a structure file, checked: known elements, finite positions, no overlapping atoms, a spin
    that the electrons allow (`spin_where`: the place that an error about it names, when that is not the file)."""
    plain = read_plain_xyz(path)
    if plain is None:
        atoms = read_frames(path)[0]
        plain = np.asarray(atoms.numbers, np.int64), np.asarray(atoms.positions, float)
    structure = Structure(
        numbers=plain[0],
        positions=plain[1] * ANGSTROM,
        charge=charge,
        multiplicity=multiplicity,
        name=name or Path(path).stem,
        source=str(path),
    )
    check_geometry(structure)
    check_spin(structure, spin_where)
    return structure


def check_structure(structure: Structure) -> None:
    """Raise InputError for unknown elements, non-finite positions, overlaps, or a spin the electrons forbid."""
    check_geometry(structure)
    check_spin(structure)


def check_geometry(structure: Structure) -> None:
    """Raise InputError for unknown elements, non-finite positions, or overlapping atoms."""
    where = structure.source
    if np.any(structure.numbers < 1):
        atom = int(np.argmax(structure.numbers < 1)) + 1
        raise InputError(f"atom {atom} is of no known element", where=where, value="X")
    if not np.all(np.isfinite(structure.positions)):
        raise InputError("a coordinate is not a finite number", where=where)
    for i, j, distance, ratio in close_pairs(structure):
        names = structure.symbols
        if ratio < OVERLAP_FRACTION:
            raise InputError(
                f"atoms {i + 1} ({names[i]}) and {j + 1} ({names[j]}) overlap",
                where=where,
                value=f"{distance / ANGSTROM:.3f} A apart",
                hint="check the coordinates and that they are in angstrom",
            )


def check_spin(structure: Structure, where: str = "") -> None:
    """Raise InputError for a multiplicity that the number of electrons forbids."""
    electrons = int(structure.numbers.sum()) - structure.charge
    unpaired = structure.multiplicity - 1
    if electrons < 1 or unpaired > electrons or (electrons - unpaired) % 2:
        odd = electrons % 2
        raise InputError(
            f"{electrons} electrons cannot have multiplicity {structure.multiplicity}",
            where=where or structure.source,
            value=f"charge {structure.charge}, multiplicity {structure.multiplicity}",
            hint=f"an {'odd' if odd else 'even'} number of electrons needs an "
            f"{'even' if odd else 'odd'} multiplicity; check system.charge and system.multiplicity",
        )


def check_vibrates(structure: Structure) -> None:
    """Raise InputError for a single atom, which has no vibrations and so no infrared spectrum."""
    if len(structure) < 2:
        raise InputError(
            "a single atom has no vibrations, so no infrared spectrum",
            where=structure.source or "system.structure",
            value=" ".join(structure.symbols),
            hint="give a molecule",
        )


def close_pairs(structure: Structure) -> list[tuple[int, int, float, float]]:
    """Pairs (i, j, distance, distance / sum of covalent radii) that are within bonding distance or nearer."""
    from ase.data import covalent_radii

    radii = np.asarray(covalent_radii)[structure.numbers] * ANGSTROM
    delta = structure.positions[:, None] - structure.positions[None]
    distance = np.sqrt((delta**2).sum(-1))
    ratio = distance / (radii[:, None] + radii[None])
    rows, columns = np.nonzero(np.triu(ratio < BOND_FRACTION, 1))
    return [(int(i), int(j), float(distance[i, j]), float(ratio[i, j])) for i, j in zip(rows, columns, strict=True)]


def xyz_text(structure: Structure) -> str:
    """The structure as an xyz file, angstrom."""
    comment = structure.name
    if structure.charge or structure.multiplicity != 1:
        comment += f" charge={structure.charge} multiplicity={structure.multiplicity}"
    lines = [str(len(structure)), comment]
    for symbol, position in zip(structure.symbols, structure.positions / ANGSTROM, strict=True):
        lines.append(f"{symbol:2s} " + " ".join(f"{x:16.10f}" for x in position))
    return "\n".join(lines) + "\n"


def bonds(structure: Structure) -> list[tuple[int, int]]:
    """Bonded pairs (i < j) by covalent radii (Alvarez via ASE), distance below 1.3 times their sum."""
    return [(i, j) for i, j, _, _ in close_pairs(structure)]


def centre(positions: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted centre (3,) of positions (N, 3): of mass, or of nuclear charge when weights are the numbers."""
    return np.asarray(weights @ positions / weights.sum(), float)


def superimpose(
    positions: FloatArray, reference: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rotate positions (N, 3) onto a reference (N, 3), weighted least squares (Kabsch, Acta Cryst. A32, 922, 1976).

    Returns the superimposed positions (N, 3), the rotation (3, 3) with superimposed = (positions - centre) @
    rotation.T + reference centre, and the centre (3,). A vector v of the original frame is v @ rotation.T in
    the new one, and v @ rotation brings it back.
    """
    own, other = centre(positions, weights), centre(reference, weights)
    covariance = ((positions - own) * weights[:, None]).T @ (reference - other)
    u, _, vt = np.linalg.svd(covariance)
    handed = np.sign(np.linalg.det(vt.T @ u.T))
    rotation = vt.T @ np.diag([1.0, 1.0, handed]) @ u.T
    return (positions - own) @ rotation.T + other, rotation, own
