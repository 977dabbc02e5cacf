"""Vibrational configuration interaction: Watson's Hamiltonian in products of one-mode functions, on the n-mode
expansion of a surface.

H = sum_ab pi_a mu_ab pi_b / 2 - sum_a mu_aa / 8 + sum_k P_k^2 / 2 + V (without the second term for linear molecules);
Watson, Mol. Phys. 15, 479, 1968 and 19, 465, 1970. Bowman, Carter, Huang, Int. Rev. Phys. Chem. 22, 533, 2003 (method).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import csr_array

from hpcir.arrays import FloatArray
from hpcir.vibrations.levels.mode_expansion import (
    Assembler,
    Cut,
    ModeExpansion,
    ProductBasis,
    expand,
    local_matrix,
    one_mode_cuts,
    paired,
    product_basis,
)
from hpcir.vibrations.levels.rovibration import EckartFrame
from hpcir.vibrations.levels.surface import Surface
from hpcir.vibrations.levels.vpt2 import VibrationalStates


@dataclass(frozen=True)
class VciSettings:
    """functions: modals of a mode; quadrature: points of a mode; states: products in the basis; coupling: most modes in
    a term of the potential; dipole_coupling: of the dipole; eigenstates: levels that are kept."""

    functions: int = 9
    quadrature: int = 11
    states: int = 2000
    coupling: int = 3
    dipole_coupling: int = 2
    eigenstates: int = 120


def settings_for(modes: int) -> VciSettings:
    """Affordable settings for this many modes."""
    if modes <= 3:
        return VciSettings(functions=12, quadrature=14, states=600, coupling=3, dipole_coupling=3, eigenstates=60)
    if modes <= 4:
        return VciSettings(functions=12, quadrature=14, states=1500, coupling=3, dipole_coupling=3)
    if modes <= 6:
        return VciSettings(functions=9, quadrature=10, states=2500)
    return VciSettings(functions=6, quadrature=8, states=2500)


@dataclass(frozen=True)
class VciResult:
    """Eigenstates; energies (S,) of the lowest ones in half of the basis, for convergence; the one-mode cuts."""

    states: VibrationalStates
    halved: FloatArray
    cuts: tuple[Cut, ...]


def variational_levels(surface: Surface, frame: EckartFrame, settings: VciSettings | None = None) -> VciResult:
    """The lowest eigenstates of Watson's Hamiltonian on a surface, with transition dipoles from the ground state."""
    settings = settings or settings_for(len(frame))
    cuts = one_mode_cuts(surface, frame, settings.functions, settings.quadrature)
    basis = product_basis(cuts, settings.states)
    assembler = Assembler(basis)

    def values(coordinates: FloatArray) -> FloatArray:
        found = surface(frame.positions(coordinates))
        return np.column_stack([found.energies, found.dipoles])

    expansion = expand(values, cuts, settings.coupling)
    hamiltonian = _potential_matrix(expansion, frame, cuts, basis, assembler)
    hamiltonian += _vibrational_rotation(frame, cuts, basis, assembler)
    count = min(settings.eigenstates, len(basis))
    energies, vectors = eigh(hamiltonian, subset_by_index=(0, count - 1), driver="evr")
    half = max(len(basis) // 2, count)
    halved = eigh(hamiltonian[:half, :half], subset_by_index=(0, count - 1), eigvals_only=True, driver="evr")
    moments = np.full((count, 3), np.nan)
    if np.isfinite(expansion.constant).all():
        moments = _moments(expansion, settings.dipole_coupling, cuts, basis, assembler, vectors)
    return VciResult(VibrationalStates(energies, basis.quanta, vectors, moments), halved, tuple(cuts))


def _potential_matrix(
    potential: ModeExpansion, frame: EckartFrame, cuts: list[Cut], basis: ProductBasis, assembler: Assembler
) -> FloatArray:
    """Kinetic energy of the modes, potential above the minimum, and Watson's mass-dependent term, (B, B) hartree."""
    matrix = np.zeros((len(basis), len(basis)))
    for mode, cut in enumerate(cuts):
        size = basis.sizes[mode]
        assembler.add(matrix, cut.modals.kinetic[:size, :size], (mode,))
    for modes, values in potential.terms.items():
        assembler.add(matrix, local_matrix(values[..., 0], cuts, modes, basis.sizes), modes)
    if not frame.linear:
        trace = expand(lambda q: -0.125 * np.trace(frame.reciprocal_inertia(q), axis1=1, axis2=2)[:, None], cuts, 2)
        matrix[np.diag_indices(len(basis))] += trace.constant[0]
        for modes, values in trace.terms.items():
            assembler.add(matrix, local_matrix(values[..., 0], cuts, modes, basis.sizes), modes)
    return matrix


def _vibrational_rotation(frame: EckartFrame, cuts: list[Cut], basis: ProductBasis, assembler: Assembler) -> FloatArray:
    """sum_ab pi_a mu_ab pi_b / 2 (B, B), the sum over intermediate states taken in the basis; mu to two modes."""
    angular = {axis: _angular_momentum(frame, axis, cuts, basis, assembler) for axis in frame.turning}
    reciprocal = expand(lambda q: frame.reciprocal_inertia(q).reshape(-1, 9), cuts, 2)
    result = np.zeros((len(basis), len(basis)))
    for a, left in angular.items():
        for b, right in angular.items():
            if left is None or right is None or b < a:
                continue
            column = 3 * a + b
            mu = np.zeros_like(result)
            mu[np.diag_indices(len(basis))] = reciprocal.constant[column]
            for modes, values in reciprocal.terms.items():
                if np.abs(values[..., column]).max() > 1e-12:
                    assembler.add(mu, local_matrix(values[..., column], cuts, modes, basis.sizes), modes)
            part = 0.5 * (left.T @ (right.T @ mu.T).T)
            result += part if a == b else part + part.T
    return result


def _angular_momentum(
    frame: EckartFrame, axis: int, cuts: list[Cut], basis: ProductBasis, assembler: Assembler
) -> csr_array | None:
    """sum_kl zeta_kl Q_k d/dQ_l (B, B), real and antisymmetric; pi = -i times it. None where it vanishes."""
    zeta = frame.coriolis[axis]
    dense = np.zeros((len(basis), len(basis)))
    found = False
    for k in range(len(cuts)):
        for l in range(k + 1, len(cuts)):
            if abs(zeta[k, l]) < 1e-8:
                continue
            found = True
            one, two = cuts[k].modals, cuts[l].modals
            m, n = basis.sizes[k], basis.sizes[l]
            first = np.einsum("ab,cd->abcd", one.position[:m, :m], two.derivative[:n, :n])
            second = np.einsum("ab,cd->abcd", one.derivative[:m, :m], two.position[:n, :n])
            assembler.add(dense, zeta[k, l] * paired(first - second, 2), (k, l))
    if not found:
        return None
    dense[np.abs(dense) < 1e-9] = 0.0
    return csr_array(dense)


def _moments(
    expansion: ModeExpansion,
    order: int,
    cuts: list[Cut],
    basis: ProductBasis,
    assembler: Assembler,
    vectors: FloatArray,
) -> FloatArray:
    """<0|mu|s> (S, 3) in e bohr, from the dipole's terms (columns 1 to 3) of up to `order` modes."""
    columns = []
    for axis in (1, 2, 3):
        matrix = np.zeros((len(basis), len(basis)))
        matrix[np.diag_indices(len(basis))] = expansion.constant[axis]
        for modes, values in expansion.terms.items():
            if len(modes) <= order:
                assembler.add(matrix, local_matrix(values[..., axis], cuts, modes, basis.sizes), modes)
        columns.append(vectors.T @ (matrix @ vectors[:, 0]))
    return np.column_stack(columns)
