"""Symmetry functions of any list per element (types 2, 3 and 9 of n2p2), and the way back from dE/dG to forces.

    type 2:  sum_j g(r_ij)
    type 3:  2^(1-zeta) sum_{j<k} (1 + lambda cos theta_jik)^zeta g(r_ij) g(r_ik) g(r_jk)
    type 9:  2^(1-zeta) sum_{j<k} (1 + lambda cos theta_jik)^zeta g(r_ij) g(r_ik)
    g(r) = exp(-eta (r - r_s)^2) fc(r)
(Behler, J. Chem. Phys. 134, 074106, 2011; the numbers of the types are those of RuNNer and n2p2.) Functions that
share (eta, r_s, r_c), a "shell", share g; those that share (zeta, lambda) share the angular factor.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.kernel_cache import prepare_kernel_cache

prepare_kernel_cache()

from numba import njit  # noqa: E402 - after the cache directory is chosen

# n2p2's numbers of the cutoff functions.
HARD, COSINE, TANH3, TANH3_NORMALISED, EXPONENTIAL, POLYNOMIAL1, POLYNOMIAL2, POLYNOMIAL3, POLYNOMIAL4 = range(9)
_TANH_AT_ONE = math.tanh(1.0)


class FunctionTables(NamedTuple):
    """The symmetry functions of all centre elements (E of them), sorted for the kernels.

    shells (S, 3): eta, shift, cutoff; angles (A, 2): zeta, lambda; kind, shell, angle (F,): of each function.
    radial_start (E * E + 1,), radial (n,): functions (numbered within their element) of each centre and neighbour
    element; angular_start (E * E * E + 1,), angular (m,): of each centre and ordered neighbour pair a <= b;
    first (E,): the first row of each element in kind, shell and angle; cutoff_type; alpha: the inner cutoff's
    fraction.
    """

    shells: FloatArray
    angles: FloatArray
    kind: IntArray
    shell: IntArray
    angle: IntArray
    radial_start: IntArray
    radial: IntArray
    angular_start: IntArray
    angular: IntArray
    first: IntArray
    cutoff_type: int
    alpha: float


class Neighbours(NamedTuple):
    """Neighbour lists: start (N + 1,) of each atom's P neighbours; atoms (P,); vectors (P, 3) = r_j - r_i."""

    start: IntArray
    atoms: IntArray
    vectors: FloatArray


@njit(cache=True, nogil=True)
def polynomial(kind, x):  # type: ignore[no-untyped-def]
    """The polynomial cutoff functions 1 to 4 of n2p2 (types 5 to 8) and their derivatives, x in [0, 1]."""
    if kind == POLYNOMIAL1:
        return (2.0 * x - 3.0) * x * x + 1.0, 6.0 * x * (x - 1.0)
    if kind == POLYNOMIAL2:
        return ((15.0 - 6.0 * x) * x - 10.0) * x**3 + 1.0, -30.0 * x * x * (1.0 - x) ** 2
    if kind == POLYNOMIAL3:
        return (x * (x * (20.0 * x - 70.0) + 84.0) - 35.0) * x**4 + 1.0, -140.0 * x**3 * (1.0 - x) ** 3
    value = (x * (x * ((315.0 - 70.0 * x) * x - 540.0) + 420.0) - 126.0) * x**5 + 1.0
    return value, -630.0 * x**4 * (1.0 - x) ** 4


@njit(cache=True, nogil=True)
def cutoff_value(kind, alpha, r, cutoff):  # type: ignore[no-untyped-def]
    """fc(r) and dfc/dr; one within the inner cutoff alpha * cutoff (not for tanh^3), zero from the cutoff on."""
    if r >= cutoff:
        return 0.0, 0.0
    if kind == HARD:
        return 1.0, 0.0
    if kind in (TANH3, TANH3_NORMALISED):
        t = math.tanh(1.0 - r / cutoff)
        norm = 1.0 if kind == TANH3 else _TANH_AT_ONE**-3
        return norm * t**3, -3.0 * norm * t * t * (1.0 - t * t) / cutoff
    inner = alpha * cutoff
    if r < inner:
        return 1.0, 0.0
    width = 1.0 / (cutoff - inner)
    x = (r - inner) * width
    if kind == COSINE:
        return 0.5 * (math.cos(math.pi * x) + 1.0), -0.5 * math.pi * width * math.sin(math.pi * x)
    if kind == EXPONENTIAL:
        rest = 1.0 / (1.0 - x * x)
        value = math.exp(1.0 - rest)
        return value, -2.0 * x * rest * rest * value * width
    value, slope = polynomial(kind, x)
    return value, slope * width


