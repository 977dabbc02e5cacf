"""Contractions of moments for vectors of lanes, and their backward sweep (definitions: `contractions`).

The moments of every neighbour group and shell are those of `moment_kernel`. A channel that mixes several of them has a
place of its own behind the monomials in the work array: its moments, then dE/d(moments); a channel that is one group
and shell alone is read where it lies. A row of the table stands for all products of two channels (one for each rank),
for the four triples of one channel (`triple_kernel`), or for a contraction of any other kind, summed term by term.

Backward by the product rule into dE/d(moments) of the channels, from there by the weights into those of groups and
shells, and on to the neighbours with the angular functions.
"""

from __future__ import annotations

from hpcir.descriptors.angular_kernel import add_to
from hpcir.descriptors.environment import CONTRACTED_MONOMIALS, MONOMIALS, PAIRED, TRIPLE
from hpcir.descriptors.lanes import INNER, WIDTH, broadcast, load, njit, offset, splat, stand_alone, store
from hpcir.descriptors.moment_kernel import moment_length
from hpcir.descriptors.triple_kernel import TRIPLES, triple_slopes, triple_sums

# A row of the table: kind, first term, end of the terms, number of tensors (of ranks, where channels are paired), and
# the places of the tensors' moments in vectors.
KIND, FIRST_TERM, LAST_TERM, TENSORS, TENSOR = range(5)
ROW_COLUMNS = 8
# Moments of a term.
TERM_COLUMNS = 4
# Moments that are mixed at a time.
STRIP = 5


@njit(**INNER)
def mix_moments(tables, weights, channels, sources, first, work, base):  # type: ignore[no-untyped-def]
    """The moments of `channels` mixed channels, from place `first` (vectors) on, from those of the `sources` groups and
    shells: A_c = sum_s weights[c sources + s] M_s; and dE/dA_c = 0."""
    stand_alone()
    count, used = tables.sizes[MONOMIALS], tables.sizes[CONTRACTED_MONOMIALS]
    block = moment_length(count)
    for c in range(channels):
        place = base + (first + 2 * count * c) * WIDTH
        for n in range(0, used - used % STRIP, STRIP):
            a0 = broadcast(0.0)
            a1, a2, a3, a4 = a0, a0, a0, a0
            at = base + n * WIDTH
            for s in range(sources):
                w = splat(weights, c * sources + s)
                a0, a1 = a0 + w * load(work, at), a1 + w * load(work, at + WIDTH)
                a2, a3 = a2 + w * load(work, at + 2 * WIDTH), a3 + w * load(work, at + 3 * WIDTH)
                a4 = a4 + w * load(work, at + 4 * WIDTH)
                at += block
            at = place + n * WIDTH
            store(work, at, a0)
            store(work, at + WIDTH, a1)
            store(work, at + 2 * WIDTH, a2)
            store(work, at + 3 * WIDTH, a3)
            store(work, at + 4 * WIDTH, a4)
        for n in range(used - used % STRIP, used):
            a0 = broadcast(0.0)
            for s in range(sources):
                a0 = a0 + splat(weights, c * sources + s) * load(work, base + s * block + n * WIDTH)
            store(work, place + n * WIDTH, a0)
        for n in range(count, count + used):
            store(work, place + n * WIDTH, broadcast(0.0))


@njit(**INNER)
def unmix_slopes(tables, weights, channels, sources, first, work, base):  # type: ignore[no-untyped-def]
    """Add dE/d(moments) of mixed channels to those of groups and shells."""
    stand_alone()
    count, used = tables.sizes[MONOMIALS], tables.sizes[CONTRACTED_MONOMIALS]
    block = moment_length(count)
    step = 2 * count * WIDTH
    for s in range(sources):
        place = base + s * block + count * WIDTH
        for n in range(0, used - used % STRIP, STRIP):
            at = place + n * WIDTH
            a0, a1, a2 = load(work, at), load(work, at + WIDTH), load(work, at + 2 * WIDTH)
            a3, a4 = load(work, at + 3 * WIDTH), load(work, at + 4 * WIDTH)
            source = base + (first + count + n) * WIDTH
            for c in range(channels):
                w = splat(weights, c * sources + s)
                a0, a1 = a0 + w * load(work, source), a1 + w * load(work, source + WIDTH)
                a2, a3 = a2 + w * load(work, source + 2 * WIDTH), a3 + w * load(work, source + 3 * WIDTH)
                a4 = a4 + w * load(work, source + 4 * WIDTH)
                source += step
            store(work, at, a0)
            store(work, at + WIDTH, a1)
            store(work, at + 2 * WIDTH, a2)
            store(work, at + 3 * WIDTH, a3)
            store(work, at + 4 * WIDTH, a4)
        for n in range(used - used % STRIP, used):
            a0 = load(work, place + n * WIDTH)
            for c in range(channels):
                a0 = a0 + splat(weights, c * sources + s) * load(work, base + (first + count + n) * WIDTH + c * step)
            store(work, place + n * WIDTH, a0)


