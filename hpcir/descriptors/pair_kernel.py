"""Pairs of a centre and its neighbours, for one vector of lanes: distances, Gaussians, radial sums, and forces.

Each neighbour slot of a vector of lanes owns a record of `record_length` vectors in the scratch array:
unit vector to the neighbour u (3), 1/r, r, fc, dfc/dr, first Gaussian, ratio of Gaussians, then for each angular
shell g and dg/dr; and for the backward sweep dE/du (3) and dE/dg of each shell. An absent neighbour is an atom
far outside the cutoff: fc and dfc are exactly zero there, and no branch is needed.
"""

from __future__ import annotations

from hpcir.descriptors.arithmetic import cutoff_function, vector_exp
from hpcir.descriptors.environment import (
    CUTOFF_KIND,
    GRID_HEAD,
    RADIAL,
    RADIAL_EVEN,
    SHELLS,
    SHELLS_EVEN,
)
from hpcir.descriptors.lanes import (
    INLINE,
    INNER,
    WIDTH,
    broadcast,
    gather,
    load,
    njit,
    splat,
    square_root,
    stand_alone,
    store,
    where_greater,
)

# Places inside a record, in vectors.
UNIT, INVERSE, DISTANCE, CUTOFF, CUTOFF_SLOPE, FIRST, RATIO, SHELL = 0, 3, 4, 5, 6, 7, 8, 9


@njit(**INLINE)
def record_length(shells):  # type: ignore[no-untyped-def]
    """Doubles of one record."""
    return (12 + 3 * shells) * WIDTH


@njit(**INLINE)
def position(x, contiguous, places, place, shift):  # type: ignore[no-untyped-def]
    """One component of the positions of WIDTH lanes: side by side in memory (replicas) or anywhere (a list)."""
    if contiguous:
        return load(x, places[place] + shift)
    return gather(x, places, place, shift)


@njit(**INNER)
def pair_geometry(x, stride, contiguous, centres, centre, slots, slot, tables, scratch, record):  # type: ignore[no-untyped-def]
    """Fill a record with u, 1/r, r, fc and dfc/dr; returns (r limited to the cutoff, fc)."""
    stand_alone()
    dx = position(x, contiguous, slots, slot, 0) - position(x, contiguous, centres, centre, 0)
    dy = position(x, contiguous, slots, slot, stride) - position(x, contiguous, centres, centre, stride)
    dz = position(x, contiguous, slots, slot, 2 * stride) - position(x, contiguous, centres, centre, 2 * stride)
    r = square_root(dx * dx + dy * dy + dz * dz)
    inverse = 1.0 / r
    store(scratch, record + UNIT * WIDTH, dx * inverse)
    store(scratch, record + (UNIT + 1) * WIDTH, dy * inverse)
    store(scratch, record + (UNIT + 2) * WIDTH, dz * inverse)
    store(scratch, record + INVERSE * WIDTH, inverse)
    cut, slope = cutoff_function(tables.sizes[CUTOFF_KIND], r * tables.cutoff[1])
    # Beyond the cutoff everything is multiplied by zero; the limit keeps exponentials finite there.
    limited = where_greater(r, tables.cutoff[0], broadcast(tables.cutoff[0]), r)
    store(scratch, record + DISTANCE * WIDTH, limited)
    store(scratch, record + CUTOFF * WIDTH, cut)
    store(scratch, record + CUTOFF_SLOPE * WIDTH, slope * tables.cutoff[1])
    return limited, cut


@njit(**INNER)
def radial_sums(r, cut, tables, scratch, record, rows, row, stride):  # type: ignore[no-untyped-def]
    """Add one neighbour's radial functions to rows[row + k stride]."""
    stand_alone()
    count = tables.sizes[RADIAL]
    grid = tables.radial
    if tables.sizes[RADIAL_EVEN]:
        away = r - splat(grid, 1)
        term = vector_exp(-(away * away) * splat(grid, 0))
        ratio = vector_exp(away * splat(grid, 2))
        store(scratch, record + FIRST * WIDTH, term)
        store(scratch, record + RATIO * WIDTH, ratio)
        term = term * cut
        for k in range(count):
            store(rows, row, load(rows, row) + term * splat(grid, GRID_HEAD + k))
            term = term * ratio
            row += stride
    else:
        for k in range(count):
            away = r - splat(grid, GRID_HEAD + count + k)
            term = vector_exp(-(away * away) * splat(grid, GRID_HEAD + 2 * count + k))
            store(rows, row, load(rows, row) + term * cut)
            row += stride


