"""Polynomials of position and momentum between harmonic oscillator states of many modes, as sparse rows.

q = (a + a+)/sqrt(2), d/dq = (a - a+)/sqrt(2), in dimensionless normal coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, combinations_with_replacement
from math import factorial

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Quanta = NDArray[np.int8]


class StateTable:
    """A growing list of occupations: each gets a number when it is first met."""

    def __init__(self, modes: int) -> None:
        self.modes = modes
        self._numbers: dict[bytes, int] = {}
        self._rows: list[Quanta] = []

    def __len__(self) -> int:
        return len(self._rows)

    def numbers_of(self, quanta: Quanta) -> IntArray:
        """Numbers (S,) of occupations (S, n), new ones appended."""
        rows = np.ascontiguousarray(quanta, np.int8)
        found = np.empty(len(rows), np.int64)
        for index, row in enumerate(rows):
            key = row.tobytes()
            number = self._numbers.get(key)
            if number is None:
                number = self._numbers[key] = len(self._rows)
                self._rows.append(row.copy())
            found[index] = number
        return found

    @property
    def quanta(self) -> Quanta:
        """Occupations (S, n) of all states so far."""
        return np.array(self._rows, np.int8).reshape(-1, self.modes)


def states_up_to(modes: int, quanta: int) -> Quanta:
    """Occupations (S, modes) with at most `quanta` quanta in all: the ground state, fundamentals, then pairs and so
    on."""
    rows = []
    for total in range(quanta + 1):
        for chosen in combinations_with_replacement(range(modes), total):
            rows.append(np.bincount(np.array(chosen, np.int64), minlength=modes))
    return np.array(rows, np.int8)


def monomials(tensor: FloatArray, threshold: float = 0.0) -> tuple[IntArray, FloatArray]:
    """Index lists (M, order) and coefficients (M,) of sum_ij.. tensor_ij.. q_i q_j .. / order!, for a symmetric
    tensor."""
    order, modes = tensor.ndim, len(tensor)
    chosen = np.array(list(combinations_with_replacement(range(modes), order)), np.int64)
    values = tensor[tuple(chosen.T)]
    large = np.abs(values) > threshold
    chosen, values = chosen[large], values[large]
    repeats = np.array([_repeats(row) for row in chosen.tolist()]) if len(chosen) else np.ones(0)
    return chosen, values / repeats


def _repeats(row: Sequence[int]) -> int:
    result = 1
    for mode in set(row):
        result *= factorial(row.count(mode))
    return result


def apply_positions(state: Quanta, indices: IntArray, coefficients: FloatArray) -> tuple[Quanta, FloatArray]:
    """The result of sum_m c_m q_i q_j .. on one state (n,): occupations (K, n), all different, and amplitudes (K,)."""
    rows = np.repeat(state[None], len(indices), 0)
    amplitudes = coefficients.copy()
    for column in range(indices.shape[1] if indices.ndim == 2 else 0):
        rows, amplitudes, indices = _ladder(rows, amplitudes, indices, column, 1.0)
    return _collected(rows, amplitudes)


def apply_rotation(state: Quanta, pairs: IntArray, coefficients: FloatArray) -> tuple[Quanta, FloatArray]:
    """The result of sum_m c_m q_k d/dq_l on one state (n,), k != l, for pairs (M, 2) of (k, l)."""
    rows, amplitudes = np.repeat(state[None], len(pairs), 0), coefficients.copy()
    rows, amplitudes, pairs = _ladder(rows, amplitudes, pairs, 1, -1.0)
    rows, amplitudes, _ = _ladder(rows, amplitudes, pairs, 0, 1.0)
    return _collected(rows, amplitudes)


def _ladder(
    rows: Quanta, amplitudes: FloatArray, indices: IntArray, column: int, sign: float
) -> tuple[Quanta, FloatArray, IntArray]:
    """Both halves of (a + sign a+)/sqrt(2) of the mode in one column of the index lists."""
    here = np.arange(len(rows)), indices[:, column]
    held = rows[here].astype(float)
    up, down = rows.copy(), rows.copy()
    up[here] += 1
    down[here] -= 1
    lowered = held > 0
    return (
        np.concatenate([up, down[lowered]]),
        np.concatenate([sign * amplitudes * np.sqrt((held + 1) / 2), amplitudes[lowered] * np.sqrt(held[lowered] / 2)]),
        np.concatenate([indices, indices[lowered]]),
    )


def _collected(rows: Quanta, amplitudes: FloatArray) -> tuple[Quanta, FloatArray]:
    if not len(rows):
        return rows, amplitudes
    keys = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel()
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    return rows[first], np.asarray(np.bincount(place.ravel(), weights=amplitudes), float)


def sparse_rows(results: Sequence[tuple[Quanta, FloatArray]], table: StateTable) -> csr_array:
    """Rows (A, states known to the table) of what an operator makes of A states."""
    if not results:
        return csr_array((0, len(table)))
    columns = [table.numbers_of(quanta) for quanta, _ in results]
    starts = np.concatenate([[0], np.cumsum([len(column) for column in columns])])
    values = np.concatenate([amplitudes for _, amplitudes in results])
    return csr_array((values, np.concatenate(columns), starts), shape=(len(results), len(table)))


def widened(rows: csr_array, width: int) -> csr_array:
    """The same rows with more columns."""
    return csr_array((rows.data, rows.indices, rows.indptr), shape=(rows.shape[0], width))


# <v| q^p |v'> as a table: [power, v, v'], for v, v' up to this many quanta.
LARGEST = 12


def _powers() -> FloatArray:
    size = LARGEST + 6
    q = np.zeros((size, size))
    steps = np.sqrt(np.arange(1, size) / 2)
    q[np.arange(size - 1), np.arange(1, size)] = q[np.arange(1, size), np.arange(size - 1)] = steps
    found = [np.eye(size)]
    for _ in range(4):
        found.append(found[-1] @ q)
    return np.array(found)[:, : LARGEST + 1, : LARGEST + 1]


POWERS = _powers()


def quartic_element(quartic: FloatArray, left: Quanta, right: Quanta) -> float:
    """<left| sum f_ijkl q_i q_j q_k q_l / 24 |right> between two states (n,)."""
    modes = len(left)
    change = np.abs(left.astype(int) - right.astype(int))
    total = int(change.sum())
    if total > 4 or total % 2:
        return 0.0
    base = np.repeat(np.arange(modes), change)
    free = (4 - total) // 2
    if free == 0:
        return _quartic_term(quartic, base, left, right)
    if free == 1:
        return float(sum(_quartic_term(quartic, np.append(base, (m, m)), left, right) for m in range(modes)))
    result = 0.0
    for m in range(modes):
        result += _quartic_term(quartic, np.array([m, m, m, m]), left, right)
    for m, k in combinations(range(modes), 2):
        result += _quartic_term(quartic, np.array([m, m, k, k]), left, right)
    return result


def _quartic_term(quartic: FloatArray, indices: IntArray, left: Quanta, right: Quanta) -> float:
    constant = float(quartic[tuple(indices)])
    if constant == 0.0:
        return 0.0
    for mode in set(indices.tolist()):
        power = int((indices == mode).sum())
        constant *= POWERS[power, left[mode], right[mode]] / factorial(power)
    return constant


def quartic_diagonal(quartic: FloatArray, quanta: Quanta) -> FloatArray:
    """<v| sum f_ijkl q_i q_j q_k q_l / 24 |v> of states (S, n): sum_i f_iiii (6v^2+6v+3)/96 + sum_i<k f_iikk (v_i+1/2)
    (v_k+1/2)/4."""
    v = quanta.astype(float)
    modes = np.arange(quanta.shape[1])
    own = quartic[modes, modes, modes, modes]
    pairs = quartic[modes[:, None], modes[:, None], modes[None], modes[None]] * (1 - np.eye(len(modes)))
    half = v + 0.5
    return (6 * v**2 + 6 * v + 3) @ own / 96 + 0.125 * np.einsum("si,ik,sk->s", half, pairs, half)
