"""Effective frequencies of each kind of vibration by a model's forces and the label engine's on the same geometries.

Of a bond length or angle q with B its derivatives by the positions, the acceleration that forces F give it is
B M^-1 F, and over thermal geometries
    omega^2 = - <B M^-1 F (q - <q>)> / <(q - <q>)^2>
is the square of its effective frequency, anharmonicity and temperature in it. Of two sets of forces on the same
geometries, the difference is far better known than that of two spectra: the geometries' noise is in both.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.molecules.internal_coordinates import InternalCoordinate, internal_coordinates
from hpcir.molecules.structures import Structure
from hpcir.units import PER_CM
from hpcir.vibrations.mode_names import motion

# Least number of geometries for a fluctuation.
MIN_GEOMETRIES = 8


@dataclass(frozen=True)
class LocalFrequency:
    """A kind of motion, such as 'CH2 stretch': its count in the molecule; wavenumber of the reference, and the model's
    shift from it with its standard error (jackknife over the geometries), cm-1."""

    motion: str
    count: int
    wavenumber: float
    shift: float
    error: float


def local_frequencies(
    structure: Structure, positions: FloatArray, reference: FloatArray, model: FloatArray
) -> list[LocalFrequency]:
    """Effective frequencies of the bond lengths and angles of a molecule, by kind, in falling order.

    structure: gives bonds and masses; positions (S, N, 3) bohr of thermal geometries; reference, model (S, N, 3):
    forces there, hartree/bohr. Empty for fewer than MIN_GEOMETRIES geometries. Kinds that the reference does not
    bind are left out.
    """
    if len(positions) < MIN_GEOMETRIES:
        return []
    kinds: dict[str, list[FloatArray]] = defaultdict(list)
    for coordinate in internal_coordinates(structure):
        if coordinate.kind in ("stretch", "bend"):
            parts = _fluctuations(coordinate, structure.masses, positions, reference, model)
            kinds[motion(coordinate, structure)].append(parts)
    found = []
    for name, members in kinds.items():
        sums = np.sum(members, 0)
        wavenumber, shift = _frequency(sums.sum(1))
        if np.isfinite(wavenumber) and np.isfinite(shift):
            left_out = np.array([_frequency(np.delete(sums, s, 1).sum(1))[1] for s in range(len(positions))])
            error = np.sqrt((len(positions) - 1) * left_out.var())
            found.append(LocalFrequency(name, len(members), wavenumber, shift, float(error)))
    return sorted(found, key=lambda item: -item.wavenumber)


def _frequency(sums: FloatArray) -> tuple[float, float]:
    """Wavenumber of the reference and shift of the model, cm-1, from the three sums of `_fluctuations`."""
    with np.errstate(invalid="ignore"):
        reference, model = np.sqrt(sums[:2] / sums[2]) / PER_CM
    return float(reference), float(model - reference)


def _fluctuations(
    coordinate: InternalCoordinate, masses: FloatArray, positions: FloatArray, *forces: FloatArray
) -> FloatArray:
    """(3, S): - acceleration times deviation by each of two sets of forces, and the squared deviation."""
    values, rows = _values(coordinate, positions)
    deviation = values - values.mean()
    accelerations = [
        sum(np.einsum("sx,sx->s", row, force[:, atom]) / masses[atom] for atom, row in rows.items()) for force in forces
    ]
    return np.array([*(-acceleration * deviation for acceleration in accelerations), deviation**2])


def _values(coordinate: InternalCoordinate, positions: FloatArray) -> tuple[FloatArray, dict[int, FloatArray]]:
    """A bond length or angle (S,) over the geometries, and its derivatives (S, 3) by each of its atoms."""
    if coordinate.kind == "stretch":
        i, j = coordinate.atoms
        length, unit = _length_and_unit(positions[:, i] - positions[:, j])
        return length, {i: unit, j: -unit}
    i, j, k = coordinate.atoms
    a, u = _length_and_unit(positions[:, i] - positions[:, j])
    b, v = _length_and_unit(positions[:, k] - positions[:, j])
    cosine = (u * v).sum(1)
    sine = np.sqrt(np.maximum(1 - cosine**2, 1e-12))
    first = (cosine[:, None] * u - v) / (a * sine)[:, None]
    second = (cosine[:, None] * v - u) / (b * sine)[:, None]
    return np.arccos(cosine), {i: first, k: second, j: -first - second}


def _length_and_unit(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    length = np.linalg.norm(vectors, axis=1)
    return np.asarray(length), np.asarray(vectors / length[:, None])
