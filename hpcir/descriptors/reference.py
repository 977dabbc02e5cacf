"""Plain numpy symmetry functions and forces: the slow, obvious twin of the kernels, for tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcir.descriptors.definition import SymmetryFunctionSet

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def cutoff_value(kind: str, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The cutoff function and its derivative at x = r / cutoff; zero beyond x = 1."""
    if kind == "polynomial":
        value, slope = ((15 - 6 * x) * x - 10) * x**3 + 1, -30 * x**2 * (1 - x) ** 2
    elif kind == "cosine":
        value, slope = (np.cos(np.pi * x) + 1) / 2, -np.pi / 2 * np.sin(np.pi * x)
    else:
        t = np.tanh(1 - x)
        value, slope = t**3, -3 * t**2 * (1 - t**2)
    return np.where(x < 1, value, 0.0), np.where(x < 1, slope, 0.0)


def _gaussian(functions: SymmetryFunctionSet, eta: float, shift: float, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    """exp(-eta (r - shift)^2) fc(r) and its derivative by r."""
    cut, slope = cutoff_value(functions.cutoff_function, r / functions.cutoff)
    value = np.exp(-eta * (r - shift) ** 2)
    return value * cut, value * (slope / functions.cutoff - 2 * eta * (r - shift) * cut)


def features_and_jacobian(
    functions: SymmetryFunctionSet, numbers: IntArray, positions: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Features (N, n_features) of one geometry and their derivatives (N, n_features, N, 3) by the positions (1/bohr).

    numbers (N,), positions (N, 3) in bohr.
    """
    count = len(numbers)
    features = np.zeros((count, functions.n_features))
    jacobian = np.zeros((count, functions.n_features, count, 3))
    for i in range(count):
        delta = positions - positions[i]
        r = np.linalg.norm(delta, axis=1)
        near = [j for j in range(count) if j != i and r[j] < functions.cutoff]
        _radial(functions, numbers, i, near, delta, r, features, jacobian)
        _angular(functions, numbers, i, near, delta, r, features, jacobian)
    return features, jacobian


def _radial(functions, numbers, i, near, delta, r, features, jacobian):  # type: ignore[no-untyped-def]
    count = len(functions.radial)
    for j in near:
        element = functions.elements.index(int(numbers[j]))
        for k, (eta, shift) in enumerate(functions.radial):
            value, slope = _gaussian(functions, eta, shift, r[j])
            feature = element * count + k
            features[i, feature] += value
            jacobian[i, feature, j] += slope * delta[j] / r[j]
            jacobian[i, feature, i] -= slope * delta[j] / r[j]


def _angular(functions, numbers, i, near, delta, r, features, jacobian):  # type: ignore[no-untyped-def]
    pairs = functions.pairs
    for place, j in enumerate(near):
        for k in near[place + 1 :]:
            pair = pairs.index(
                tuple(sorted((functions.elements.index(int(numbers[j])), functions.elements.index(int(numbers[k])))))
            )
            feature = functions.n_radial + pair * len(functions.shells) * len(functions.angles)
            u, v = delta[j] / r[j], delta[k] / r[k]
            cosine = u @ v
            by_j, by_k = (v - cosine * u) / r[j], (u - cosine * v) / r[k]
            for eta, shift in functions.shells:
                g, dg = _gaussian(functions, eta, shift, r[j])
                h, dh = _gaussian(functions, eta, shift, r[k])
                for zeta, lam in functions.angles:
                    base = 1 + lam * cosine
                    angle, turn = (
                        2.0 ** (1 - zeta) * base**zeta,
                        2.0 ** (1 - zeta) * zeta * lam * base ** (zeta - 1),
                    )
                    features[i, feature] += angle * g * h
                    change_j = turn * g * h * by_j + angle * dg * h * u
                    change_k = turn * g * h * by_k + angle * g * dh * v
                    jacobian[i, feature, j] += change_j
                    jacobian[i, feature, k] += change_k
                    jacobian[i, feature, i] -= change_j + change_k
                    feature += 1
