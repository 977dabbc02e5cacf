"""Vibrational perturbation theory of second order with resonances (GVPT2), by a Van Vleck transformation in the basis
of harmonic oscillator states.

Nielsen, Rev. Mod. Phys. 23, 90, 1951 (second order); Van Vleck, Phys. Rev. 33, 467, 1929; Martin, Lee, Taylor,
Francois, J. Chem. Phys. 103, 2589, 1995 (test for Fermi resonances); Barone, J. Chem. Phys. 122, 014108, 2005 (GVPT2);
Rosnik, Polik, Mol. Phys. 112, 261, 2014 (Darling-Dennison couplings); Bloino, Barone, J. Chem. Phys. 136, 124108, 2012
(intensities).

Sums over states take the place of the closed formulas of those papers: for nondegenerate modes they are the same, and
degenerate modes (linear molecules, symmetric tops) need no formulas of their own, since nearly equal states are coupled
in the effective Hamiltonian.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from hpcir.units import PER_CM
from hpcir.vibrations.levels.force_field import ForceField
from hpcir.vibrations.levels.oscillator_states import (
    LARGEST,
    Quanta,
    StateTable,
    apply_positions,
    apply_rotation,
    monomials,
    quartic_diagonal,
    quartic_element,
    sparse_rows,
    states_up_to,
    widened,
)
from hpcir.vibrations.levels.rovibration import EckartFrame

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# A cubic coupling is a resonance when the harmonic states are nearer than the first (cm-1), and perturbation theory is
# wrong by more than the second (cm-1) for a two-level model (Martin's test).
RESONANCE_WINDOW, RESONANCE_ERROR = 250.0, 1.0
# States nearer than this (cm-1) are coupled in second order in the effective Hamiltonian, not transformed away.
SECOND_ORDER_WINDOW = 300.0
# Smaller cubic constants and couplings are left out (cm-1).
NEGLIGIBLE = 1e-3
MAX_QUANTA = 4


@dataclass(frozen=True)
class Resonance:
    """A Fermi resonance: mode `upper` near twice a mode, or near the sum of two (`lower`, modes by index).

    gap: harmonic wavenumber of the upper less that of the lower, cm-1; coupling: the cubic constant, cm-1.
    """

    upper: int
    lower: tuple[int, int]
    gap: float
    coupling: float


@dataclass(frozen=True)
class VibrationalStates:
    """Eigenstates of a vibrational Hamiltonian in a basis of products of n modes' states.

    energies (S,) hartree above the minimum, ascending; quanta (B, n): the basis; vectors (B, S): its amplitudes;
    moments (S, 3): transition dipoles from the ground state, e bohr (nan without a dipole surface; zero where unknown).
    """

    energies: FloatArray
    quanta: Quanta
    vectors: FloatArray
    moments: FloatArray


@dataclass(frozen=True)
class PerturbationResult:
    """Levels by perturbation theory, and the resonances that were treated by diagonalisation."""

    states: VibrationalStates
    resonances: tuple[Resonance, ...]


def fermi_resonances(field: ForceField, frequencies: FloatArray) -> tuple[Resonance, ...]:
    """Cubic couplings that Martin's test takes out of perturbation theory.

    Type 1, omega_i near 2 omega_j: f_ijj^4 / (256 gap^3); type 2, omega_i near omega_j + omega_k: f_ijk^4 / (64 gap^3).
    """
    omega = frequencies / PER_CM
    found = []
    n = len(omega)
    for i in range(n):
        for j in range(n):
            for k in range(j, n):
                if i in (j, k):
                    continue
                gap = float(omega[i] - omega[j] - omega[k])
                coupling = float(field.cubic[i, j, k]) / PER_CM
                if abs(gap) > RESONANCE_WINDOW or abs(coupling) < NEGLIGIBLE:
                    continue
                error = coupling**4 / ((256 if j == k else 64) * max(abs(gap), 1e-3) ** 3)
                if error > RESONANCE_ERROR:
                    found.append(Resonance(i, (j, k), gap, coupling))
    return tuple(found)


def perturbed_levels(field: ForceField, frame: EckartFrame, quanta: int = 2) -> PerturbationResult:
    """Levels of all states with up to `quanta` quanta (1 or 2), and of what is in resonance with them."""
    resonances = fermi_resonances(field, frame.frequencies)
    model = _model_states(len(frame), quanta, resonances)
    table = StateTable(len(frame))
    table.numbers_of(model)
    transformation = _Transformation(field, frame, resonances, model, table)
    hamiltonian = transformation.effective_hamiltonian()
    energies, vectors = np.linalg.eigh(hamiltonian)
    moments = vectors.T @ transformation.moments()
    # The ground state is mixed with nothing nearby: its own moment is the permanent dipole, not a transition.
    return PerturbationResult(VibrationalStates(energies, model, vectors, moments), resonances)


def _model_states(modes: int, quanta: int, resonances: tuple[Resonance, ...]) -> Quanta:
    """States with up to `quanta` quanta, and those that resonances connect to them."""
    known = [tuple(row) for row in states_up_to(modes, quanta).tolist()]
    seen = set(known)
    for row in known:  # grows while it is walked
        for resonance in resonances:
            for sign in (1, -1):
                other = list(row)
                other[resonance.upper] += sign
                for mode in resonance.lower:
                    other[mode] -= sign
                key = tuple(other)
                if min(key) >= 0 and sum(key) <= max(quanta, MAX_QUANTA) and key not in seen:
                    seen.add(key)
                    known.append(key)
    return np.array(known, np.int8)


class _Transformation:
    """The Van Vleck transformation of H0 + V1 + V2 to second order on the model states."""

    def __init__(
        self,
        field: ForceField,
        frame: EckartFrame,
        resonances: tuple[Resonance, ...],
        model: Quanta,
        table: StateTable,
    ) -> None:
        self.field, self.frame, self.model, self.table = field, frame, model, table
        self.harmonic = (model + 0.5) @ frame.frequencies
        indices, coefficients = monomials(field.cubic, NEGLIGIBLE * PER_CM)
        rows = sparse_rows([apply_positions(state, indices, coefficients) for state in model], table)
        self.generator, self.regular, self.resonant = self._split(rows, resonances)
        self.coriolis = self._coriolis()

    def _split(self, rows: csr_array, resonances: tuple[Resonance, ...]) -> tuple[csr_array, csr_array, csr_array]:
        """M = V1 / (E_a - E_k) without resonances, V1 without them, and the resonant part of V1."""
        quanta = self.table.quanta.astype(int)
        owner = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        change = quanta[rows.indices] - self.model[owner].astype(int)
        gaps = -(change @ self.frame.frequencies)
        resonant = np.zeros(len(change), bool)
        three = np.flatnonzero(np.abs(change).sum(1) == 3)
        for one in resonances:
            pattern = np.zeros(len(self.frame), int)
            pattern[one.upper] += 1
            for mode in one.lower:
                pattern[mode] -= 1
            own = change[three]
            resonant[three] |= (own == pattern).all(1) | (own == -pattern).all(1)
        safe = np.where(resonant, 1.0, gaps)
        parts = (np.where(resonant, 0.0, rows.data / safe), np.where(resonant, 0.0, rows.data))
        made = [csr_array((data, rows.indices, rows.indptr), shape=rows.shape) for data in parts]
        kept = csr_array((np.where(resonant, rows.data, 0.0), rows.indices, rows.indptr), shape=rows.shape)
        return made[0], made[1], kept

    def _coriolis(self) -> FloatArray:
        """<a| sum_axes B pi^2 |b> between the model states, hartree."""
        frame, n = self.frame, len(self.frame)
        ratio = np.sqrt(frame.frequencies[None] / frame.frequencies[:, None])
        total = np.zeros((len(self.model), len(self.model)))
        table = StateTable(n)
        for axis in frame.turning:
            factors = frame.coriolis[axis] * ratio
            pairs = np.argwhere(np.abs(frame.coriolis[axis]) > 1e-8)
            if not len(pairs):
                continue
            coefficients = factors[tuple(pairs.T)]
            rows = sparse_rows([apply_rotation(state, pairs, coefficients) for state in self.model], table)
            total += frame.rotational_constants[axis] * (rows @ rows.T).toarray()
        return total

    def second_order(self) -> FloatArray:
        """W (A, A): V2 and what V1 makes in second order, between the model states; the quartic part only where the
        states are near, or are needed for intensities."""
        g, v, r = self.generator, self.regular, self.resonant
        crossed = (v @ g.T).toarray()
        mixed = (r @ g.T).toarray()
        total = self.coriolis + 0.5 * (crossed + crossed.T) + mixed + mixed.T
        total[np.diag_indices(len(total))] += quartic_diagonal(self.field.quartic, self.model)
        few = self.model.sum(1)
        few_enough = np.add.outer(few, few) <= 2
        for a, b in np.argwhere(np.triu(self._block() | few_enough, 1)).tolist():
            element = quartic_element(self.field.quartic, self.model[a], self.model[b])
            total[a, b] += element
            total[b, a] += element
        return np.asarray(total)

    def _block(self) -> NDArray[np.bool_]:
        gaps = np.abs(np.subtract.outer(self.harmonic, self.harmonic))
        return np.asarray(gaps < SECOND_ORDER_WINDOW * PER_CM)

    def effective_hamiltonian(self) -> FloatArray:
        """(A, A) in hartree above the minimum, the constant of the kinetic energy included."""
        self.coupling = self.second_order()
        total = np.where(self._block(), self.coupling, 0.0)
        total += self.resonant[:, : len(self.model)].toarray()
        constant = 0.0 if self.frame.linear else -0.25 * float(self.frame.rotational_constants.sum())
        total[np.diag_indices(len(total))] += self.harmonic + constant
        return np.asarray(total)

    def moments(self) -> FloatArray:
        """Transition dipoles (A, 3) from the ground state to the model states, in e bohr: to second order for one
        quantum, first order for two, none for more."""
        if not np.isfinite(self.field.dipole_first).all():
            return np.full((len(self.model), 3), np.nan)
        return np.column_stack([self._moments(axis) for axis in range(3)])

    def _moments(self, axis: int) -> FloatArray:
        linear, field = self.field.dipole_first[axis], self.field
        first, second = self._dipole_rows(linear, field.dipole_second[axis])
        third = _cubic_moments(field.dipole_third[axis], self.model)
        generator, count = widened(self.generator, len(self.table)), len(self.model)
        squared = -(generator @ generator.T).toarray()
        transformed = self._second_generator()
        # <k|mu1|a> between model states, <0|mu2|k>, and M and mu1 M of the ground state.
        between = first[:, :count].toarray()
        quadratic = second[[0]].toarray().ravel()
        ground = generator[[0]].toarray().ravel()
        moved = self._moved(ground, linear)
        quanta = self.model.sum(1)
        result = np.zeros(count)
        for a in np.flatnonzero(quanta == 2):
            own = generator[[a]].toarray().ravel()[:count]
            result[a] = quadratic[a] + ground[:count] @ between[:, a] + between[0] @ own
        for a in np.flatnonzero(quanta == 1):
            own = generator[[a]].toarray().ravel()
            result[a] = between[0, a] + third[a]
            result[a] += float(second[[a]].toarray().ravel() @ ground) + float(quadratic @ own)
            result[a] += transformed[:, 0] @ between[:, a] + between[0] @ transformed[:, a]
            result[a] += 0.5 * (squared[:, 0] @ between[:, a] + between[0] @ squared[:, a])
            result[a] += float(moved @ own)
        return result

    def _second_generator(self) -> FloatArray:
        """S2 (A, A): W / (E_a - E_k) between model states that are not coupled in the effective Hamiltonian."""
        block = self._block()
        gaps = self.harmonic[None] - self.harmonic[:, None]
        return np.asarray(np.where(block, 0.0, self.coupling / np.where(block, 1.0, gaps)))

    def _dipole_rows(self, linear: FloatArray, quadratic: FloatArray) -> tuple[csr_array, csr_array]:
        """Rows of the dipole's linear part on the model states, and of the quadratic part on those of at most one
        quantum (others empty)."""
        modes = np.arange(len(self.frame))[:, None]
        first = sparse_rows([apply_positions(state, modes, linear) for state in self.model], self.table)
        pairs, coefficients = monomials(quadratic)
        nothing = (np.zeros((0, len(self.frame)), np.int8), np.zeros(0))
        results = [apply_positions(s, pairs, coefficients) if s.sum() <= 1 else nothing for s in self.model]
        second = sparse_rows(results, self.table)
        return widened(first, len(self.table)), second

    def _moved(self, amplitudes: FloatArray, linear: FloatArray) -> FloatArray:
        """The dipole's linear part applied to a sum of states (S,), as amplitudes of the table's states (S,)."""
        quanta = self.table.quanta
        modes = np.arange(len(self.frame))[:, None]
        sources = np.flatnonzero(amplitudes)
        scratch = StateTable(len(self.frame))
        scratch.numbers_of(quanta)
        rows = sparse_rows([apply_positions(quanta[k], modes, linear) for k in sources], scratch)
        return np.asarray(amplitudes[sources] @ rows)[: len(quanta)]


def _cubic_moments(third: FloatArray, model: Quanta) -> FloatArray:
    """<0| sum mu_ijk q_i q_j q_k / 6 |a> (A,) for states of one quantum: <0|q^3|1> = 3/(2 sqrt 2), <0|q q'^2|1> = 1/(2
    sqrt 2)."""
    result = np.zeros(len(model))
    for a in np.flatnonzero(model.sum(1) == 1):
        i = int(model[a].argmax())
        result[a] = float(np.diagonal(third[i]).sum()) / (4 * np.sqrt(2))
    return result


def wanted_quanta(modes: int) -> int:
    """The number of quanta of the levels: 2 where that is affordable, 1 for large molecules."""
    return 2 if modes <= 36 else 1


assert MAX_QUANTA + 3 <= LARGEST
