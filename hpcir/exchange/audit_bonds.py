"""The audit of forces, and of energies without forces, by harmonic springs in place of the chemical bonds. Energies
and forces of one wrong unit agree with each other; with the bonds they do not.

A bond longer than usual pulls its atoms together: the force along it on its change of length has the slope of its force
constant, here the model one of Fischer and Almlof (J. Phys. Chem. 96, 9768, 1992), good to a factor of two.
Forces in another unit, or gradients in their place, are off by far more. Energies of thermal geometries spread
somewhat more than the energies of these springs alone.
"""

from __future__ import annotations

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.exchange.datasets import Dataset, Frame
from hpcir.exchange.findings import Finding
from hpcir.molecules.structures import Structure, bonds
from hpcir.units import ANGSTROM, EV, EV_PER_ANGSTROM, KCAL_PER_MOL, KJ_PER_MOL

# Least number of geometries of one molecule for a verdict, and most that are analysed.
MIN_GEOMETRIES, MAX_GEOMETRIES = 8, 200
# Slopes without a finding (five sets of organic molecules gave 0.87 to 0.97, hydrogen chloride 0.51), and
# the factor from 1 that is an error. The spread of energies depends on how the geometries were made (0.9 to 3.4 there).
ACCEPTED_SLOPES, FORCE_FACTOR, ENERGY_FACTOR = (0.48, 1.6), 4.0, 8.0
# Below this cosine of forces and springs there is no slope (0.92 to 0.96 there).
MIN_COSINE = 0.6
# Least standard deviation (bohr) of the length of a bond that is used.
MIN_STRETCH = 2e-3
_FORCES = {
    "hartree/bohr": 1.0,
    "eV/A": EV_PER_ANGSTROM,
    "kcal/mol/A": KCAL_PER_MOL / ANGSTROM,
    "kJ/mol/nm": KJ_PER_MOL / (10 * ANGSTROM),
    "hartree/A": 1 / ANGSTROM,
}
_ENERGIES = {"hartree": 1.0, "eV": EV, "kcal/mol": KCAL_PER_MOL, "kJ/mol": KJ_PER_MOL}


def check_bonds(dataset: Dataset) -> list[Finding]:
    """Forces, and energies without forces, against model springs along the bonds."""
    forces: list[tuple[FloatArray, FloatArray]] = []
    energies: list[float] = []
    alone = not any(f.energy is not None and f.forces is not None for f in dataset.frames)
    for members in dataset.compositions().values():
        frames = [dataset.frames[n] for n in members]
        frames = [f for f in frames if np.array_equal(f.numbers, frames[0].numbers)]
        frames = frames[:: -(-len(frames) // MAX_GEOMETRIES)] if frames else []
        if len(frames) < MIN_GEOMETRIES:
            continue
        springs = _springs(frames)
        if springs is None:
            continue
        pairs, stretch, constants = springs
        if all(f.forces is not None for f in frames):
            pull = np.array([_along(f, pairs) for f in frames])
            forces.append(((pull - pull.mean(0)).ravel(), (-constants * stretch).ravel()))
        elif all(f.energy is not None for f in frames):
            energies.append(_spread(np.array([f.energy for f in frames])) / _spread(0.5 * stretch**2 @ constants))
    return _of_forces(forces, alone) + _of_energies(energies)


def _springs(frames: list[Frame]) -> tuple[list[tuple[int, int]], FloatArray, FloatArray] | None:
    """Bonds that all geometries have, (T, B) changes of their lengths and (B,) model force constants."""
    from ase.data import covalent_radii

    structure = Structure(frames[0].numbers, frames[0].positions)
    radii = np.asarray(covalent_radii)[structure.numbers] * ANGSTROM
    pairs = [(i, j) for i, j in bonds(structure)]
    if not pairs:
        return None
    i, j = np.array(pairs).T
    lengths = np.array([np.linalg.norm(f.positions[i] - f.positions[j], axis=1) for f in frames])
    kept = (lengths.max(0) < 1.4 * (radii[i] + radii[j])) & (lengths.std(0) > MIN_STRETCH)
    if not kept.any():
        return None
    usual = lengths[:, kept].mean(0)
    constants = 0.3601 * np.exp(-1.944 * (usual - (radii[i] + radii[j])[kept]))
    return [pair for pair, keep in zip(pairs, kept, strict=True) if keep], lengths[:, kept] - usual, constants


def _along(frame: Frame, pairs: list[tuple[int, int]]) -> FloatArray:
    """(B,) the force that lengthens each bond: half the difference of its atoms' forces along it."""
    i, j = np.array(pairs).T
    axis = frame.positions[j] - frame.positions[i]
    axis /= np.linalg.norm(axis, axis=1)[:, None]
    forces = np.asarray(frame.forces)
    return np.asarray(0.5 * ((forces[j] - forces[i]) * axis).sum(1))


def _spread(values: FloatArray) -> float:
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) or 1e-30


def _of_forces(found: list[tuple[FloatArray, FloatArray]], alone: bool) -> list[Finding]:
    """alone: without energies, which else show a wrong sign and forces of other geometries, but no unit of both."""
    if not found:
        return []
    pull, spring = (np.concatenate(parts) for parts in zip(*found, strict=True))
    slope = float(spring @ pull / (spring @ spring))
    cosine = float(spring @ pull / max(float(np.linalg.norm(spring) * np.linalg.norm(pull)), 1e-30))
    if not alone and (slope <= 0 or cosine < MIN_COSINE):
        return []
    if abs(cosine) < MIN_COSINE:
        text = "forces along bonds do not follow the bonds' lengths"
        advice = "check that forces and geometries belong together, atom by atom and in one orientation"
        return [Finding("warning", "bonds", text, advice)]
    text = f"forces along bonds are {slope:.3g} times those of usual bonds"
    if slope < 0:
        return [Finding("error", "bonds", text, "gradients were read as forces: change their sign")]
    if ACCEPTED_SLOPES[0] < slope < ACCEPTED_SLOPES[1]:
        return []
    severity = "warning" if 1 / FORCE_FACTOR < slope < FORCE_FACTOR else "error"
    of_both = "" if alone else ", and of the energies where these agree with the forces"
    return [Finding(severity, "bonds", text, f"check the unit of the forces{of_both}{_explained(_FORCES, slope)}")]


def _of_energies(ratios: list[float]) -> list[Finding]:
    if not ratios or 1 / ENERGY_FACTOR < np.median(ratios) < ENERGY_FACTOR:
        return []
    ratio = float(np.median(ratios))
    text = f"energies of one molecule spread {ratio:.2g} times as far as stretching its bonds alone makes them"
    advice = f"check the unit of the energies{_explained(_ENERGIES, ratio / np.sqrt(3))}"
    return [Finding("warning", "bonds", text, advice)]


def _explained(units: dict[str, float], ratio: float) -> str:
    """The readings of one unit as another that fit a ratio to a factor of 2, the best two first."""
    pairs = [
        (abs(float(np.log(ratio * size / other))), f"{true} read as {read}")
        for true, size in units.items()
        for read, other in units.items()
        if true != read
    ]
    fitting = [text for off, text in sorted(pairs) if off < np.log(2)][:2]
    return f": {' or '.join(fitting)}?" if fitting else ""
