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
from scipy.sparse import csr_array

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.units import PER_CM
from hpcir.vibrations.levels.force_field import ForceField
from hpcir.vibrations.levels.oscillator_states import (
    LARGEST,
    KeyTable,
    Quanta,
    applied,
    key_steps,
    keys_of,
    monomials,
    quartic_diagonal,
    quartic_elements,
    states_up_to,
    widened,
)
from hpcir.vibrations.levels.rovibration import EckartFrame

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
    transformation = _Transformation(field, frame, resonances, model)
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

    def __init__(self, field: ForceField, frame: EckartFrame, resonances: tuple[Resonance, ...], model: Quanta) -> None:
        self.field, self.frame, self.model = field, frame, model
        self.table = KeyTable(keys_of(model))
        self.harmonic = (model + 0.5) @ frame.frequencies
        self.terms = applied(model, *monomials(field.cubic, NEGLIGIBLE * PER_CM))
        self.generator, self.regular, self.resonant = self._split(resonances)
        self.coriolis = self._coriolis()

    def _split(self, resonances: tuple[Resonance, ...]) -> tuple[csr_array, csr_array, csr_array]:
        """M = V1 / (E_a - E_k) without resonances, V1 without them, and the resonant part of V1."""
        terms, steps = self.terms, key_steps(len(self.frame))
        # The change of a state by a resonance is a number that its key changes by.
        changed = terms.keys - keys_of(self.model)[terms.rows]
        places = np.array([(one.upper, *one.lower) for one in resonances], np.int64).reshape(-1, 3)
        patterns = steps[places[:, 0]] - steps[places[:, 1]] - steps[places[:, 2]]
        resonant = np.isin(changed, np.concatenate([patterns, -patterns]))
        numbers = self.table.numbers_of(terms.keys)
        shape = len(self.model), len(self.table)

        def rows(chosen: IntArray, values: FloatArray) -> csr_array:
            return csr_array((values, (terms.rows[chosen], numbers[chosen])), shape=shape)

        kept, rest = np.flatnonzero(resonant), np.flatnonzero(~resonant)
        regular = terms.amplitudes[rest]
        gaps = -terms[rest].changes(self.frame.frequencies)
        return rows(rest, regular / gaps), rows(rest, regular), rows(kept, terms.amplitudes[kept])

    def _coriolis(self) -> FloatArray:
        """<a| sum_axes B pi^2 |b> between the model states, hartree."""
        frame = self.frame
        ratio = np.sqrt(frame.frequencies[None] / frame.frequencies[:, None])
        total = np.zeros((len(self.model), len(self.model)))
        for axis in frame.turning:
            factors = frame.coriolis[axis] * ratio
            pairs = np.argwhere(np.abs(frame.coriolis[axis]) > 1e-8)
            if not len(pairs):
                continue
            terms = applied(self.model, pairs, factors[tuple(pairs.T)], raising=(1.0, -1.0))
            rows = terms.matrix(KeyTable(keys_of(self.model)), len(self.model))
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
        a, b = np.nonzero(np.triu(self._block() | few_enough, 1))
        elements = quartic_elements(self.field.quartic, self.model[a], self.model[b])
        total[a, b] += elements
        total[b, a] += elements
        return np.asarray(total)

    def _block(self) -> BoolArray:
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
        # The generator to second order, S2 - M M^T / 2, between states of one quantum, or none, and all.
        few = np.flatnonzero(self.model.sum(1) <= 1)
        both = self._second_generator()
        squared = (self.generator @ self.generator[few].T).toarray()
        return np.column_stack([self._moments(axis, few, both[:, few] - 0.5 * squared) for axis in range(3)])

    def _moments(self, axis: int, one: IntArray, both: FloatArray) -> FloatArray:
        """Of one component (A,). one: the states of one quantum and, first, of none; both (A, len(one)): see above."""
        linear, field, count = self.field.dipole_first[axis], self.field, len(self.model)
        modes = np.arange(len(self.frame))[:, None]
        first = applied(self.model, modes, linear).matrix(self.table, count)
        terms = applied(self.model[one], *monomials(field.dipole_second[axis]))
        second = terms.matrix(self.table, len(one))
        moved = self._moved(linear)
        width = len(self.table)
        generator, second = widened(self.generator, width), widened(second, width)
        # <k|mu1|a> between model states, <0|mu2|k>, and M of the ground state.
        between = first[:, :count].toarray()
        quadratic = second[[0]].toarray().ravel()
        ground = generator[[0]].toarray().ravel()
        result = np.zeros(count)
        result[one] = between[0, one] + _cubic_moments(field.dipole_third[axis], self.model)[one]
        result[one] += second @ ground + generator[one] @ (quadratic + moved)
        result[one] += both[:, 0] @ between[:, one] + between[0] @ both
        result[0] = 0.0
        two = np.flatnonzero(self.model.sum(1) == 2)
        result[two] = quadratic[two] + ground[:count] @ between[:, two] + generator[two][:, :count] @ between[0]
        return result

    def _second_generator(self) -> FloatArray:
        """S2 (A, A): W / (E_a - E_k) between model states that are not coupled in the effective Hamiltonian."""
        block = self._block()
        gaps = self.harmonic[None] - self.harmonic[:, None]
        return np.asarray(np.where(block, 0.0, self.coupling / np.where(block, 1.0, gaps)))

    def _moved(self, linear: FloatArray) -> FloatArray:
        """The dipole's linear part applied to M of the ground state, as amplitudes of the table's states (S,)."""
        own = self.terms[self.terms.rows == 0]
        amplitudes = self.generator[[0]].toarray().ravel()[self.table.numbers_of(own.keys)]
        modes = np.arange(len(self.frame))[:, None]
        rows = applied(own.results(self.model), modes, linear).matrix(self.table, len(amplitudes))
        return np.asarray(rows.T @ amplitudes)


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
