"""Checks that every label engine shares: finite answers, valid names, the origin of the dipole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib.util import find_spec

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import InputError, LabelFailed
from hpcir.labels.base import Label
from hpcir.molecules.structures import Structure, centre

# Strength of the fields that polar tensors come from, hartree / (e bohr): the forces' noise and what is cubic in the
# field both stay below 1e-3 e.
FIELD = 2e-3
# Largest difference of the polar tensors' sum from the charge, e.
SUM_TOLERANCE = 0.02


def polar_tensors_by_fields(forces_in: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Polar tensors (N, 3, 3) from forces_in(field), the forces (N, 3) in a uniform electric field (3,): as the energy
    is E - mu . field, dmu_x / dr_jy = dF_jy / dfield_x (Komornicki and McIver, J. Chem. Phys. 70, 2014, 1979).
    """
    columns = []
    for axis in FIELD * np.eye(3):
        columns.append((forces_in(axis) - forces_in(-axis)) / (2 * FIELD))
    return np.stack(columns, axis=2)


def finished_label(
    structure: Structure,
    energy: float,
    forces: FloatArray,
    dipole: FloatArray,
    seconds: float,
    method: str,
    polar_tensors: FloatArray | None = None,
    dipoles: bool = True,
) -> Label:
    """A label in atomic units, or LabelFailed when a number is not finite, an array has the wrong shape, or polar
    tensors do not add up to the charge. dipoles: False where the engine gives none; the label's dipole is then nan."""
    forces, dipole = np.asarray(forces, float), np.asarray(dipole, float)
    if forces.shape != (len(structure), 3) or dipole.shape != (3,):
        raise LabelFailed(
            f"{structure.name}: the engine returned forces of shape {forces.shape} and a dipole of shape "
            f"{dipole.shape} for {len(structure)} atoms"
        )
    for name, value in (("energy", energy), ("forces", forces), ("dipole", dipole if dipoles else np.zeros(3))):
        if not np.all(np.isfinite(value)):
            raise LabelFailed(f"{structure.name}: the engine returned a value that is not finite in the {name}")
    if polar_tensors is not None:
        off = np.abs(polar_tensors.sum(0) - structure.charge * np.eye(3)).max()
        if not off < SUM_TOLERANCE:
            raise LabelFailed(f"{structure.name}: the sum of the polar tensors differs from the charge by {off:.3g} e")
    return Label(float(energy), forces, dipole, seconds, method, polar_tensors)


def nuclear_charge_centre(structure: Structure) -> FloatArray:
    """Centre of nuclear charge (3,) in bohr: the origin of every label's dipole."""
    return centre(structure.positions, structure.numbers.astype(float))


def nearest_names(name: str, valid: Iterable[str], always: Iterable[str] = ()) -> str:
    """A hint of valid names: the nearest few, or `always` when nothing is near."""
    folded = {entry.lower(): entry for entry in valid}
    near = [folded[match] for match in get_close_matches(name.lower(), list(folded), n=4, cutoff=0.6)]
    if near:
        return "nearest valid names: " + ", ".join(near)
    return "valid: " + ", ".join(always or sorted(folded.values()))


def require_package(module: str, where: str, value: object, install: str) -> None:
    """Raise InputError when a Python package that the deck asks for is not installed."""
    if find_spec(module) is None:
        raise InputError(
            f"the Python package '{module}' is not installed",
            where=where,
            value=value,
            hint=f"install it: {install}",
        )
