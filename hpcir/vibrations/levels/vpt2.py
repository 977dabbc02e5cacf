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
MOST_QUANTA = 4


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
                if min(key) >= 0 and sum(key) <= max(quanta, MOST_QUANTA) and key not in seen:
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
        for a, b in zip(*np.triu_indices(len(total), 1), strict=True):
            if self._near(a, b) or (few[a] + few[b] <= 2 and few[a] <= 1):
                element = quartic_element(self.field.quartic, self.model[a], self.model[b])
                total[a, b] += element
                total[b, a] += element
        return np.asarray(total)

    def _near(self, a: int, b: int) -> bool:
        return bool(abs(self.harmonic[a] - self.harmonic[b]) < SECOND_ORDER_WINDOW * PER_CM)

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
        first, second, third = self._dipole_rows(axis)
        g, count = widened(self.generator, len(self.table)), len(self.model)
        few = self.model.sum(1)
        ground, sources = 0, np.flatnonzero(few <= 1)
        s2 = np.where(self._block(), 0.0, self.coupling)
        gaps = self.harmonic[None] - self.harmonic[:, None]  # [k, a]: E_a - E_k
        s2 = np.where(self._block(), 0.0, s2 / np.where(self._block(), 1.0, gaps))
        squared = -(g @ g.T).toarray()
        # <k|mu1|a> between model states.
        mu1 = first[:, :count].toarray()
        mu2_ground = second[[ground]].toarray().ravel()
        result = np.zeros(count)
        generator_ground = g[[ground]].toarray().ravel()
        for a in np.flatnonzero(few == 2):
            row = g[[a]].toarray().ravel()[:count]
            result[a] = mu2_ground[a] + generator_ground[:count] @ mu1[:, a] + mu1[ground] @ row
        for a in sources[sources != ground]:
            row = g[[a]].toarray().ravel()
            value = mu1[ground, a] + third[a]
            value += float(second[[a]].toarray().ravel() @ generator_ground) + float(mu2_ground @ row)
            value += s2[:, ground] @ mu1[:, a] + mu1[ground] @ s2[:, a]
            value += 0.5 * (squared[:, ground] @ mu1[:, a] + mu1[ground] @ squared[:, a])
            value += float(generator_ground @ (self._first_operator(axis) @ row))
            result[a] = value
        return result

    def _dipole_rows(self, axis: int) -> tuple[csr_array, csr_array, FloatArray]:
        """Rows of the linear part on the model states, of the quadratic part on states of at most one quantum (others
        empty), and <0|cubic part|a> (A,)."""
        model, field, table = self.model, self.field, self.table
        modes = np.arange(len(self.frame))[:, None]
        linear = field.dipole_first[axis]
        first = sparse_rows([apply_positions(state, modes, linear) for state in model], table)
        pairs, coefficients = monomials(field.dipole_second[axis])
        nothing = (np.zeros((0, len(self.frame)), np.int8), np.zeros(0))
        second = sparse_rows(
            [apply_positions(s, pairs, coefficients) if s.sum() <= 1 else nothing for s in model], table
        )
        third = np.zeros(len(model))
        cubic = field.dipole_third[axis]
        for a in np.flatnonzero(model.sum(1) == 1):
            i = int(model[a].argmax())
            # <0|q_i^3|1> = 3/(2 sqrt 2), <0|q_i q_k^2|1_i> = 1/(2 sqrt 2).
            others = sum(float(cubic[i, k, k]) for k in range(len(self.frame)) if k != i)
            third[a] = (float(cubic[i, i, i]) / 6 * 3 + others / 2) / (2 * np.sqrt(2))
        self._linear = {**getattr(self, "_linear", {}), axis: linear}
        return widened(first, len(table)), widened(second, len(table)), third

    def _first_operator(self, axis: int) -> csr_array:
        """The linear part of the dipole between all states of the table (built once for each axis)."""
        kept: dict[int, csr_array] = getattr(self, "_operators", {})
        if axis not in kept:
            wanted = np.flatnonzero(np.asarray(np.abs(self.generator[[0]]).sum(0)).ravel())
            quanta = self.table.quanta
            modes = np.arange(len(self.frame))[:, None]
            results = [apply_positions(quanta[k], modes, self._linear[axis]) for k in wanted]
            scratch = StateTable(len(self.frame))
            scratch.numbers_of(quanta)
            rows = sparse_rows(results, scratch)[:, : len(quanta)].tocoo()
            kept = {**kept, axis: csr_array((rows.data, (wanted[rows.row], rows.col)), shape=(len(quanta),) * 2)}
            self._operators = kept
        return kept[axis]


def wanted_quanta(modes: int) -> int:
    """How many quanta levels are given for: 2 where that is affordable, 1 for large molecules."""
    return 2 if modes <= 36 else 1


assert MOST_QUANTA + 3 <= LARGEST