@njit(cache=True, nogil=True)
def shell_value(r, shell, tables):  # type: ignore[no-untyped-def]
    """g(r) of a shell and dg/dr."""
    eta, shift, cutoff = tables.shells[shell, 0], tables.shells[shell, 1], tables.shells[shell, 2]
    value, slope = cutoff_value(tables.cutoff_type, tables.alpha, r, cutoff)
    if value == 0.0:
        return 0.0, 0.0
    gauss = math.exp(-eta * (r - shift) ** 2)
    return gauss * value, gauss * (slope - 2.0 * eta * (r - shift) * value)


@njit(cache=True, nogil=True)
def angle_value(cosine, angle, tables):  # type: ignore[no-untyped-def]
    """2^(1-zeta) (1 + lambda cos)^zeta and its derivative by the cosine."""
    zeta, lam = tables.angles[angle, 0], tables.angles[angle, 1]
    base = 1.0 + lam * cosine
    if base <= 0.0:
        return 0.0, 0.0
    if zeta == math.floor(zeta):
        lower = 2.0 * (0.5 * base) ** (int(zeta) - 1)
        return lower * 0.5 * base, 0.5 * zeta * lam * lower
    lower = 2.0 * (0.5 * base) ** (zeta - 1.0)
    return lower * 0.5 * base, 0.5 * zeta * lam * lower


@njit(cache=True, nogil=True)
def environment(atom, neighbours, tables):  # type: ignore[no-untyped-def]
    """Distances (n,), unit vectors (n, 3), and g and dg/dr (n, S) of an atom's n neighbours."""
    begin, end = neighbours.start[atom], neighbours.start[atom + 1]
    count, shells = end - begin, len(tables.shells)
    distances, units = np.empty(count), np.empty((count, 3))
    values, slopes = np.empty((count, shells)), np.empty((count, shells))
    for p in range(count):
        x, y, z = (neighbours.vectors[begin + p, 0], neighbours.vectors[begin + p, 1], neighbours.vectors[begin + p, 2])
        r = math.sqrt(x * x + y * y + z * z)
        distances[p] = r
        units[p, 0], units[p, 1], units[p, 2] = x / r, y / r, z / r
        for shell in range(shells):
            values[p, shell], slopes[p, shell] = shell_value(r, shell, tables)
    return distances, units, values, slopes


@njit(cache=True, nogil=True)
def pair_row(species, a, b, count):  # type: ignore[no-untyped-def]
    """The row of a centre element and an unordered pair of neighbour elements in `angular_start`."""
    low, high = (a, b) if a <= b else (b, a)
    return (species * count + low) * count + high


@njit(cache=True, nogil=True)
def features_of(atom, species, neighbours, tables, features):  # type: ignore[no-untyped-def]
    """Add the symmetry functions of one atom to features (F,), which is zero. species (N,): element indices."""
    centre, count = species[atom], len(tables.first)
    begin, end = neighbours.start[atom], neighbours.start[atom + 1]
    distances, units, values, _ = environment(atom, neighbours, tables)
    first = tables.first[centre]
    for p in range(end - begin):
        element = species[neighbours.atoms[begin + p]]
        row = centre * count + element
        for n in range(tables.radial_start[row], tables.radial_start[row + 1]):
            f = tables.radial[n]
            features[f] += values[p, tables.shell[first + f]]
        for q in range(p):
            row = pair_row(centre, element, species[neighbours.atoms[begin + q]], count)
            if tables.angular_start[row] == tables.angular_start[row + 1]:
                continue
            cosine = units[p, 0] * units[q, 0] + units[p, 1] * units[q, 1] + units[p, 2] * units[q, 2]
            third = math.sqrt(
                max(distances[p] ** 2 + distances[q] ** 2 - 2.0 * distances[p] * distances[q] * cosine, 0.0)
            )
            before, opposite = -1, 0.0
            for n in range(tables.angular_start[row], tables.angular_start[row + 1]):
                f = tables.angular[n]
                shell = tables.shell[first + f]
                radial = values[p, shell] * values[q, shell]
                if radial == 0.0:
                    continue
                if tables.kind[first + f] == 3:
                    if shell != before:  # functions of one shell follow each other
                        before, opposite = shell, shell_value(third, shell, tables)[0]
                    radial *= opposite
                    if radial == 0.0:
                        continue
                features[f] += radial * angle_value(cosine, tables.angle[first + f], tables)[0]


