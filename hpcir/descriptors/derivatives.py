"""Symmetry functions and their sparse derivatives for training sets (compiled, one structure after another).

Dynamics never builds dG/dr; training does, once for each label, because every epoch uses it again. The functions
are those of `definition`; with u_ij = (r_j - r_i) / r_ij and c = u_ij . u_ik,
    dG2/dr_j = g'(r_ij) u_ij,
    dG9/dr_j = 2^(1-zeta) [zeta lambda (1 + lambda c)^(zeta-1) (u_ik - c u_ij) / r_ij g(r_ij) g(r_ik)
               + (1 + lambda c)^zeta g'(r_ij) g(r_ik) u_ij],
and the derivative by the centre is minus the sum over its neighbours (translation), so it is not returned.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.contraction_derivatives import fill_contractions
from hpcir.descriptors.contractions import contraction_tables
from hpcir.descriptors.definition import CUTOFF_FUNCTIONS, SymmetryFunctionSet
from hpcir.descriptors.environment import monomials
from hpcir.errors import InputError


def features_and_derivatives(
    functions: SymmetryFunctionSet, numbers: IntArray, positions: FloatArray
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Symmetry functions of every atom of S geometries of one molecule, with derivatives by the neighbours.

    numbers (N,); positions (S, N, 3) in bohr. Returns features (S, N, F), derivatives (S, N, K, 3, F) of the
    features of a centre by the position of its k-th neighbour (1/bohr), and neighbours (S, N, K), -1 where a
    centre has fewer than K within the cutoff. Raises InputError for an element that `functions` does not have.
    """
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    species = element_indices(functions, numbers)
    neighbours = neighbour_table(positions, functions.cutoff)
    shape = (len(positions), len(species), neighbours.shape[2], 3, functions.n_features)
    features = np.zeros((*shape[:2], shape[4]))
    derivatives = np.zeros(shape)
    _fill(positions, species, neighbours, *_parameters(functions), _tables(functions), features, derivatives)
    return features, derivatives, neighbours


def features_only(functions: SymmetryFunctionSet, numbers: IntArray, positions: FloatArray) -> FloatArray:
    """Symmetry functions (S, N, F) of S geometries, positions (S, N, 3) in bohr, without the derivatives."""
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    species = element_indices(functions, numbers)
    neighbours = neighbour_table(positions, functions.cutoff)
    features = np.zeros((*positions.shape[:2], functions.n_features))
    nothing = np.zeros((0, 0, 0, 0, 0))
    _fill(positions, species, neighbours, *_parameters(functions), _tables(functions), features, nothing)
    return features


def element_indices(functions: SymmetryFunctionSet, numbers: IntArray) -> IntArray:
    """Index into `functions.elements` of every atom (N,); raises InputError for an element that is not there."""
    lookup = {z: index for index, z in enumerate(functions.elements)}
    missing = sorted({int(z) for z in numbers} - lookup.keys())
    if missing:
        raise InputError(
            f"the symmetry functions have no element {', '.join(map(str, missing))}",
            hint="they have " + ", ".join(map(str, functions.elements)),
        )
    return np.array([lookup[int(z)] for z in numbers], dtype=np.int64)


def neighbour_table(positions: FloatArray, cutoff: float) -> IntArray:
    """(S, N, K) atoms within the cutoff of each atom, padded with -1; K is the largest count of all."""
    table: IntArray = _neighbours(np.ascontiguousarray(positions, dtype=np.float64), cutoff)
    most = int((table >= 0).sum(-1).max(initial=0))
    return np.ascontiguousarray(table[:, :, :most])


def atomic_dipole_vectors(functions: SymmetryFunctionSet, numbers: IntArray, positions: FloatArray) -> FloatArray:
    """V_i^(e,s) = sum_{j in e} g_s(r_ij) u_ij, the vectors of atomic dipoles: (S, N, n_elements * n_shells, 3)."""
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    species = element_indices(functions, numbers)
    count = len(functions.elements) * len(functions.shells)
    vectors = np.zeros((*positions.shape[:2], count, 3))
    parameters = _parameters(functions)
    _fill_vectors(positions, species, parameters[1], parameters[4], parameters[5], vectors)
    return vectors


