"""Operators on oscillator states, all states at once, against plain twins of one state and one term at a time."""

from __future__ import annotations

from itertools import combinations_with_replacement, product

import numpy as np
import pytest

from hpcir.vibrations.levels import oscillator_states
from hpcir.vibrations.levels.oscillator_states import (
    KeyTable,
    applied,
    keys_of,
    monomials,
    quartic_diagonal,
    quartic_elements,
    states_up_to,
)


def ladder(state, mode, sign):
    """(a + sign a+)/sqrt(2) of one mode on a sum of states {occupations: amplitude}."""
    found = {}
    for quanta, amplitude in state.items():
        held = quanta[mode]
        for step, factor in ((1, sign * np.sqrt((held + 1) / 2)), (-1, np.sqrt(held / 2))):
            if held + step < 0:
                continue
            key = (*quanta[:mode], held + step, *quanta[mode + 1 :])
            found[key] = found.get(key, 0.0) + factor * amplitude
    return found


def plain(state, indices, coefficients, signs):
    """sum_m c_m x_i x_j .. on one state."""
    total = {}
    for row, coefficient in zip(indices, coefficients, strict=True):
        part = {tuple(int(v) for v in state): coefficient}
        for mode, sign in zip(row, signs, strict=False):
            part = ladder(part, int(mode), sign)
        for key, value in part.items():
            total[key] = total.get(key, 0.0) + value
    return total


def symmetric(rng, modes, order):
    tensor = np.zeros((modes,) * order)
    for chosen in combinations_with_replacement(range(modes), order):
        value = rng.standard_normal()
        for place in product(range(order), repeat=order):
            if sorted(place) == list(range(order)):
                tensor[tuple(chosen[p] for p in place)] = value
    return tensor


@pytest.mark.parametrize("at_once", [1 << 21, 20])
def test_polynomials_of_positions_are_those_of_the_plain_twin(at_once, monkeypatch):
    monkeypatch.setattr(oscillator_states, "MAX_TERMS", at_once)
    rng = np.random.default_rng(3)
    states = states_up_to(3, 3)
    for order in (1, 2, 3):
        indices, coefficients = monomials(symmetric(rng, 3, order))
        found = applied(states, indices, coefficients)
        results = found.results(states)
        np.testing.assert_array_equal(keys_of(results), found.keys)
        for number, state in enumerate(states):
            own = found.rows == number
            expected = plain(state, indices, coefficients, (1,) * order)
            got = {tuple(r.tolist()): a for r, a in zip(results[own], found.amplitudes[own], strict=True)}
            assert set(expected) == set(got)
            np.testing.assert_allclose([got[key] for key in expected], list(expected.values()), rtol=1e-12, atol=1e-12)
            gaps = found[own].changes(np.array([1.0, 10.0, 100.0]))
            np.testing.assert_allclose(gaps, (results[own].astype(float) - state) @ [1.0, 10.0, 100.0])


def test_rotations_are_those_of_the_plain_twin():
    states, pairs = states_up_to(3, 2), np.array([(0, 1), (2, 0), (1, 2)])
    coefficients = np.array([0.3, -0.7, 1.1])
    found = applied(states, pairs, coefficients, raising=(1.0, -1.0))
    results = found.results(states)
    for number, state in enumerate(states):
        own = found.rows == number
        expected = plain(state, pairs, coefficients, (1, -1))
        got = {tuple(r.tolist()): a for r, a in zip(results[own], found.amplitudes[own], strict=True)}
        for key in set(expected) | set(got):
            assert got.get(key, 0.0) == pytest.approx(expected.get(key, 0.0), abs=1e-12)


def test_quartic_elements_are_those_of_the_whole_polynomial():
    quartic = symmetric(np.random.default_rng(5), 3, 4)
    states = states_up_to(3, 4)
    indices, coefficients = monomials(quartic)
    matrix = np.zeros((len(states), len(states)))
    numbers = {tuple(row): place for place, row in enumerate(states.tolist())}
    for number, state in enumerate(states):
        for key, value in plain(state, indices, coefficients, (1,) * 4).items():
            if key in numbers:
                matrix[numbers[key], number] = value
    a, b = np.nonzero(~np.eye(len(states), dtype=bool))
    np.testing.assert_allclose(quartic_elements(quartic, states[a], states[b]), matrix[a, b], atol=1e-12)
    np.testing.assert_allclose(quartic_diagonal(quartic, states), np.diagonal(matrix), rtol=1e-12)


def test_numbers_of_states_begin_with_the_given_ones_and_stay():
    states = states_up_to(4, 2)[::-1].copy()
    table = KeyTable(keys_of(states))
    np.testing.assert_array_equal(table.numbers_of(keys_of(states)), np.arange(len(states)))
    more = states_up_to(4, 3)
    first = table.numbers_of(keys_of(more))
    assert len(table) == len(more)
    np.testing.assert_array_equal(table.numbers_of(keys_of(more)), first)
    np.testing.assert_array_equal(table.numbers_of(keys_of(states)), np.arange(len(states)))
    assert sorted(first) == list(range(len(more)))