@njit(cache=True, nogil=True)
def triplet_sums(row, first, p, q, cosine, third, values, slopes, weights, tables):  # type: ignore[no-untyped-def]
    """sum_f weights_f G_f of one triplet by: the cosine, the distances to p and to q, the third distance."""
    by_cosine, by_p, by_q, by_third = 0.0, 0.0, 0.0, 0.0
    before, opposite, opposite_slope = -1, 0.0, 0.0
    for n in range(tables.angular_start[row], tables.angular_start[row + 1]):
        f = tables.angular[n]
        shell = tables.shell[first + f]
        gp, gq = values[p, shell], values[q, shell]
        if gp * gq == 0.0:
            continue
        value, slope = 1.0, 0.0
        if tables.kind[first + f] == 3:
            if shell != before:
                before = shell
                opposite, opposite_slope = shell_value(third, shell, tables)
            value, slope = opposite, opposite_slope
            if value == 0.0:
                continue
        angular, angular_slope = angle_value(cosine, tables.angle[first + f], tables)
        weight = weights[f]
        by_cosine += weight * angular_slope * gp * gq * value
        by_p += weight * angular * slopes[p, shell] * gq * value
        by_q += weight * angular * gp * slopes[q, shell] * value
        by_third += weight * angular * gp * gq * slope
    return by_cosine, by_p, by_q, by_third


@njit(cache=True, nogil=True)
def gradient_of(atom, species, neighbours, tables, weights, gradient):  # type: ignore[no-untyped-def]
    """Add d(sum_f weights_f G_f)/d(vector) of one atom's neighbours to gradient (P, 3)."""
    centre, count = species[atom], len(tables.first)
    begin, end = neighbours.start[atom], neighbours.start[atom + 1]
    distances, units, values, slopes = environment(atom, neighbours, tables)
    first = tables.first[centre]
    for p in range(end - begin):
        element = species[neighbours.atoms[begin + p]]
        row = centre * count + element
        by_p = 0.0
        for n in range(tables.radial_start[row], tables.radial_start[row + 1]):
            f = tables.radial[n]
            by_p += weights[f] * slopes[p, tables.shell[first + f]]
        for axis in range(3):
            gradient[begin + p, axis] += by_p * units[p, axis]
        for q in range(p):
            row = pair_row(centre, element, species[neighbours.atoms[begin + q]], count)
            if tables.angular_start[row] == tables.angular_start[row + 1]:
                continue
            cosine = units[p, 0] * units[q, 0] + units[p, 1] * units[q, 1] + units[p, 2] * units[q, 2]
            rp, rq = distances[p], distances[q]
            third = math.sqrt(max(rp * rp + rq * rq - 2.0 * rp * rq * cosine, 1e-300))
            by_cosine, by_p, by_q, by_third = triplet_sums(
                row, first, p, q, cosine, third, values, slopes, weights, tables
            )
            for axis in range(3):
                up, uq = units[p, axis], units[q, axis]
                along = by_third * (rp * up - rq * uq) / third
                gradient[begin + p, axis] += by_p * up + by_cosine * (uq - cosine * up) / rp + along
                gradient[begin + q, axis] += by_q * uq + by_cosine * (up - cosine * uq) / rq - along


@njit(cache=True, nogil=True)
def all_features(species, neighbours, tables, features):  # type: ignore[no-untyped-def]
    """Fill features (N, F), which are zero, for every atom."""
    for atom in range(len(species)):
        features_of(atom, species, neighbours, tables, features[atom])


@njit(cache=True, nogil=True)
def all_gradients(species, neighbours, tables, weights, gradient):  # type: ignore[no-untyped-def]
    """Add d(sum_i sum_f weights_if G_if)/d(vector) of every neighbour to gradient (P, 3); weights (N, F)."""
    for atom in range(len(species)):
        gradient_of(atom, species, neighbours, tables, weights[atom], gradient)
