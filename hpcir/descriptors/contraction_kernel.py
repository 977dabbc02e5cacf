"""Contractions of moments for vectors of lanes, and their backward sweep (definitions: `contractions`).

The moments of every neighbour group and shell are those of `moment_kernel`. A channel that mixes several of them has a
place of its own behind the monomials in the work array: its moments, then dE/d(moments). A contraction's row of the
table says where its terms and its tensors are; a channel that is one group and shell alone is read where it lies.

Forward: value = sum of terms, each a product of two to four moments. Backward: by the product rule into dE/d(moments)
of the channels, from there by the weights into those of groups and shells, and on to the neighbours with the angular
functions.
"""

from __future__ import annotations

from hpcir.descriptors.angular_kernel import add_to
from hpcir.descriptors.environment import MONOMIALS
from hpcir.descriptors.lanes import INNER, WIDTH, broadcast, load, njit, offset, splat, stand_alone, store

# A row of the table of contractions: terms, number of tensors, and the places of their moments in vectors.
FIRST_TERM, LAST_TERM, TENSORS, TENSOR = range(4)
ROW_COLUMNS = 7
# A row of the table of mixtures: places of the channel and of the group and shell, in vectors.
MIXTURE_COLUMNS = 2
# Moments of a term.
TERM_COLUMNS = 4


@njit(**INNER)
def mix_moments(tables, places, weights, mixtures, begin, end, work, base):  # type: ignore[no-untyped-def]
    """The moments of mixed channels, whose places are the vectors begin to end, from those of groups and shells."""
    stand_alone()
    count = tables.sizes[MONOMIALS]
    for n in range(begin, end):
        store(work, base + n * WIDTH, broadcast(0.0))
    for mixture in range(mixtures):
        channel = base + places[MIXTURE_COLUMNS * mixture] * WIDTH
        source = base + places[MIXTURE_COLUMNS * mixture + 1] * WIDTH
        weight = splat(weights, mixture)
        for n in range(0, count * WIDTH, WIDTH):
            add_to(work, channel + n, weight * load(work, source + n))


@njit(**INNER)
def unmix_slopes(tables, places, weights, mixtures, work, base):  # type: ignore[no-untyped-def]
    """Add dE/d(moments) of mixed channels to those of groups and shells."""
    stand_alone()
    count = tables.sizes[MONOMIALS]
    for mixture in range(mixtures):
        channel = base + (places[MIXTURE_COLUMNS * mixture] + count) * WIDTH
        source = base + (places[MIXTURE_COLUMNS * mixture + 1] + count) * WIDTH
        weight = splat(weights, mixture)
        for n in range(0, count * WIDTH, WIDTH):
            add_to(work, source + n, weight * load(work, channel + n))


@njit(**INNER)
def contraction_sums(tables, table, contractions, work, base, rows, row, stride):  # type: ignore[no-untyped-def]
    """Every contraction into rows[row], rows[row + stride] and so on."""
    stand_alone()
    for number in range(contractions):
        entry = offset(table, ROW_COLUMNS * number)
        a, b = base + entry[TENSOR] * WIDTH, base + entry[TENSOR + 1] * WIDTH
        tensors = entry[TENSORS]
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
def contraction_slopes(tables, table, contractions, work, base, slopes, row, stride):  # type: ignore[no-untyped-def]
    """Add dE/d(moments) of the channels, from dE/d(contraction) in slopes, laid out as the rows."""
    stand_alone()
    bars = tables.sizes[MONOMIALS] * WIDTH
    for number in range(contractions):
        entry = offset(table, ROW_COLUMNS * number)
        a, b = base + entry[TENSOR] * WIDTH, base + entry[TENSOR + 1] * WIDTH
        c, d = base + entry[TENSOR + 2] * WIDTH, base + entry[TENSOR + 3] * WIDTH
        tensors = entry[TENSORS]
        slope = load(slopes, row)
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
        row += stride