@njit(**INNER)
def paired_sums(tables, a, b, ranks, work, rows, row, stride):  # type: ignore[no-untyped-def]
    """Products of the channels at a and b of every rank from 1 to `ranks` into rows[row], rows[row + stride], ..."""
    stand_alone()
    n = 1
    for rank in range(1, ranks + 1):
        total = broadcast(0.0)
        for _ in range((rank + 1) * (rank + 2) // 2):
            total = total + splat(tables.multinomials, n) * (load(work, a + n * WIDTH) * load(work, b + n * WIDTH))
            n += 1
        store(rows, row, total)
        row += stride


@njit(**INNER)
def paired_slopes(tables, a, b, ranks, work, slopes, row, stride):  # type: ignore[no-untyped-def]
    """Add dE/d(moments) of both channels from dE/d(products), laid out as `paired_sums` has them."""
    stand_alone()
    bars = tables.sizes[MONOMIALS] * WIDTH
    n = 1
    for rank in range(1, ranks + 1):
        slope = load(slopes, row)
        for _ in range((rank + 1) * (rank + 2) // 2):
            factor = splat(tables.multinomials, n) * slope
            at_a, at_b = a + n * WIDTH, b + n * WIDTH
            add_to(work, at_a + bars, factor * load(work, at_b))
            add_to(work, at_b + bars, factor * load(work, at_a))
            n += 1
        row += stride


@njit(**INNER)
def contraction_sums(tables, table, entries, work, base, rows, row, stride):  # type: ignore[no-untyped-def]
    """Every contraction into rows[row], rows[row + stride] and so on."""
    stand_alone()
    for number in range(entries):
        entry = offset(table, ROW_COLUMNS * number)
        tensors = entry[TENSORS]
        a, b = base + entry[TENSOR] * WIDTH, base + entry[TENSOR + 1] * WIDTH
        if entry[KIND] == PAIRED:
            paired_sums(tables, a, b, tensors, work, rows, row, stride)
            row += tensors * stride
        elif entry[KIND] == TRIPLE:
            triple_sums(work, a, rows, row, stride)
            row += TRIPLES * stride
        else:
            total = broadcast(0.0)
            for term in range(entry[FIRST_TERM], entry[LAST_TERM]):
                moments = offset(tables.terms, TERM_COLUMNS * term)
                value = load(work, a + moments[0] * WIDTH) * load(work, b + moments[1] * WIDTH)
                for t in range(2, tensors):
                    value = value * load(work, base + (entry[TENSOR + t] + moments[t]) * WIDTH)
                total = total + splat(tables.coefficients, term) * value
            store(rows, row, total)
            row += stride


@njit(**INNER)
def contraction_slopes(tables, table, entries, work, base, slopes, row, stride):  # type: ignore[no-untyped-def]
    """Add dE/d(moments) of the channels, from dE/d(contraction) in slopes, laid out as the rows."""
    stand_alone()
    bars = tables.sizes[MONOMIALS] * WIDTH
    for number in range(entries):
        entry = offset(table, ROW_COLUMNS * number)
        tensors = entry[TENSORS]
        a, b = base + entry[TENSOR] * WIDTH, base + entry[TENSOR + 1] * WIDTH
        if entry[KIND] == PAIRED:
            paired_slopes(tables, a, b, tensors, work, slopes, row, stride)
            row += tensors * stride
        elif entry[KIND] == TRIPLE:
            triple_slopes(work, a, a + bars, slopes, row, stride)
            row += TRIPLES * stride
        else:
            term_slopes(tables, entry, work, base, load(slopes, row))
            row += stride


@njit(**INNER)
def term_slopes(tables, entry, work, base, slope):  # type: ignore[no-untyped-def]
    """Add dE/d(moments) of one contraction term by term."""
    stand_alone()
    bars = tables.sizes[MONOMIALS] * WIDTH
    a, b = base + entry[TENSOR] * WIDTH, base + entry[TENSOR + 1] * WIDTH
    c, d = base + entry[TENSOR + 2] * WIDTH, base + entry[TENSOR + 3] * WIDTH
    tensors = entry[TENSORS]
    for term in range(entry[FIRST_TERM], entry[LAST_TERM]):
        moments = offset(tables.terms, TERM_COLUMNS * term)
        at_a, at_b = a + moments[0] * WIDTH, b + moments[1] * WIDTH
        factor = splat(tables.coefficients, term) * slope
        x, y = load(work, at_a), load(work, at_b)
        if tensors > 2:
            at_c = c + moments[2] * WIDTH
            z = load(work, at_c)
            both = x * y
            if tensors > 3:
                at_d = d + moments[3] * WIDTH
                w = load(work, at_d)
                add_to(work, at_d + bars, factor * (both * z))
                factor = factor * w
            add_to(work, at_c + bars, factor * both)
            factor = factor * z
        add_to(work, at_a + bars, factor * y)
        add_to(work, at_b + bars, factor * x)