def atomic_dipole_slopes(functions: SymmetryFunctionSet, positions: FloatArray) -> tuple[FloatArray, ...]:
    """Factors of the derivatives of `atomic_dipole_vectors`: d(g_s u)/dr_j = across 1 + along u u^T.

    Returns across (S, N, N, n_shells) = g_s / r, along (S, N, N, n_shells) = g_s' - g_s / r, both 0 beyond the cutoff
    and at i = j, and units (S, N, N, 3) = u_ij.
    """
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    shape = (*positions.shape[:2], positions.shape[1])
    across, along = np.zeros((*shape, len(functions.shells))), np.zeros((*shape, len(functions.shells)))
    units = np.zeros((*shape, 3))
    parameters = _parameters(functions)
    _fill_vector_slopes(positions, parameters[1], parameters[4], parameters[5], across, along, units)
    return across, along, units


def _parameters(
    functions: SymmetryFunctionSet,
) -> tuple[FloatArray, FloatArray, IntArray, IntArray, float, int]:
    n_elements = len(functions.elements)
    pair_index = np.zeros((n_elements, n_elements), np.int64)
    for index, (a, b) in enumerate(functions.pairs):
        pair_index[a, b] = pair_index[b, a] = index
    return (
        np.array(functions.radial, dtype=np.float64).reshape(-1, 2),
        np.array(functions.shells, dtype=np.float64).reshape(-1, 2),
        np.array(functions.angles, dtype=np.int64).reshape(-1, 2),
        pair_index,
        float(functions.cutoff),
        CUTOFF_FUNCTIONS.index(functions.cutoff_function),
    )


def _tables(functions: SymmetryFunctionSet) -> tuple[FloatArray, IntArray, IntArray, FloatArray, IntArray, IntArray]:
    """mixing, rows, moments and coefficients of the contractions, parents and axes of the monomials."""
    shape = len(functions.elements), len(functions.shells)
    tables = contraction_tables(functions.channels, functions.contractions, shape)
    parents, axes, _, _ = monomials(max((max(c.ranks) for c in functions.contractions), default=0))
    return tables.mixing, tables.rows, tables.moments, tables.coefficients, parents, axes


@njit(cache=True)
def _neighbours(positions, cutoff):  # type: ignore[no-untyped-def]
    n_labels, n_atoms = positions.shape[:2]
    table = np.full((n_labels, n_atoms, n_atoms), -1, np.int64)
    for s in range(n_labels):
        for i in range(n_atoms):
            count = 0
            for j in range(n_atoms):
                square = 0.0
                for x in range(3):
                    square += (positions[s, j, x] - positions[s, i, x]) ** 2
                if j != i and square < cutoff * cutoff:
                    table[s, i, count] = j
                    count += 1
    return table


@njit(cache=True)
def _cutoff(r, cutoff, kind):  # type: ignore[no-untyped-def]
    """fc and its derivative by r; kind is the index into CUTOFF_FUNCTIONS."""
    x = r / cutoff
    if kind == 0:
        return ((15.0 - 6.0 * x) * x - 10.0) * x**3 + 1.0, -30.0 * x**2 * (1.0 - x) ** 2 / cutoff
    if kind == 1:
        return 0.5 * (math.cos(math.pi * x) + 1.0), -0.5 * math.pi * math.sin(math.pi * x) / cutoff
    t = math.tanh(1.0 - x)
    return t**3, -3.0 * t**2 * (1.0 - t**2) / cutoff


@njit(cache=True)
def _gaussians(r, functions, cutoff, kind, value, slope):  # type: ignore[no-untyped-def]
    """value and slope of exp(-eta (r - shift)^2) fc(r) for each (eta, shift) of `functions`."""
    fc, dfc = _cutoff(r, cutoff, kind)
    for n in range(len(functions)):
        eta, shift = functions[n]
        gauss = math.exp(-eta * (r - shift) ** 2)
        value[n] = gauss * fc
        slope[n] = gauss * (dfc - 2.0 * eta * (r - shift) * fc)


