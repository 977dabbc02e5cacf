"""Normal modes: Hessian from labels, Eckart projection, harmonic infrared intensities, thermal sampling.

Wilson, Decius, Cross, "Molecular Vibrations", 1955; Eckart, Phys. Rev. 47, 552, 1935.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.dynamics.thermal import is_linear
from hpcir.errors import InputError
from hpcir.labels.base import Label
from hpcir.molecules.eckart import eckart_frame, internal_velocities
from hpcir.molecules.internal_coordinates import model_hessian
from hpcir.molecules.isotopes import check_mass
from hpcir.molecules.structures import BOND_FRACTION, Structure, centre
from hpcir.units import AMU, ANGSTROM, KM_PER_MOL_PER_E2_ME, PER_CM

STEP = 0.02
"""Default displacement of the central differences in bohr."""

# Fractions of the displacement that are looked at of so small a molecule: the full step alone puts the wavenumber
# of a light one 1 to 3 cm-1 too high. The error of both together goes with the fourth power of the step.
RICHARDSON_ATOMS, RICHARDSON = 2, (1.0, 0.5)

# Sampling: wavenumbers below this (and imaginary ones) get its amplitude; no mode moves an atom by more (bohr, rms).
MIN_WAVENUMBER_PER_CM = 100.0
MAX_RMS_BOHR = 0.4
# Amplitudes of zero-point samples, as multiples of the quantum harmonic ones.
ZERO_POINT_WIDTHS = (1.0, 1.4, 1.8)
# Sampling: a bond may stretch or shrink to these fractions of its reference length.
BOND_RANGE = (0.72, 1.35)


@dataclass(frozen=True)
class NormalModes:
    """Harmonic vibrations at a stationary point of N atoms; n_modes = 3N-6, or 3N-5 for linear molecules.

    numbers (N,); positions (N, 3) bohr; masses (N,) electron masses; wavenumbers (n_modes,) cm-1, ascending,
    imaginary ones negative; modes (n_modes, N, 3) mass-weighted and orthonormal, a displacement being
    modes / sqrt(mass) * Q; reduced_masses (n_modes,) electron masses, of normalised Cartesian
    displacements; mode_dipoles (n_modes, 3) dmu/dQ in e/sqrt(electron mass); intensities
    (n_modes,) km/mol. The last two are NaN without dipole derivatives.
    """

    numbers: IntArray
    positions: FloatArray
    masses: FloatArray
    wavenumbers: FloatArray
    modes: FloatArray
    reduced_masses: FloatArray
    mode_dipoles: FloatArray
    intensities: FloatArray

    def __len__(self) -> int:
        return len(self.wavenumbers)

    @property
    def angular_frequencies(self) -> FloatArray:
        """(n_modes,) in hartree/hbar; imaginary ones negative."""
        return self.wavenumbers * PER_CM

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Every field by name, to be written to a file."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> NormalModes:
        """The inverse of `to_arrays`; other entries of the mapping are left alone."""
        return cls(**{field.name: np.asarray(arrays[field.name]) for field in fields(cls)})


def internal_directions(structure: Structure) -> FloatArray:
    """Orthonormal displacements (n, 3N) without translation and rotation, n = 3N-6 (3N-5 for linear molecules)."""
    rigid = rigid_motions(structure.positions, np.ones(len(structure)))
    return np.asarray(np.linalg.svd(rigid, full_matrices=True)[2][len(rigid) :])


def displaced_geometries(structure: Structure, step: float = STEP) -> list[Structure]:
    """The 2n geometries of central differences along `internal_directions`, first +step then -step (bohr) of each; of a
    diatomic molecule 4, the last two with half the step.

    A third fewer for methanol than along Cartesian axes, and the same Hessian: at a stationary point translations
    and rotations have no curvature.
    """
    directions = internal_directions(structure).reshape(-1, len(structure), 3)
    return [
        structure.moved(structure.positions + sign * fraction * step * d)
        for d in directions
        for fraction in _fractions(structure)
        for sign in (1, -1)
    ]


def _fractions(structure: Structure) -> tuple[float, ...]:
    return RICHARDSON if len(structure) <= RICHARDSON_ATOMS else RICHARDSON[:1]


def _differences(values: FloatArray, fractions: Sequence[float]) -> FloatArray:
    """Derivatives (n, K) times twice the step, from values (n, fractions, 2, K) at +step and -step: with two fractions
    to the fourth order (Richardson, Phil. Trans. R. Soc. A 226, 299, 1927)."""
    apart = [(values[:, k, 0] - values[:, k, 1]) / fraction for k, fraction in enumerate(fractions)]
    if len(apart) == 1:
        return np.asarray(apart[0])
    ratio = (fractions[0] / fractions[1]) ** 2
    return np.asarray((ratio * apart[1] - apart[0]) / (ratio - 1))


def derivatives_from_labels(
    structure: Structure, at_rest: Label, labels: Sequence[Label], step: float = STEP
) -> tuple[FloatArray, FloatArray]:
    """Hessian (3N, 3N) in hartree/bohr^2 and dipole derivatives (3, 3N) in e at a stationary point.

    labels: of `displaced_geometries(structure, step)` in their order; at_rest: of the point itself, whose dipole turns
    with the molecule. The derivatives are about the labels' origin, the centre of nuclear charge, which moves with the
    atoms: they sum to zero over the atoms, for ions too; `normal_modes` turns them into those about a fixed origin.
    """
    directions = internal_directions(structure)
    fractions = _fractions(structure)
    needed = 2 * len(fractions) * len(directions)
    if len(labels) != needed:
        raise ValueError(f"{len(directions)} directions need {needed} labels, not {len(labels)}")
    forces = np.array([label.forces.ravel() for label in labels]).reshape(len(directions), len(fractions), 2, -1)
    dipoles = np.array([label.dipole for label in labels]).reshape(len(directions), len(fractions), 2, 3)
    curvature = -_differences(forces, fractions) @ directions.T / (2 * step)
    hessian = directions.T @ (0.5 * (curvature + curvature.T)) @ directions
    slopes = _differences(dipoles, fractions) / (2 * step)
    return hessian, slopes.T @ directions + _turning(structure, at_rest.dipole)


def _turning(structure: Structure, dipole: FloatArray) -> FloatArray:
    """The part (3, 3N) of the dipole derivatives that comes from rotation: dmu = omega x mu for dr = omega x r."""
    relative = structure.positions - centre(structure.positions, np.ones(len(structure)))
    generators = np.array([np.cross(axis, relative).ravel() for axis in np.eye(3)])
    change = np.array([np.cross(axis, dipole) for axis in np.eye(3)])
    return change.T @ np.linalg.pinv(generators, rcond=1e-6).T


def stiff_hessian(modes: NormalModes) -> FloatArray:
    """A positive definite Hessian (3N, 3N) in hartree/bohr^2 with these vibrations, to begin an optimisation with.

    Imaginary modes, those softer than MIN_WAVENUMBER_PER_CM, translations and rotations get that wavenumber.
    """
    roots = np.repeat(np.sqrt(modes.masses), 3)
    vectors = np.vstack([modes.modes.reshape(len(modes), -1), rigid_motions(modes.positions, modes.masses)])
    frequencies = np.full(len(vectors), MIN_WAVENUMBER_PER_CM * PER_CM)
    frequencies[: len(modes)] = np.maximum(np.abs(modes.wavenumbers), MIN_WAVENUMBER_PER_CM) * PER_CM
    rows = vectors * roots
    return np.asarray((rows.T * frequencies**2) @ rows)


def fixed_origin(structure: Structure, dipole_derivatives: FloatArray) -> FloatArray:
    """Dipole derivatives (3, 3N) about a fixed origin, which sum over the atoms to the total charge.

    From those about the centre of nuclear charge R0, dmu/dx + Q dR0/dx; those about a fixed origin come back
    unchanged. Without it the intensities of ions would depend on the origin.
    """
    derivatives = np.asarray(dipole_derivatives, float).reshape(3, -1, 3)
    missing = structure.charge * np.eye(3) - derivatives.sum(1)
    share = structure.numbers / structure.numbers.sum()
    return (derivatives + missing[:, None, :] * share[:, None]).reshape(3, -1)


def rigid_motions(positions: FloatArray, masses: FloatArray) -> FloatArray:
    """Orthonormal mass-weighted translations and rotations (6, 3N), (5, 3N) for linear molecules, (3, 3N) for atoms."""
    roots = np.sqrt(masses)
    relative = positions - centre(positions, masses)
    translations = [np.outer(roots, axis).ravel() for axis in np.eye(3)]
    rotations = [(np.cross(axis, relative) * roots[:, None]).ravel() for axis in np.eye(3)]
    basis, _ = np.linalg.qr(np.array(translations).T)
    if len(positions) == 1:
        return basis.T
    vectors, _, _ = np.linalg.svd(np.array(rotations).T, full_matrices=False)
    count = 2 if is_linear(positions, masses) else 3
    both, _ = np.linalg.qr(np.hstack([basis, vectors[:, :count]]))
    return both.T


def normal_modes(
    structure: Structure,
    hessian: FloatArray,
    dipole_derivatives: FloatArray | None = None,
    masses: FloatArray | None = None,
) -> NormalModes:
    """Harmonic analysis of a Hessian (3N, 3N) hartree/bohr^2, with translations and rotations projected out.

    dipole_derivatives (3, 3N) in e, about the centre of nuclear charge or a fixed origin; masses (N,) in electron
    masses, standard atomic weights when None. Intensity: N_A/(12 eps0 c^2) |dmu/dQ|^2, 974.9 km/mol per e^2/amu.
    """
    masses = structure.masses if masses is None else np.asarray(masses, float)
    roots = np.repeat(np.sqrt(masses), 3)
    weighted = np.asarray(hessian) / np.outer(roots, roots)
    rigid = rigid_motions(structure.positions, masses)
    complement = np.linalg.svd(rigid, full_matrices=True)[2][len(rigid) :]
    values, vectors = np.linalg.eigh(complement @ (0.5 * (weighted + weighted.T)) @ complement.T)
    modes = vectors.T @ complement
    # The sign of a mode is free. Its overlap with a direction that no symmetry knows is made positive, so that rounding
    # does not decide, and files and thermal starts compare.
    overlap = modes @ np.cos(1.0 + np.arange(modes.shape[1]))
    modes *= np.where(overlap < 0, -1.0, 1.0)[:, None]
    displacements = modes / roots
    if dipole_derivatives is None:
        mode_dipoles = np.full((len(modes), 3), np.nan)
    else:
        mode_dipoles = displacements @ fixed_origin(structure, dipole_derivatives).T
    return NormalModes(
        numbers=structure.numbers,
        positions=structure.positions,
        masses=masses,
        wavenumbers=np.sign(values) * np.sqrt(np.abs(values)) / PER_CM,
        modes=modes.reshape(len(modes), -1, 3),
        reduced_masses=1 / (displacements**2).sum(1),
        mode_dipoles=mode_dipoles,
        intensities=KM_PER_MOL_PER_E2_ME * (mode_dipoles**2).sum(1),
    )


def sample(
    modes: NormalModes,
    temperature: float,
    count: int,
    rng: np.random.Generator,
    quantum: bool = False,
    width: float = 1.0,
) -> FloatArray:
    """Thermal geometries (count, N, 3) in bohr from the classical harmonic distribution: Q ~ N(0, kT/omega^2), or from
    the quantum one, Q ~ N(0, coth(omega/2kT) / 2 omega), zero-point motion included; all amplitudes times `width`.

    temperature in hartree. Imaginary and soft modes (below 100 cm-1) get the amplitude of 100 cm-1, and no mode
    moves an atom by more than 0.4 bohr rms, because straight lines leave the path of a torsion. Geometries with
    broken bonds or new contacts are drawn again, and after 20 draws shrunk towards the minimum.
    """
    omega = PER_CM * np.maximum(modes.wavenumbers, MIN_WAVENUMBER_PER_CM)
    sigma = np.sqrt(temperature) / omega
    if quantum:
        sigma = np.sqrt(1 / (2 * omega * np.tanh(omega / (2 * temperature))))
    sigma = width * sigma
    displacements = modes.modes / np.sqrt(modes.masses)[:, None]
    reach = sigma * np.sqrt((displacements**2).sum(2).max(1, initial=0.0))
    sigma = sigma * np.minimum(1.0, MAX_RMS_BOHR / np.maximum(reach, 1e-300))
    result = np.repeat(modes.positions[None], count, 0)
    missing = np.arange(count)
    scale = 1.0
    for attempt in range(100):
        if not len(missing):
            break
        scale *= 1.0 if attempt < 20 else 0.9
        amplitudes = scale * sigma * rng.standard_normal((len(missing), len(sigma)))
        trial = modes.positions + np.einsum("sk,kia->sia", amplitudes, displacements)
        good = keeps_bonds(modes.numbers, modes.positions, trial)
        result[missing[good]] = trial[good]
        missing = missing[~good]
    return result


def zero_point_samples(modes: NormalModes, temperature: float, count: int, rng: np.random.Generator) -> FloatArray:
    """Geometries (count, N, 3) in bohr for labels where quantum nuclei go: of the quantum harmonic distribution, and of
    the same with wider amplitudes in turn (`ZERO_POINT_WIDTHS`), for the tails of it that many beads reach."""
    drawn = np.empty((count, *modes.positions.shape))
    for first, width in enumerate(ZERO_POINT_WIDTHS):
        places = np.arange(first, count, len(ZERO_POINT_WIDTHS))
        drawn[places] = sample(modes, temperature, len(places), rng, True, width)
    return drawn


def keeps_bonds(numbers: IntArray, reference: FloatArray, positions: FloatArray) -> BoolArray:
    """Mask (...) of the geometries (..., N, 3) that keep the bonds of the reference (N, 3) without new contacts.

    A bond may be 0.72 to 1.35 times its reference length; a pair without a bond stays out of bonding distance, or
    beyond 0.85 times its reference distance where it is nearer than that already.
    """
    from ase.data import covalent_radii

    radii = np.asarray(covalent_radii)[numbers]
    first, second = np.triu_indices(len(numbers), 1)
    contact = BOND_FRACTION * (radii[first] + radii[second]) * ANGSTROM
    start = np.sqrt(((reference[first] - reference[second]) ** 2).sum(-1))
    distance = np.sqrt(((positions[..., first, :] - positions[..., second, :]) ** 2).sum(-1))
    bonded = start < contact
    low = np.where(bonded, BOND_RANGE[0] * start, np.minimum(contact, 0.85 * start))
    high = np.where(bonded, BOND_RANGE[1] * start, np.inf)
    return np.asarray(((distance >= low) & (distance <= high)).all(-1))


def mode_coordinates(positions: FloatArray, modes: NormalModes) -> FloatArray:
    """Normal coordinates Q (..., n_modes), bohr sqrt(electron mass), of geometries (..., N, 3) in the Eckart frame."""
    rotated, _ = eckart_frame(positions, modes.positions, modes.masses)
    displacement = (rotated - modes.positions) * np.sqrt(modes.masses)[:, None]
    return _project(displacement, modes)


def mode_velocities(positions: FloatArray, velocities: FloatArray, modes: NormalModes) -> FloatArray:
    """Time derivatives dQ/dt (..., n_modes) of the normal coordinates; positions and velocities (..., N, 3).

    The velocities are taken in the Eckart frame, its rotation removed, so this is the exact derivative of
    `mode_coordinates`. Half the square of each is that mode's kinetic energy in hartree (harmonic limit).
    """
    internal = internal_velocities(positions, velocities, modes.positions, modes.masses)
    return _project(internal * np.sqrt(modes.masses)[:, None], modes)


def _project(weighted: FloatArray, modes: NormalModes) -> FloatArray:
    flat = weighted.reshape(*weighted.shape[:-2], -1)
    return np.asarray(flat @ modes.modes.reshape(len(modes), -1).T)


def isotope_masses(structure: Structure, pattern: Mapping[str, float], where: str = "system.isotopes") -> FloatArray:
    """Masses (N,) in electron masses with some replaced: amu by element ('H') or by 1-based atom ('H6').

    Raises InputError for an atom or element that the structure does not have, and for what is no mass of its.
    """
    masses = structure.masses.copy()
    names = structure.symbols
    # Single atoms win over their element, whatever the order in the deck.
    for key in sorted(pattern, key=lambda name: name[-1].isdigit()):
        symbol = key.rstrip("0123456789")
        index = key[len(symbol) :]
        chosen = [i for i, name in enumerate(names) if name == symbol and (not index or i == int(index) - 1)]
        if not chosen:
            raise InputError(
                "no such atom in the structure",
                where=where,
                value=key,
                hint="write an element ('H') or an element with its 1-based number ('H6'); "
                + "atoms: "
                + " ".join(f"{name}{i + 1}" for i, name in enumerate(names)),
            )
        check_mass(symbol, pattern[key], where)
        masses[chosen] = pattern[key] * AMU
    return masses


def thermal_geometries(
    structure: Structure, temperature: float, count: int, random: np.random.Generator, quantum: bool = False
) -> FloatArray:
    """Geometries (count, N, 3) in bohr about a conformer, thermal in the modes of a model force field: no label needed.

    temperature in hartree; quantum: with zero-point motion (see `sample`).
    """
    modes = normal_modes(structure, model_hessian(structure))
    return sample(modes, temperature, count, random, quantum)
