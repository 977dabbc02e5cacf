"""Features and derivatives for training: against the plain reference and against finite differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpcir.descriptors.definition import CUTOFF_FUNCTIONS, automatic_set
from hpcir.descriptors.derivatives import atomic_dipole_vectors, features_and_derivatives, features_only
from hpcir.errors import InputError

NUMBERS = np.array([6, 1, 8, 1, 6, 1])


def geometries(count: int, seed: int = 1) -> np.ndarray:
    grid = 2.0 * np.stack(np.unravel_index(np.arange(6), (2, 2, 2)), 1)
    return grid + np.random.default_rng(seed).normal(0, 0.2, (count, 6, 3))


def full_derivatives(positions: np.ndarray, functions) -> np.ndarray:  # type: ignore[no-untyped-def]
    """dG_i/dr_j (N centres, N moved, 3, F) of one geometry from the sparse ones."""
    _, sparse, neighbours = features_and_derivatives(functions, NUMBERS, positions[None])
    full = np.zeros((6, 6, 3, functions.n_features))
    for i in range(6):
        full[i, i] = -sparse[0, i].sum(0)
        for slot, j in enumerate(neighbours[0, i]):
            if j >= 0:
                full[i, j] = sparse[0, i, slot]
            else:
                assert not sparse[0, i, slot].any()
    return full


@pytest.mark.parametrize("cutoff_function", CUTOFF_FUNCTIONS)
@pytest.mark.parametrize("cutoff", [3.2, 9.0])
def test_derivatives_are_finite_differences(cutoff_function: str, cutoff: float) -> None:
    functions = automatic_set((1, 6, 8), cutoff, 4, 3, (1, 2, 4), cutoff_function)
    positions = geometries(1)[0]
    analytic = full_derivatives(positions, functions)
    step = 1e-5
    for atom in range(6):
        for axis in range(3):
            shift = np.zeros((6, 3))
            shift[atom, axis] = step
            ends = features_only(functions, NUMBERS, np.stack([positions + shift, positions - shift]))
            np.testing.assert_allclose(analytic[:, atom, axis], (ends[0] - ends[1]) / (2 * step), atol=2e-8)


@pytest.mark.parametrize("cutoff_function", CUTOFF_FUNCTIONS)
def test_features_equal_the_plain_reference(cutoff_function: str) -> None:
    from hpcir.descriptors import reference

    functions = automatic_set((1, 6, 8), 6.0, 5, 3, (1, 2, 3), cutoff_function)
    positions = geometries(3)
    computed, _, _ = features_and_derivatives(functions, NUMBERS, positions)
    for s in range(3):
        expected, jacobian = reference.features_and_jacobian(functions, NUMBERS, positions[s])
        np.testing.assert_allclose(computed[s], expected, rtol=1e-10, atol=1e-13)
        full = full_derivatives(positions[s], functions)
        np.testing.assert_allclose(full.transpose(0, 3, 1, 2), jacobian, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(features_only(functions, NUMBERS, positions), computed)


def test_features_do_not_change_by_rotation_and_the_vectors_turn_along() -> None:
    functions = automatic_set((1, 6, 8), 6.0, 5, 3, (1, 2))
    positions = geometries(1)
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    turned = positions @ rotation.T + 1.7
    plain, other = (features_only(functions, NUMBERS, p) for p in (positions, turned))
    np.testing.assert_allclose(other, plain, rtol=1e-10, atol=1e-13)
    vectors, turned_vectors = (atomic_dipole_vectors(functions, NUMBERS, p) for p in (positions, turned))
    np.testing.assert_allclose(turned_vectors, vectors @ rotation.T, atol=1e-12)
    assert np.abs(vectors).max() > 0.1


def test_an_unknown_element_is_named() -> None:
    functions = replace(automatic_set((1, 6), 6.0, 2, 1, (1,)))
    with pytest.raises(InputError, match="8"):
        features_only(functions, NUMBERS, geometries(1))
