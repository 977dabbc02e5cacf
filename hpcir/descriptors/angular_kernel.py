"""Angular raw sums S_p = sum_{j<k} g_j g_k cos^p over pairs of neighbours, and their backward sweep, directly.

No exponential and no square root per triplet: g and the unit vectors come from the pairs. Backward, with
D_p = dE/dS_p and the polynomial D(c) = sum_p D_p c^p:
    dE/dg_j += D(c) g_k,   dE/du_j += D'(c) g_j g_k u_k,   and the same with j and k exchanged.
"""

from __future__ import annotations

from hpcir.descriptors.environment import POWERS, SHELLS
from hpcir.descriptors.lanes import INLINE, INNER, WIDTH, broadcast, load, njit, stand_alone, store
from hpcir.descriptors.pair_kernel import SHELL, UNIT, record_length


@njit(**INLINE)
def add_to(array, place, value):  # type: ignore[no-untyped-def]
    """array[place : place + WIDTH] += value."""
    store(array, place, load(array, place) + value)


@njit(**INLINE)
def cosine(scratch, j, k):  # type: ignore[no-untyped-def]
    """u_j . u_k of the records j and k."""
    x = load(scratch, j + UNIT * WIDTH) * load(scratch, k + UNIT * WIDTH)
    y = load(scratch, j + (UNIT + 1) * WIDTH) * load(scratch, k + (UNIT + 1) * WIDTH)
    return x + y + load(scratch, j + (UNIT + 2) * WIDTH) * load(scratch, k + (UNIT + 2) * WIDTH)


@njit(**INNER)
def direct_sums(tables, scratch, record, starts, start, pairs, n_pairs, rows, column, stride):  # type: ignore[no-untyped-def]
    """Add every triplet of one vector of lanes to rows[(row of the pair + shell, power) * stride + column]."""
    stand_alone()
    shells = tables.sizes[SHELLS]
    powers = tables.sizes[POWERS]
    length = record_length(shells)
    for pair in range(n_pairs):
        a, b = pairs[3 * pair], pairs[3 * pair + 1]
        first = pairs[3 * pair + 2] * stride + column
        for j in range(starts[start + a], starts[start + a + 1]):
            low = j + 1 if a == b else starts[start + b]
            at_j = record + j * length
            for k in range(low, starts[start + b + 1]):
                at_k = record + k * length
                c = cosine(scratch, at_j, at_k)
                row = first
                for s in range(shells):
                    shell = (SHELL + s) * WIDTH
                    term = load(scratch, at_j + shell) * load(scratch, at_k + shell)
                    for _ in range(powers - 1):
                        add_to(rows, row, term)
                        term = term * c
                        row += stride
                    add_to(rows, row, term)
                    row += stride


@njit(**INNER)
def direct_derivatives(tables, scratch, record, starts, start, pairs, n_pairs, slopes, column, stride):  # type: ignore[no-untyped-def]
    """Add dE/dg and dE/du of every triplet to the records, from dE/dS_p in slopes (laid out as the rows)."""
    stand_alone()
    shells = tables.sizes[SHELLS]
    powers = tables.sizes[POWERS]
    length = record_length(shells)
    bars = (SHELL + 2 * shells) * WIDTH
    for pair in range(n_pairs):
        a, b = pairs[3 * pair], pairs[3 * pair + 1]
        first = pairs[3 * pair + 2] * stride + column
        for j in range(starts[start + a], starts[start + a + 1]):
            low = j + 1 if a == b else starts[start + b]
            at_j = record + j * length
            for k in range(low, starts[start + b + 1]):
                at_k = record + k * length
                c = cosine(scratch, at_j, at_k)
                turn = broadcast(0.0)
                for s in range(shells):
                    row = first + ((s + 1) * powers - 1) * stride
                    value = load(slopes, row)
                    slope = broadcast(0.0)
                    for _ in range(powers - 1):
                        row -= stride
                        slope = slope * c + value
                        value = value * c + load(slopes, row)
                    shell = (SHELL + s) * WIDTH
                    g = load(scratch, at_j + shell)
                    h = load(scratch, at_k + shell)
                    turn = turn + slope * (g * h)
                    add_to(scratch, at_j + bars + (3 + s) * WIDTH, value * h)
                    add_to(scratch, at_k + bars + (3 + s) * WIDTH, value * g)
                for axis in range(3):
                    shift = axis * WIDTH
                    add_to(scratch, at_j + bars + shift, turn * load(scratch, at_k + shift))
                    add_to(scratch, at_k + bars + shift, turn * load(scratch, at_j + shift))
