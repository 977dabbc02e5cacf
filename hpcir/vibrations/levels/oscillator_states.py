"""Polynomials of position and momentum between harmonic oscillator states of many modes, as sparse rows.

q = (a + a+)/sqrt(2), d/dq = (a - a+)/sqrt(2), in dimensionless normal coordinates. All states are treated at once: a
state is known by a key that is linear in its quanta, so that a ladder operator adds a number to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import factorial

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from hpcir.arrays import BoolArray, FloatArray, IntArray

KeyArray = NDArray[np.uint64]
SmallIntArray = NDArray[np.int8]
Quanta = NDArray[np.int8]

# What a and a+ make of a state with so many quanta, over sqrt(2).
_DOWN, _UP = np.sqrt(np.arange(0, 120) / 2), np.sqrt(np.arange(1, 121) / 2)
# Terms of an operator that are held at once, before those of one state are added up.
MAX_TERMS = 1 << 21


def states_up_to(modes: int, quanta: int) -> Quanta:
    """Occupations (S, modes) with at most `quanta` quanta in all: the ground state, fundamentals, then pairs and so
    on."""
    rows = []
    for total in range(quanta + 1):
        for chosen in combinations_with_replacement(range(modes), total):
            rows.append(np.bincount(np.array(chosen, np.int64), minlength=modes))
    return np.array(rows, np.int8)


def key_steps(modes: int) -> KeyArray:
    """Steps of a state's key for a quantum of each mode (n,): numbers of 64 bits at random, by which a million states
    have two equal keys with a probability of 3e-8."""
    return np.random.Generator(np.random.Philox(key=20)).integers(1, 2**64 - 1, modes, np.uint64)


def keys_of(quanta: Quanta) -> KeyArray:
    """Keys (S,) of occupations (S, n): sums of `key_steps`, modulo 2^64."""
    steps = key_steps(quanta.shape[1])
    return np.asarray((quanta.astype(np.int64).astype(np.uint64) * steps).sum(1, dtype=np.uint64))


class KeyTable:
    """Numbers of states by their keys: first those given (A,), in their order, then each as it is first met."""

    def __init__(self, first: KeyArray) -> None:
        order = np.argsort(first)
        self._keys, self._numbers = first[order], order.astype(np.int64)

    def __len__(self) -> int:
        return len(self._keys)

    def numbers_of(self, keys: KeyArray) -> IntArray:
        """Numbers (T,) of the states with these keys, new ones appended."""
        unique, inverse = np.unique(keys, return_inverse=True)
        place = np.minimum(np.searchsorted(self._keys, unique), max(len(self) - 1, 0))
        known = self._keys[place] == unique if len(self) else np.zeros(len(unique), bool)
        numbers = np.empty(len(unique), np.int64)
        numbers[known] = self._numbers[place[known]]
        numbers[~known] = len(self) + np.arange(np.count_nonzero(~known))
        every = np.concatenate([self._keys, unique[~known]])
        order = np.argsort(every)
        self._keys, self._numbers = every[order], np.concatenate([self._numbers, numbers[~known]])[order]
        return np.asarray(numbers[inverse.ravel()])


@dataclass(frozen=True)
class OperatorTerms:
    """Results of an operator on A states: T terms, no two with the same state and result.

    rows (T,): the state; keys (T,): of the result; amplitudes (T,); modes (T, order) and signs (T, order): the quanta
    that the result has more or less than the state.
    """

    rows: IntArray
    keys: KeyArray
    amplitudes: FloatArray
    modes: SmallIntArray
    signs: SmallIntArray

    def __getitem__(self, chosen: BoolArray | IntArray) -> OperatorTerms:
        """Some of the terms."""
        return OperatorTerms(
            self.rows[chosen], self.keys[chosen], self.amplitudes[chosen], self.modes[chosen], self.signs[chosen]
        )

    def changes(self, values: FloatArray) -> FloatArray:
        """(T,) what the change of quanta adds to a quantity that a quantum of each mode has (n,) of."""
        return np.asarray((self.signs * values[self.modes]).sum(1))

    def results(self, states: Quanta) -> Quanta:
        """Occupations (T, n) of the results, of states (A, n)."""
        found = states[self.rows].astype(np.int64)
        for column in range(self.modes.shape[1]):
            found[np.arange(len(found)), self.modes[:, column]] += self.signs[:, column]
        return found.astype(np.int8)

    def matrix(self, table: KeyTable, count: int) -> csr_array:
        """Rows (count, states known to the table) of the amplitudes."""
        numbers = table.numbers_of(self.keys)
        return csr_array((self.amplitudes, (self.rows, numbers)), shape=(count, len(table)))


def applied(
    states: Quanta, indices: IntArray, coefficients: FloatArray, raising: Sequence[float] = (1.0, 1.0, 1.0)
) -> OperatorTerms:
    """The result of sum_m c_m x_i x_j .. on states (A, n), for index lists (M, order) and coefficients (M,).

    x is q, or d/dq for the columns whose `raising` is -1: then no mode may be twice in a list.
    """
    at_once = max(1, MAX_TERMS // max(2 * len(indices), 1))
    parts = [
        _applied(states[start : start + at_once], start, indices, coefficients, raising)
        for start in range(0, max(len(states), 1), at_once)
    ]
    columns = zip(*((one.rows, one.keys, one.amplitudes, one.modes, one.signs) for one in parts), strict=True)
    rows, keys, amplitudes, modes, signs = (np.concatenate(column) for column in columns)
    return OperatorTerms(rows, keys, amplitudes, modes, signs)


def _applied(
    states: Quanta, first: int, indices: IntArray, coefficients: FloatArray, raising: Sequence[float]
) -> OperatorTerms:
    """`applied` for states numbered from `first`."""
    order, lists = indices.shape[1], indices.astype(np.int8)
    row = np.repeat(np.arange(len(states)), len(indices))
    term = np.tile(np.arange(len(indices)), len(states))
    amplitudes = np.tile(coefficients, len(states))
    signs = np.zeros((len(row), order), np.int8)
    for column in range(order):
        mode = lists[term, column]
        held = states[row, mode]
        for before in range(column):
            held += signs[:, before] * (lists[term, before] == mode)
        low = np.flatnonzero(held > 0)
        up, down = signs, signs[low]
        up[:, column], down[:, column] = 1, -1
        amplitudes = np.concatenate([raising[column] * amplitudes * _UP[held], amplitudes[low] * _DOWN[held[low]]])
        signs = np.concatenate([up, down])
        row, term = np.concatenate([row, row[low]]), np.concatenate([term, term[low]])
    modes, steps = lists[term], key_steps(states.shape[1])
    keys = keys_of(states)[row]
    for column in range(order):
        own = steps[modes[:, column]]
        keys += np.where(signs[:, column] > 0, own, -own)
    return _collected(OperatorTerms(row, keys, amplitudes, modes, signs), first)


def _collected(terms: OperatorTerms, first: int) -> OperatorTerms:
    """Terms of one state and one result added up; rows numbered from `first`."""
    if not len(terms.rows):
        return terms
    # A state's number times an odd number: pairs of state and result are told apart as states are.
    pairs = terms.keys + terms.rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    starts = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]]))
    chosen = terms[order[starts]]
    sums = np.add.reduceat(terms.amplitudes[order], starts)
    return OperatorTerms(chosen.rows + first, chosen.keys, sums, chosen.modes, chosen.signs)


def monomials(tensor: FloatArray, threshold: float = 0.0) -> tuple[IntArray, FloatArray]:
    """Index lists (M, order) and coefficients (M,) of sum_ij.. tensor_ij.. q_i q_j .. / order!, for a symmetric
    tensor."""
    order, modes = tensor.ndim, len(tensor)
    chosen = np.array(list(combinations_with_replacement(range(modes), order)), np.int64).reshape(-1, order)
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
_FACTORIALS = np.array([factorial(power) for power in range(len(POWERS))], float)


def quartic_elements(quartic: FloatArray, left: Quanta, right: Quanta) -> FloatArray:
    """<left| sum f_ijkl q_i q_j q_k q_l / 24 |right> (P,) between pairs of different states (P, n), (P, n)."""
    change = np.abs(left.astype(np.int64) - right)
    total = change.sum(1)
    result = np.zeros(len(left))
    for quanta in (2, 4):
        chosen = np.flatnonzero(total == quanta)
        if len(chosen):
            result[chosen] = _quartic_elements(quartic, left[chosen], right[chosen], change[chosen])
    return result


def _quartic_elements(quartic: FloatArray, left: Quanta, right: Quanta, change: IntArray) -> FloatArray:
    """The elements (P,) between states that differ by `change` (P, n), each two quanta in all, or each four."""
    rows, modes = np.nonzero(change)
    base = np.repeat(modes, change[rows, modes]).reshape(len(left), -1)
    own = POWERS[change, left, right] / _FACTORIALS[change]
    product = own.prod(1)
    if base.shape[1] == 4:
        return np.asarray(quartic[tuple(base.T)] * product)
    # The other two positions are of one mode, which may be among those that change.
    squared = POWERS[change + 2, left, right] / _FACTORIALS[change + 2]
    each = np.arange(left.shape[1])
    constants = quartic[base[:, :1], base[:, 1:], each, each]
    return np.asarray((constants * squared / own).sum(1) * product)


def quartic_diagonal(quartic: FloatArray, quanta: Quanta) -> FloatArray:
    """<v| sum f_ijkl q_i q_j q_k q_l / 24 |v> of states (S, n): sum_i f_iiii (6v^2+6v+3)/96 + sum_i<k f_iikk (v_i+1/2)
    (v_k+1/2)/4."""
    v = quanta.astype(float)
    modes = np.arange(quanta.shape[1])
    own = quartic[modes, modes, modes, modes]
    pairs = quartic[modes[:, None], modes[:, None], modes[None], modes[None]] * (1 - np.eye(len(modes)))
    half = v + 0.5
    return (6 * v**2 + 6 * v + 3) @ own / 96 + 0.125 * np.einsum("si,ik,sk->s", half, pairs, half)