@njit(**INNER)
def shell_values(r, cut, tables, scratch, record):  # type: ignore[no-untyped-def]
    """Store g and dg/dr of every angular shell in a record, and clear the places of dE/du and dE/dg."""
    stand_alone()
    count = tables.sizes[SHELLS]
    grid = tables.shells
    slope = load(scratch, record + CUTOFF_SLOPE * WIDTH)
    even = tables.sizes[SHELLS_EVEN]
    term = broadcast(1.0)
    ratio = term
    if even:
        away = r - splat(grid, 1)
        term = vector_exp(-(away * away) * splat(grid, 0))
        ratio = vector_exp(away * splat(grid, 2))
    place = record + SHELL * WIDTH
    for s in range(count):
        away = r - splat(grid, GRID_HEAD + count + s)
        eta = splat(grid, GRID_HEAD + 2 * count + s)
        if even:
            value = term * splat(grid, GRID_HEAD + s)
            term = term * ratio
        else:
            value = vector_exp(-(away * away) * eta)
        store(scratch, place, value * cut)
        store(scratch, place + count * WIDTH, value * (slope - 2.0 * eta * away * cut))
        place += WIDTH
    place += count * WIDTH
    for _ in range(3 + count):
        store(scratch, place, broadcast(0.0))
        place += WIDTH


@njit(**INNER)
def radial_derivative(tables, scratch, record, slopes, row, stride):  # type: ignore[no-untyped-def]
    """dE/dr of one neighbour through the radial functions, from dE/d(raw sum) in slopes[row + k stride]."""
    stand_alone()
    count = tables.sizes[RADIAL]
    grid = tables.radial
    r = load(scratch, record + DISTANCE * WIDTH)
    cut = load(scratch, record + CUTOFF * WIDTH)
    cut_slope = load(scratch, record + CUTOFF_SLOPE * WIDTH)
    if tables.sizes[RADIAL_EVEN]:
        term = load(scratch, record + FIRST * WIDTH)
        ratio = load(scratch, record + RATIO * WIDTH)
        plain = broadcast(0.0)
        shifted = broadcast(0.0)
        for k in range(count):
            value = term * splat(grid, GRID_HEAD + k) * load(slopes, row)
            plain = plain + value
            shifted = shifted + value * splat(grid, GRID_HEAD + count + k)
            term = term * ratio
            row += stride
        return plain * cut_slope - 2.0 * splat(grid, 0) * cut * (r * plain - shifted)
    total = broadcast(0.0)
    for k in range(count):
        away = r - splat(grid, GRID_HEAD + count + k)
        eta = splat(grid, GRID_HEAD + 2 * count + k)
        value = vector_exp(-(away * away) * eta) * load(slopes, row)
        total = total + value * (cut_slope - 2.0 * eta * away * cut)
        row += stride
    return total


@njit(**INNER)
def pair_force(tables, scratch, record, by_distance):  # type: ignore[no-untyped-def]
    """Replace dE/du in a record by dE/d(position of the neighbour):
    (dE/dr) u + [dE/du - (dE/du . u) u] / r, with dE/dr = by_distance + sum_s dE/dg_s dg_s/dr."""
    count = tables.sizes[SHELLS]
    place = record + SHELL * WIDTH
    bar = place + 2 * count * WIDTH
    for s in range(count):
        slope = load(scratch, place + (count + s) * WIDTH)
        by_distance = by_distance + slope * load(scratch, bar + (3 + s) * WIDTH)
    x = load(scratch, record + UNIT * WIDTH)
    y = load(scratch, record + (UNIT + 1) * WIDTH)
    z = load(scratch, record + (UNIT + 2) * WIDTH)
    inverse = load(scratch, record + INVERSE * WIDTH)
    if count > 0:
        a = load(scratch, bar)
        b = load(scratch, bar + WIDTH)
        c = load(scratch, bar + 2 * WIDTH)
        along = by_distance - (a * x + b * y + c * z) * inverse
        return a * inverse + along * x, b * inverse + along * y, c * inverse + along * z
    return by_distance * x, by_distance * y, by_distance * z
