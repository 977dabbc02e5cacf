"""Contractions of moments and their derivatives by the neighbours, for training sets (compiled; see `derivatives`).

With the channel's radial function R_c(r) = sum_s w_(c e_j s) g_s(r) of neighbour j, its part of a moment changes as
    d(R_c u^alpha)/dr_j = R_c' u^alpha u + R_c / r (1 - u u^T) grad u^alpha,
and a contraction by the product rule over its tensors.
"""

from __future__ import annotations

import numpy as np

from hpcir.descriptors.contractions import MAX_TENSORS
from hpcir.descriptors.lanes import njit


@njit(cache=True)
def fill_contractions(  # type: ignore[no-untyped-def]
    species, count, unit, distance, shell, slope, tables, first, features, derivatives, with_derivatives
):
    """Contractions of one centre into features[first:], and into derivatives (count, 3, F) by its `count` neighbours.

    species (count,): elements of the neighbours; unit (count, 3), distance (count,), shell and slope (count, S): g_s
    and its derivative. tables: (mixing, rows, moments, coefficients, parents, axes) of the contractions and monomials.
    """
    mixing, rows, moments, coefficients, parents, axes = tables
    n_channels, n_moments = len(mixing), len(parents)
    a = np.zeros((n_channels, n_moments))
    change = np.zeros((count if with_derivatives else 0, n_channels, n_moments, 3))
    power, gradient = np.zeros(n_moments), np.zeros((n_moments, 3))
    for k in range(count):
        power[0] = 1.0
        gradient[0] = 0.0
        for n in range(1, n_moments):
            parent, axis = parents[n], axes[n]
            power[n] = power[parent] * unit[k, axis]
            for x in range(3):
                gradient[n, x] = gradient[parent, x] * unit[k, axis]
            gradient[n, axis] += power[parent]
        for c in range(n_channels):
            value, by_r = 0.0, 0.0
            for s in range(shell.shape[1]):
                value += mixing[c, species[k], s] * shell[k, s]
                by_r += mixing[c, species[k], s] * slope[k, s]
            for n in range(n_moments):
                a[c, n] += value * power[n]
                if with_derivatives:
                    along = 0.0
                    for x in range(3):
                        along += gradient[n, x] * unit[k, x]
                    for x in range(3):
                        across = (gradient[n, x] - along * unit[k, x]) / distance[k]
                        change[k, c, n, x] = by_r * power[n] * unit[k, x] + value * across
    bar = np.zeros((MAX_TENSORS, n_moments))
    for f in range(len(rows)):
        _contract(rows[f], moments, coefficients, a, bar, first + f, features)
        if with_derivatives:
            _chain(rows[f], bar, change, first + f, derivatives)
    return a


@njit(cache=True)
def _contract(row, moments, coefficients, a, bar, feature, features):  # type: ignore[no-untyped-def]
    """features[feature] = a contraction; bar[t, n] = its derivative by moment n of tensor t."""
    bar[:] = 0.0
    total = 0.0
    tensors = 2
    while tensors < MAX_TENSORS and row[2 + tensors] >= 0:
        tensors += 1
    for term in range(row[0], row[1]):
        value = coefficients[term]
        for t in range(tensors):
            value *= a[row[2 + t], moments[term, t]]
        total += value
        for t in range(tensors):
            part = coefficients[term]
            for other in range(tensors):
                if other != t:
                    part *= a[row[2 + other], moments[term, other]]
            bar[t, moments[term, t]] += part
    features[feature] = total


@njit(cache=True)
def _chain(row, bar, change, feature, derivatives):  # type: ignore[no-untyped-def]
    """derivatives[k, x, feature] = sum over tensors and moments of bar times the change of the moment."""
    for t in range(MAX_TENSORS):
        channel = row[2 + t]
        if channel < 0:
            break
        for n in range(bar.shape[1]):
            weight = bar[t, n]
            if weight == 0.0:
                continue
            for k in range(len(change)):
                for x in range(3):
                    derivatives[k, x, feature] += weight * change[k, channel, n, x]
