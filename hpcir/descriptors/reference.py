"""Plain numpy symmetry functions and forces: the slow, obvious twin of the kernels, for tests."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.definition import SymmetryFunctionSet


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
        _contractions(functions, numbers, i, near, delta, r, features, jacobian)
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


def _tensor(functions, channel, rank, elements, u, g):  # type: ignore[no-untyped-def]
    """The moments of a channel as a full tensor (3, 3, ...) of a rank: sum_j [sum_s w_(e_j s) g_s(r_j)] u_j u_j ..."""
    weights = np.asarray(functions.channels[channel])
    total = np.zeros((3,) * rank)
    for element, unit, values in zip(elements, u, g, strict=True):
        product = np.asarray(weights[element] @ values)
        for _ in range(rank):
            product = np.multiply.outer(product, unit)
        total = total + product
    return total


def _tensor_slope(functions, channel, rank, element, unit, r, g, dg):  # type: ignore[no-untyped-def]
    """The derivative of `_tensor` by the position of one neighbour, last axis x: (3, 3, ..., 3)."""
    weights = np.asarray(functions.channels[channel])[element]
    across = (np.eye(3) - np.outer(unit, unit)) / r
    slope = np.multiply.outer(_outer([unit] * rank), weights @ dg * unit)
    for place in range(rank):
        slope = slope + weights @ g * _outer([unit] * place + [across] + [unit] * (rank - place - 1), place)
    return slope


def _outer(factors, moved=None):  # type: ignore[no-untyped-def]
    """The outer product of vectors, one of which (number `moved`) is a matrix whose second axis goes last."""
    product, last = np.asarray(1.0), None
    for place, factor in enumerate(factors):
        product = np.multiply.outer(product, factor)
        if place == moved:
            last = product.ndim - 1
    return product if last is None else np.moveaxis(product, last, -1)


def _contractions(functions, numbers, i, near, delta, r, features, jacobian):  # type: ignore[no-untyped-def]
    elements = [functions.elements.index(int(numbers[j])) for j in near]
    u = [delta[j] / r[j] for j in near]
    pairs = [[_gaussian(functions, eta, shift, r[j]) for eta, shift in functions.shells] for j in near]
    g, dg = ([np.array([value[part] for value in own]) for own in pairs] for part in (0, 1))
    for n, contraction in enumerate(functions.contractions):
        feature = functions.n_behler + n
        letters = _letters(contraction)
        tensors = [
            _tensor(functions, channel, rank, elements, u, g)
            for channel, rank in zip(contraction.channels, contraction.ranks, strict=True)
        ]
        features[i, feature] = np.einsum(",".join(letters) + "->", *tensors)
        for k, j in enumerate(near):
            for t, (channel, rank) in enumerate(zip(contraction.channels, contraction.ranks, strict=True)):
                slope = _tensor_slope(functions, channel, rank, elements[k], u[k], r[j], g[k], dg[k])
                operands = [*tensors[:t], slope, *tensors[t + 1 :]]
                names = [*letters[:t], letters[t] + "z", *letters[t + 1 :]]
                change = np.einsum(",".join(names) + "->z", *operands)
                jacobian[i, feature, j] += change
                jacobian[i, feature, i] -= change


def _letters(contraction):  # type: ignore[no-untyped-def]
    """The indices of each tensor as letters for einsum."""
    letters = ["" for _ in contraction.channels]
    names = iter("abcdefghijkl")
    for (a, b), count in zip(combinations(range(len(letters)), 2), contraction.shared, strict=True):
        for _ in range(count):
            name = next(names)
            letters[a] += name
            letters[b] += name
    return letters
