"""Tables that tell the descriptor kernels what to compute: functions, raw sums and their order, monomials.

The kernels do not compute symmetry functions but raw sums, of which symmetry functions are linear combinations:
    radial   sum_{j in a} exp(-eta (r_ij - r_s)^2) fc(r_ij)                      for each neighbour element a,
    angular  S_p = sum_{pairs j in a, k in b} g(r_ij) g(r_ik) cos^p theta_jik    for each pair (a, b), shell, p <= P,
where (1 + lambda cos)^zeta = sum_p binomial(zeta, p) lambda^p cos^p and P is the largest zeta. So lambda and zeta cost
nothing an atom: `combination` is that linear map, and the networks' first layers absorb it. Neighbour elements and
pairs that a molecule cannot have around a centre are left out (they are zero in every geometry).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from math import comb, exp, factorial
from typing import NamedTuple

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.descriptors.contractions import MAX_TENSORS, TRIPLE_SHARED, contraction_tables
from hpcir.descriptors.definition import CUTOFF_FUNCTIONS, SymmetryFunctionSet

# Entries of FunctionTables.sizes.
RADIAL, SHELLS, POWERS, CUTOFF_KIND, RADIAL_EVEN, SHELLS_EVEN, MONOMIALS, USE_MOMENTS = range(8)
# Of the monomials, those that angular functions and those that contractions read.
ANGULAR_MONOMIALS, CONTRACTED_MONOMIALS = 8, 9
# Kinds of rows of the table of contractions: one contraction, all products of two channels, all triples of a channel.
SINGLE, PAIRED, TRIPLE = range(3)
# Heads of a grid table: eta, first shift, logarithm of the ratio per length; then constants, shifts, etas of each.
GRID_HEAD = 3
# Beyond this exponent a recurrence of Gaussians could underflow or overflow on its way.
_SAFE_EXPONENT = 600.0
# With so many neighbours the moments of the density cost less than the pairs of neighbours (tools/bench/bench_kernel).
MOMENT_NEIGHBOURS = 12
TYPICAL_NEIGHBOURS = 24


class FunctionTables(NamedTuple):
    """Symmetry functions as the kernels read them.

    sizes: see the constants above. cutoff: [radius, 1 / radius]. radial, shells: grid tables (see `grid_table`).
    parents, axes (monomials,): u^alpha[n] = u^alpha[parents[n]] * u[axes[n]]; degrees; multinomials (floats).
    terms (T, MAX_TENSORS), flat, and coefficients (T,) of the contractions.
    """

    sizes: IntArray
    cutoff: FloatArray
    radial: FloatArray
    shells: FloatArray
    parents: IntArray
    axes: IntArray
    degrees: IntArray
    multinomials: FloatArray
    terms: IntArray
    coefficients: FloatArray


@dataclass(frozen=True)
class CentrePlan:
    """The raw sums of one centre element in one molecule.

    element: atomic number; groups: indices into `functions.elements` of the neighbour elements it can have; pairs:
    (group, group, first row of the angular raw sums); rows: number of raw sums; combination (n_features, rows):
    features = combination @ raw sums. contractions (rows, 4 + MAX_TENSORS): the table of `contraction_kernel`, for the
    contractions that are not zero in every geometry; first_contraction: the row of the first; weights (C, groups times
    shells) of the mixed channels; channels: C, and the place of the first in vectors.
    """

    element: int
    groups: tuple[int, ...]
    pairs: tuple[tuple[int, int, int], ...]
    rows: int
    combination: FloatArray
    contractions: IntArray
    weights: FloatArray
    first_contraction: int
    channels: tuple[int, int]


def grid_table(gaussians: tuple[tuple[float, float], ...], cutoff: float) -> tuple[FloatArray, bool]:
    """A table of (eta, shift) functions, and whether one recurrence gives them all.

    Evenly spaced Gaussians of one width obey, with spacing d,
        exp(-eta (r - r_0 - k d)^2) = exp(-eta (r - r_0)^2) * exp(2 eta d (r - r_0))^k * exp(-eta d^2 k^2),
    two exponentials for the whole set.
    """
    count = len(gaussians)
    etas, shifts = (np.array(values, float) for values in zip(*gaussians, strict=True)) if count else (np.zeros(0),) * 2
    table = np.zeros(GRID_HEAD + 3 * count)
    table[GRID_HEAD + count : GRID_HEAD + 2 * count] = shifts
    table[GRID_HEAD + 2 * count :] = etas
    if count < 2:
        return table, False
    eta, first, spacing = etas[0], shifts[0], (shifts[-1] - shifts[0]) / (count - 1)
    regular = np.allclose(etas, eta, rtol=1e-13, atol=0) and np.allclose(
        shifts, first + spacing * np.arange(count), rtol=0, atol=1e-13 * cutoff
    )
    reach = max(abs(first), abs(cutoff - first))
    safe = eta * reach**2 < _SAFE_EXPONENT and 2 * eta * abs(spacing) * reach * count < _SAFE_EXPONENT
    if not (regular and safe and eta * spacing**2 * count**2 < _SAFE_EXPONENT):
        return table, False
    table[:GRID_HEAD] = eta, first, 2 * eta * spacing
    table[GRID_HEAD : GRID_HEAD + count] = [exp(-eta * spacing**2 * k**2) for k in range(count)]
    return table, True


def monomials(degree: int) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """Parents, axes, degrees and multinomial coefficients of x^a y^b z^c with a + b + c <= degree, degree by degree."""
    powers = [(0, 0, 0)]
    parents, axes = [0], [0]
    for total in range(1, degree + 1):
        for a in range(total, -1, -1):
            for b in range(total - a, -1, -1):
                power = [a, b, total - a - b]
                axis = next(n for n in range(3) if power[n])
                powers.append((power[0], power[1], power[2]))
                power[axis] -= 1
                parents.append(powers.index((power[0], power[1], power[2])))
                axes.append(axis)
    degrees = [sum(power) for power in powers]
    multinomials = [float(factorial(sum(p)) // (factorial(p[0]) * factorial(p[1]) * factorial(p[2]))) for p in powers]
    as_int = (np.array(values, np.int64) for values in (parents, axes, degrees))
    return (*as_int, np.array(multinomials))  # type: ignore[return-value]


def function_tables(functions: SymmetryFunctionSet, neighbours: int, moments: bool | None = None) -> FunctionTables:
    """The tables of a set of symmetry functions for centres with about `neighbours` neighbours.

    moments: True or False to force the way of the angular sums, None to choose by the number of neighbours.
    """
    radial, radial_even = grid_table(functions.radial, functions.cutoff)
    shells, shells_even = grid_table(functions.shells, functions.cutoff)
    contractions = contraction_tables(
        functions.channels, functions.contractions, (len(functions.elements), len(functions.shells))
    )
    if moments is None:
        # The work of both ways a neighbour: partners * (12 + 4 powers) against 5 operations a monomial.
        moments = min(neighbours, TYPICAL_NEIGHBOURS) > MOMENT_NEIGHBOURS and functions.zeta_max <= 4
    parents, axes, degrees, multinomials = monomials(
        max(functions.zeta_max, functions.most_rank) if moments else functions.most_rank or functions.zeta_max
    )
    sizes = np.array(
        [
            len(functions.radial),
            len(functions.shells) if functions.angular else 0,
            functions.zeta_max + 1,
            CUTOFF_FUNCTIONS.index(functions.cutoff_function),
            radial_even,
            shells_even,
            len(parents),
            moments,
            int((degrees <= functions.zeta_max).sum()),
            int((degrees <= functions.most_rank).sum()),
        ],
        np.int64,
    )
    cutoff = np.array([functions.cutoff, 1 / functions.cutoff])
    terms, coefficients = contractions.moments.ravel(), contractions.coefficients
    if not len(coefficients):
        terms, coefficients = np.zeros(MAX_TENSORS, np.int64), np.zeros(1)
    return FunctionTables(sizes, cutoff, radial, shells, parents, axes, degrees, multinomials, terms, coefficients)


def centre_plan(
    functions: SymmetryFunctionSet, numbers: IntArray, element: int, n_monomials: int | None = None
) -> CentrePlan:
    """The raw sums around the atoms of `element` in the molecule `numbers` (N,). n_monomials: of the tables that it
    goes with, where the places of its contractions matter."""
    counts = [int((numbers == z).sum()) - (z == element) for z in functions.elements]
    groups = tuple(n for n, count in enumerate(counts) if count > 0)
    radial, shells = len(functions.radial), len(functions.shells) if functions.angles else 0
    powers = functions.zeta_max + 1
    row = len(groups) * radial
    pairs = []
    for a, b in functions.pairs if shells else []:
        if counts[a] < 1 or counts[b] < 1 or (a == b and counts[a] < 2):
            continue
        pairs.append((groups.index(a), groups.index(b), row))
        row += shells * powers
    kept, table, weights, channels = _contraction_plan(functions, groups, n_monomials or 1)
    combination = np.zeros((functions.n_features, row + len(kept)))
    combination[functions.n_behler + kept, row + np.arange(len(kept))] = 1.0
    plan = CentrePlan(element, groups, tuple(pairs), row + len(kept), combination, table, weights, row, channels)
    _fill_combination(functions, plan)
    return plan


def _contraction_plan(
    functions: SymmetryFunctionSet, groups: tuple[int, ...], count: int
) -> tuple[IntArray, IntArray, FloatArray, tuple[int, int]]:
    """The contractions that the neighbour groups can make: their numbers, table, the weights of the mixed channels, and
    the places of these (see `CentrePlan`)."""
    shells = len(functions.shells)
    tables = contraction_tables(functions.channels, functions.contractions, (len(functions.elements), shells))
    weights = tables.mixing[:, list(groups)].reshape(len(tables.mixing), len(groups) * shells)
    block = 2 * count + 2
    first = weights.shape[1] * block + 2 * count
    places = np.full(len(weights), -1)
    mixed: list[int] = []
    for channel, own in enumerate(weights):
        sources = np.flatnonzero(own)
        if len(sources) == 1 and own[sources[0]] == 1.0:
            places[channel] = sources[0] * block
        elif len(sources):
            places[channel] = first + 2 * count * len(mixed)
            mixed.append(channel)
    kept = [n for n, c in enumerate(functions.contractions) if all(places[channel] >= 0 for channel in c.channels)]
    rows, number = [], 0
    while number < len(kept):
        kind, length = _run_of(functions, kept[number:])
        contraction = functions.contractions[kept[number]]
        tensors = places[list(contraction.channels)].tolist()
        size = length if kind == PAIRED else len(tensors)
        terms = tables.rows[kept[number], :2].tolist()
        rows.append([kind, *terms, size, *tensors, *(0,) * (MAX_TENSORS - len(tensors))])
        number += length
    table = np.array(rows, np.int64).reshape(-1, 4 + MAX_TENSORS)
    return np.array(kept, np.int64), table, weights[mixed], (len(mixed), first)


def _run_of(functions: SymmetryFunctionSet, numbers: list[int]) -> tuple[int, int]:
    """The run that the first of some contractions begins: the kind of its row in the table, and its length."""
    run = [functions.contractions[n] for n in numbers[: max(functions.most_rank, len(TRIPLE_SHARED))]]
    run = list(takewhile(lambda contraction: contraction.channels == run[0].channels, run))
    if len(run[0].channels) == 2:
        ranks = 0
        while ranks < len(run) and run[ranks].shared == (ranks + 1,):
            ranks += 1
        if ranks:
            return PAIRED, ranks
    triple = len(run[0].channels) == 3 and len(set(run[0].channels)) == 1
    if triple and tuple(c.shared for c in run[: len(TRIPLE_SHARED)]) == TRIPLE_SHARED:
        return TRIPLE, len(TRIPLE_SHARED)
    return SINGLE, 1


def _fill_combination(functions: SymmetryFunctionSet, plan: CentrePlan) -> None:
    """Set plan.combination: ones for radial functions, binomial coefficients for angular ones."""
    radial, shells, angles = len(functions.radial), len(functions.shells), len(functions.angles)
    powers = functions.zeta_max + 1
    for group, element in enumerate(plan.groups):
        for k in range(radial):
            plan.combination[element * radial + k, group * radial + k] = 1.0
    all_pairs = functions.pairs
    for a, b, row in plan.pairs:
        pair = all_pairs.index((plan.groups[a], plan.groups[b]))
        for shell in range(shells):
            for angle, (zeta, lam) in enumerate(functions.angles):
                feature = functions.n_radial + (pair * shells + shell) * angles + angle
                for p in range(zeta + 1):
                    value = 2.0 ** (1 - zeta) * comb(zeta, p) * lam**p
                    plan.combination[feature, row + shell * powers + p] = value
