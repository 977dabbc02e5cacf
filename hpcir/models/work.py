"""Arithmetic of a step of dynamics with a set of symmetry functions and networks, before there are any."""

from __future__ import annotations

import numpy as np

from hpcir.arrays import IntArray
from hpcir.descriptors.definition import SymmetryFunctionSet
from hpcir.descriptors.environment import (
    ANGULAR_MONOMIALS,
    CONTRACTED_MONOMIALS,
    MONOMIALS,
    PAIRED,
    SINGLE,
    TRIPLE,
    TYPICAL_NEIGHBOURS,
    USE_MOMENTS,
    CentrePlan,
    centre_plan,
    function_tables,
)

# Floating-point operations, forwards and backwards: of a pair (geometry, cutoff, exponentials), of a radial function
# and of a shell of it, of a monomial and shell of a neighbour, of a term of a contraction and of a product of two
# moments, of the triples of a channel, and of a tanh.
PAIR, RADIAL, SHELL, MOMENT, TERM, PRODUCT, TRIPLES, ACTIVATION = 180, 11, 18, 20, 14, 8, 900, 28


def step_operations(
    functions: SymmetryFunctionSet, numbers: IntArray, hidden: tuple[int, ...], members: int
) -> tuple[float, float]:
    """Floating-point operations of one step of the molecule `numbers` (N,): of the symmetry functions, and of the
    energy networks with these hidden layers; a neighbour is any atom, TYPICAL_NEIGHBOURS at most."""
    descriptors = networks = 0.0
    for element in np.unique(numbers):
        plan = centre_plan(functions, numbers, int(element))
        atoms = int((numbers == element).sum())
        descriptors += atoms * _descriptor_operations(functions, len(numbers) - 1, plan)
        widths = (plan.rows, *hidden)
        products = sum(4 * m * n for m, n in zip(widths[:-1], hidden, strict=True))
        networks += atoms * members * (products + ACTIVATION * sum(hidden))
    return descriptors, networks


def _descriptor_operations(functions: SymmetryFunctionSet, others: int, plan: CentrePlan) -> float:
    tables = function_tables(functions, others)
    near = min(others, TYPICAL_NEIGHBOURS)
    shells = len(functions.shells) if functions.angular else 0
    work = float(near * (PAIR + RADIAL * len(functions.radial) + SHELL * shells))
    if tables.sizes[USE_MOMENTS]:
        work += 6 * len(plan.pairs) * shells * int(tables.sizes[ANGULAR_MONOMIALS])
    elif functions.angles:
        work += near * (near - 1) / 2 * (22 + shells * (9 + 7 * (functions.zeta_max + 1)))
    if tables.sizes[USE_MOMENTS] or len(plan.contractions):
        work += near * MOMENT * int(tables.sizes[MONOMIALS]) * shells
    kinds, sizes = plan.contractions[:, 0], plan.contractions[:, 3]
    terms = plan.contractions[kinds == SINGLE]
    work += TERM * int((terms[:, 2] - terms[:, 1]).sum()) + TRIPLES * int((kinds == TRIPLE).sum())
    products = (sizes + 1) * (sizes + 2) * (sizes + 3) // 6 - 1
    return (
        work
        + PRODUCT * int(products[kinds == PAIRED].sum())
        + 4 * plan.weights.size * int(tables.sizes[CONTRACTED_MONOMIALS])
    )
