"""Vector arithmetic and the tables of raw sums, against numpy and against the definitions."""

from __future__ import annotations

import numpy as np
import pytest

from hpcir.descriptors.arithmetic import apply_vector_function
from hpcir.descriptors.definition import CUTOFF_FUNCTIONS, automatic_set
from hpcir.descriptors.environment import centre_plan, grid_table, monomials
from hpcir.descriptors.reference import cutoff_value, features_and_jacobian


def apply(which: int, values: np.ndarray) -> np.ndarray:
    results = np.empty_like(values)
    apply_vector_function(which, values, results)
    return results


def test_exp_is_within_three_units_of_the_last_place():
    x = np.linspace(-700.0, 700.0, 400_000)
    assert np.max(np.abs(apply(0, x) / np.exp(x) - 1)) < 1e-15


def test_exp_saturates_instead_of_wrapping_around():
    x = np.array([-1e4, -800.0, -708.0, 709.0, 750.0, 1e4, 0.0, 0.0])
    assert np.allclose(apply(0, x), np.exp(np.clip(x, -708, 709)), rtol=1e-15, atol=0)


def test_tanh_is_within_4e_16():
    x = np.linspace(-25.0, 25.0, 400_000)
    assert np.max(np.abs(apply(1, x) - np.tanh(x))) < 4e-16


@pytest.mark.parametrize("which", range(6))
def test_nan_stays_nan(which):
    assert np.all(np.isnan(apply(which, np.full(8, np.nan))))


@pytest.mark.parametrize("kind", CUTOFF_FUNCTIONS)
def test_cutoff_functions_match_and_vanish_exactly(kind):
    x = np.linspace(0.0, 2.0, 40_000)
    values = apply(3 + CUTOFF_FUNCTIONS.index(kind), x)
    assert np.max(np.abs(values - cutoff_value(kind, x)[0])) < 4e-15
    assert np.all(values[x >= 1] == 0.0)


def test_only_an_even_grid_of_one_width_uses_the_recurrence():
    even = tuple((0.5, 1.0 + 0.7 * k) for k in range(6))
    assert grid_table(even, 10.0)[1]
    assert not grid_table((*even, (0.5, 6.0)), 10.0)[1]
    assert not grid_table((*even[:-1], (0.6, even[-1][1])), 10.0)[1]
    assert not grid_table(tuple((90.0, 1.0 + 0.7 * k) for k in range(6)), 10.0)[1]  # would underflow


@pytest.mark.parametrize("degree", [0, 1, 3, 8])
def test_multinomials_sum_to_powers(degree):
    parents, axes, degrees, multinomials = monomials(degree)
    u, v = np.array([0.3, -0.8, 0.5]), np.array([-0.1, 0.4, 0.9])
    left, right = np.ones(len(parents)), np.ones(len(parents))
    for n in range(1, len(parents)):
        left[n] = left[parents[n]] * u[axes[n]]
        right[n] = right[parents[n]] * v[axes[n]]
    for p in range(degree + 1):
        pick = degrees == p
        assert (multinomials * left * right)[pick].sum() == pytest.approx((u @ v) ** p, rel=1e-13)


def test_left_out_features_are_zero_in_every_geometry():
    functions = automatic_set((1, 6, 8), 8.0, 4, 2, (1, 3))
    numbers = np.array([8, 1, 1, 6])
    positions = np.random.default_rng(3).uniform(-2, 2, (4, 3))
    features, _ = features_and_jacobian(functions, numbers, positions)
    for atom, element in enumerate(numbers):
        computed = centre_plan(functions, numbers, int(element)).combination.any(axis=1)
        assert np.all(features[atom, ~computed] == 0.0)
        assert computed.sum() < functions.n_features


def test_reference_jacobian_is_the_derivative_of_the_features():
    functions = automatic_set((1, 6, 8), 8.0, 3, 2, (1, 4), "cosine")
    numbers = np.array([8, 1, 6, 1])
    positions = np.random.default_rng(4).uniform(-2, 2, (4, 3))
    _, jacobian = features_and_jacobian(functions, numbers, positions)
    step = 1e-5
    for atom in range(4):
        for axis in range(3):
            shift = np.zeros((4, 3))
            shift[atom, axis] = step
            above, _ = features_and_jacobian(functions, numbers, positions + shift)
            below, _ = features_and_jacobian(functions, numbers, positions - shift)
            assert np.allclose(jacobian[:, :, atom, axis], (above - below) / (2 * step), atol=1e-8)
