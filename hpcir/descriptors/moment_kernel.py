"""Angular raw sums by moments of the neighbour density: exact, and linear in the number of neighbours.

(u_j . u_k)^p = sum_{|alpha| = p} p!/alpha! u_j^alpha u_k^alpha; with moments M^a_alpha = sum_{j in a} g_j u_j^alpha
    S_p = sum_{|alpha| = p} p!/alpha! M^a_alpha M^b_alpha                                  for a != b,
    S_p = 1/2 [sum_{|alpha| = p} p!/alpha! (M^a_alpha)^2 - sum_j g_j^2]                    for a == b, as |u| = 1
(the trick of tensor moments and of atomic cluster expansion). Backward, dE/dM^a_alpha follows from D_p = dE/dS_p,
then dE/dg_j = sum_alpha dE/dM_alpha u_j^alpha, and dE/du_j by the monomials' own chain in reverse.

Work array of one vector of lanes: for each group and shell, the moments, then dE/d(moments), then a self sum of g^2 (or
its derivative); then monomials of one neighbour and their derivatives.
"""

from __future__ import annotations

from hpcir.descriptors.angular_kernel import add_to
from hpcir.descriptors.environment import ANGULAR_MONOMIALS, MONOMIALS, POWERS, SHELLS
from hpcir.descriptors.lanes import INLINE, INNER, WIDTH, broadcast, load, njit, splat, stand_alone, store
from hpcir.descriptors.pair_kernel import SHELL, record_length


@njit(**INLINE)
def moment_length(monomials):  # type: ignore[no-untyped-def]
    """Doubles of one group and shell: moments, their derivatives, the self sum, its derivative."""
    return (2 * monomials + 2) * WIDTH


@njit(**INLINE)
def fill_monomials(tables, scratch, record, work, place):  # type: ignore[no-untyped-def]
    """u^alpha of one neighbour, each from its parent by one product."""
    store(work, place, broadcast(1.0))
    for n in range(1, tables.sizes[MONOMIALS]):
        value = load(work, place + tables.parents[n] * WIDTH) * load(scratch, record + tables.axes[n] * WIDTH)
        store(work, place + n * WIDTH, value)


@njit(**INNER)
def moments_of(tables, scratch, record, starts, start, groups, work, base):  # type: ignore[no-untyped-def]
    """The moments of every neighbour group and shell into the work array from `base` on."""
    stand_alone()
    shells, count = tables.sizes[SHELLS], tables.sizes[MONOMIALS]
    length = record_length(shells)
    block = moment_length(count)
    terms = base + groups * shells * block
    for n in range(base, terms, WIDTH):
        store(work, n, broadcast(0.0))
    for group in range(groups):
        for j in range(starts[start + group], starts[start + group + 1]):
            at = record + j * length
            fill_monomials(tables, scratch, at, work, terms)
            for s in range(shells):
                g = load(scratch, at + (SHELL + s) * WIDTH)
                place = base + (group * shells + s) * block
                for n in range(count):
                    add_to(work, place + n * WIDTH, g * load(work, terms + n * WIDTH))
                add_to(work, place + 2 * count * WIDTH, g * g)


@njit(**INNER)
def moment_sums(tables, pairs, n_pairs, work, base, rows, column, stride):  # type: ignore[no-untyped-def]
    """The angular raw sums of every pair of groups from the moments, into rows."""
    stand_alone()
    shells, count, powers = tables.sizes[SHELLS], tables.sizes[MONOMIALS], tables.sizes[POWERS]
    block = moment_length(count)
    for pair in range(n_pairs):
        a, b = pairs[3 * pair], pairs[3 * pair + 1]
        for s in range(shells):
            left = base + (a * shells + s) * block
            right = base + (b * shells + s) * block
            row = (pairs[3 * pair + 2] + s * powers) * stride + column
            n = 0
            for p in range(powers):
                total = broadcast(0.0)
                while n < count and tables.degrees[n] == p:
                    product = load(work, left + n * WIDTH) * load(work, right + n * WIDTH)
                    total = total + splat(tables.multinomials, n) * product
                    n += 1
                if a == b:
                    total = 0.5 * (total - load(work, left + 2 * count * WIDTH))
                store(rows, row + p * stride, total)


@njit(**INNER)
def moment_slopes(tables, pairs, n_pairs, work, base, slopes, column, stride):  # type: ignore[no-untyped-def]
    """dE/dM and dE/d(self sum) of every group and shell from dE/dS_p."""
    stand_alone()
    shells, count, powers = tables.sizes[SHELLS], tables.sizes[MONOMIALS], tables.sizes[POWERS]
    block = moment_length(count)
    for pair in range(n_pairs):
        a, b = pairs[3 * pair], pairs[3 * pair + 1]
        for s in range(shells):
            left = base + (a * shells + s) * block
            right = base + (b * shells + s) * block
            row = (pairs[3 * pair + 2] + s * powers) * stride + column
            for n in range(tables.sizes[ANGULAR_MONOMIALS]):
                shift = n * WIDTH
                slope = load(slopes, row + tables.degrees[n] * stride) * splat(tables.multinomials, n)
                add_to(work, left + count * WIDTH + shift, slope * load(work, right + shift))
                if a != b:
                    add_to(work, right + count * WIDTH + shift, slope * load(work, left + shift))
            if a == b:
                for p in range(powers):
                    add_to(work, left + (2 * count + 1) * WIDTH, -0.5 * load(slopes, row + p * stride))


@njit(**INNER)
def moment_derivatives(tables, scratch, record, starts, start, groups, work, base):  # type: ignore[no-untyped-def]
    """dE/dg and dE/du of every neighbour, into the records."""
    stand_alone()
    shells, count = tables.sizes[SHELLS], tables.sizes[MONOMIALS]
    length = record_length(shells)
    block = moment_length(count)
    terms = base + groups * shells * block
    bars = terms + count * WIDTH
    for group in range(groups):
        for j in range(starts[start + group], starts[start + group + 1]):
            at = record + j * length
            at_bar = at + (SHELL + 2 * shells) * WIDTH
            fill_monomials(tables, scratch, at, work, terms)
            for n in range(count):
                store(work, bars + n * WIDTH, broadcast(0.0))
            for s in range(shells):
                place = base + (group * shells + s) * block + count * WIDTH
                g = load(scratch, at + (SHELL + s) * WIDTH)
                by_g = 2.0 * g * load(work, place + (count + 1) * WIDTH)
                for n in range(count):
                    slope = load(work, place + n * WIDTH)
                    by_g = by_g + slope * load(work, terms + n * WIDTH)
                    add_to(work, bars + n * WIDTH, slope * g)
                add_to(scratch, at_bar + (3 + s) * WIDTH, by_g)
            for n in range(count - 1, 0, -1):
                parent, axis = tables.parents[n] * WIDTH, tables.axes[n] * WIDTH
                bar = load(work, bars + n * WIDTH)
                add_to(work, bars + parent, bar * load(scratch, at + axis))
                add_to(scratch, at_bar + axis, bar * load(work, terms + parent))