@njit(cache=True)
def _fill(  # type: ignore[no-untyped-def]
    positions, species, neighbours, radial, shells, angles, pair_index, cutoff, kind, tables, features, derivatives
):
    n_labels, n_atoms, most = neighbours.shape
    unit, distance = np.zeros((most, 3)), np.zeros(most)
    shell, slope = np.zeros((most, len(shells))), np.zeros((most, len(shells)))
    g2, dg2 = np.zeros(len(radial)), np.zeros(len(radial))
    with_derivatives = derivatives.size > 0
    scratch = np.zeros((1, 3, features.shape[2]))
    near = np.zeros(most, np.int64)
    for s in range(n_labels):
        for i in range(n_atoms):
            d = derivatives[s, i] if with_derivatives else scratch
            count = 0
            while count < most and neighbours[s, i, count] >= 0:
                j = neighbours[s, i, count]
                square = 0.0
                for x in range(3):
                    unit[count, x] = positions[s, j, x] - positions[s, i, x]
                    square += unit[count, x] ** 2
                r = math.sqrt(square)
                distance[count] = r
                for x in range(3):
                    unit[count, x] /= r
                _gaussians(r, radial, cutoff, kind, g2, dg2)
                _gaussians(r, shells, cutoff, kind, shell[count], slope[count])
                first = species[j] * len(radial)
                for n in range(len(radial)):
                    features[s, i, first + n] += g2[n]
                    if with_derivatives:
                        for x in range(3):
                            d[count, x, first + n] += dg2[n] * unit[count, x]
                count += 1
            first = pair_index.shape[0] * len(radial)
            for a in range(count):
                for b in range(a):
                    pair = pair_index[species[neighbours[s, i, a]], species[neighbours[s, i, b]]]
                    start = first + pair * len(shells) * len(angles)
                    _triplet(a, b, start, unit, distance, shell, slope, angles, features[s, i], d, with_derivatives)
            if len(tables[1]) > 0:
                for k in range(count):
                    near[k] = species[neighbours[s, i, k]]
                first += len(shells) * len(angles) * (pair_index.shape[0] * (pair_index.shape[0] + 1) // 2)
                fill_contractions(
                    near, count, unit, distance, shell, slope, tables, first, features[s, i], d, with_derivatives
                )


@njit(cache=True)
def _triplet(a, b, start, unit, distance, shell, slope, angles, features, derivatives, with_derivatives):  # type: ignore[no-untyped-def]
    """Add the neighbour pair (a, b) to every angular function, and to their derivatives by a and by b."""
    cosine = unit[a, 0] * unit[b, 0] + unit[a, 1] * unit[b, 1] + unit[a, 2] * unit[b, 2]
    for m in range(len(angles)):
        zeta, lam = angles[m]
        base = 1.0 + lam * cosine
        lower = 2.0 ** (1 - zeta)
        for _ in range(zeta - 1):
            lower *= base
        angular, angular_slope = lower * base, zeta * lam * lower
        for n in range(shell.shape[1]):
            f = start + n * len(angles) + m
            radial_part = shell[a, n] * shell[b, n]
            features[f] += angular * radial_part
            if not with_derivatives:
                continue
            turn = angular_slope * radial_part
            stretch_a, stretch_b = angular * slope[a, n] * shell[b, n], angular * slope[b, n] * shell[a, n]
            for x in range(3):
                ua, ub = unit[a, x], unit[b, x]
                derivatives[a, x, f] += turn * (ub - cosine * ua) / distance[a] + stretch_a * ua
                derivatives[b, x, f] += turn * (ua - cosine * ub) / distance[b] + stretch_b * ub


@njit(cache=True)
def _fill_vectors(positions, species, shells, cutoff, kind, vectors):  # type: ignore[no-untyped-def]
    n_labels, n_atoms = positions.shape[:2]
    value, slope = np.zeros(len(shells)), np.zeros(len(shells))
    unit = np.zeros(3)
    for s in range(n_labels):
        for i in range(n_atoms):
            for j in range(n_atoms):
                square = 0.0
                for x in range(3):
                    unit[x] = positions[s, j, x] - positions[s, i, x]
                    square += unit[x] ** 2
                if j == i or square >= cutoff * cutoff:
                    continue
                r = math.sqrt(square)
                _gaussians(r, shells, cutoff, kind, value, slope)
                first = species[j] * len(shells)
                for n in range(len(shells)):
                    for x in range(3):
                        vectors[s, i, first + n, x] += value[n] * unit[x] / r


@njit(cache=True)
def _fill_vector_slopes(positions, shells, cutoff, kind, across, along, units):  # type: ignore[no-untyped-def]
    n_labels, n_atoms = positions.shape[:2]
    value, slope = np.zeros(len(shells)), np.zeros(len(shells))
    for s in range(n_labels):
        for i in range(n_atoms):
            for j in range(n_atoms):
                square = 0.0
                for x in range(3):
                    square += (positions[s, j, x] - positions[s, i, x]) ** 2
                if j == i or square >= cutoff * cutoff:
                    continue
                r = math.sqrt(square)
                _gaussians(r, shells, cutoff, kind, value, slope)
                for x in range(3):
                    units[s, i, j, x] = (positions[s, j, x] - positions[s, i, x]) / r
                for n in range(len(shells)):
                    across[s, i, j, n] = value[n] / r
                    along[s, i, j, n] = slope[n] - value[n] / r
