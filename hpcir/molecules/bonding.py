"""The bonds of a molecule: a graph with orders, formal charges and rings, and protons that move in it.

Where the graph comes from: `bond_orders.bond_graph`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hpcir.arrays import BoolArray, IntArray
from hpcir.molecules.structures import Structure, bonds

HYDROGEN, BORON, CARBON, NITROGEN, OXYGEN = 1, 5, 6, 7, 8
# Elements between which a hydrogen may move as a proton.
PROTON_CARRIERS = (7, 8, 9, 16, 17)


@dataclass(frozen=True)
class BondGraph:
    """The bonds of a molecule of N atoms and B bonds, of one of its resonance structures.

    numbers (N,); pairs (B, 2), i < j; orders (B,) 1 to 3; formal_charges (N,) in e; unpaired (N,) electrons;
    in_ring (B,): True for bonds that are part of a ring.
    """

    numbers: IntArray
    pairs: IntArray
    orders: IntArray
    formal_charges: IntArray
    unpaired: IntArray
    in_ring: BoolArray

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def neighbours(self) -> list[list[int]]:
        """Bonded atoms of every atom."""
        return adjacency(len(self), self.pairs)

    @cached_property
    def mobile(self) -> list[int]:
        """Hydrogens that may move as protons."""
        return mobile_hydrogens(self.numbers, self.pairs)

    @cached_property
    def unsaturated(self) -> BoolArray:
        """(N,) True for atoms with a double or triple bond."""
        mask = np.zeros(len(self), bool)
        mask[self.pairs[self.orders > 1].ravel()] = True
        return mask

    @cached_property
    def rotatable(self) -> list[tuple[int, int]]:
        """Single bonds outside rings between atoms that each have another neighbour, amide C-N and such left out."""
        found = []
        for (i, j), order, ring in zip(self.pairs.tolist(), self.orders, self.in_ring, strict=True):
            ends = min(len(self.neighbours[i]), len(self.neighbours[j]))
            if order == 1 and not ring and ends > 1 and not self.conjugated(i, j):
                found.append((i, j))
        return found

    @cached_property
    def carries_charge(self) -> BoolArray:
        """(N,) atoms with a formal charge or unpaired electron, and those that a conjugated system shares it with."""
        mask: BoolArray = (self.formal_charges != 0) | (self.unpaired != 0)
        stack = np.flatnonzero(mask).tolist()
        double = set(map(tuple, self.pairs[self.orders > 1].tolist()))
        while stack:
            atom = stack.pop()
            for other in self.neighbours[atom]:
                shared = (min(atom, other), max(atom, other)) in double or self.conjugated(atom, other)
                if shared and not mask[other]:
                    mask[other] = True
                    stack.append(other)
        return mask

    def conjugated(self, i: int, j: int) -> bool:
        """True where a single bond i-j joins two double bonds, or a double bond and a lone pair of N or O."""
        for a, b in ((i, j), (j, i)):
            lone_pair = self.numbers[b] in (NITROGEN, OXYGEN) and self.formal_charges[b] <= 0
            if self.unsaturated[a] and (self.unsaturated[b] or lone_pair):
                return True
        return False


def adjacency(count: int, pairs: IntArray) -> list[list[int]]:
    """Neighbours of each of `count` atoms from bonded pairs (B, 2)."""
    table: list[list[int]] = [[] for _ in range(count)]
    for i, j in pairs.tolist():
        table[i].append(j)
        table[j].append(i)
    return table


def mobile_hydrogens(numbers: IntArray, pairs: IntArray) -> list[int]:
    """Hydrogens that may move as protons: their one bond, of pairs (B, 2), is to N, O, S or a halogen."""
    neighbours = adjacency(len(numbers), pairs)
    return [
        atom
        for atom in np.flatnonzero(numbers == HYDROGEN).tolist()
        if len(neighbours[atom]) == 1 and numbers[neighbours[atom][0]] in PROTON_CARRIERS
    ]


def reprotonated(graph: BondGraph, structure: Structure) -> BondGraph | None:
    """The graph with every mobile hydrogen bonded to the carrier nearest to it in `structure`, formal charges moved
    along; None where other bonds are no longer those of the graph."""
    mobile = graph.mobile
    now = np.array(bonds(structure), np.int64).reshape(-1, 2)
    if not mobile:
        return graph if np.array_equal(now, graph.pairs) else None
    moving = np.isin(graph.pairs, mobile).any(1)
    here = now[~np.isin(now, mobile).any(1)]
    found = adjacency(len(graph), now)
    if not np.array_equal(here, graph.pairs[~moving]):
        return None
    pairs, charges = graph.pairs.copy(), graph.formal_charges.copy()
    for row in np.flatnonzero(moving):
        atom, parent = (int(k) for k in (pairs[row] if pairs[row, 0] in mobile else pairs[row, ::-1]))
        carriers = [k for k in found[atom] if graph.numbers[k] in PROTON_CARRIERS]
        if not carriers or len(carriers) < len(found[atom]):
            return None
        at = min(carriers, key=lambda k: float(np.linalg.norm(structure.positions[k] - structure.positions[atom])))
        charges[parent] -= 1
        charges[at] += 1
        pairs[row] = sorted((atom, at))
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return replace(
        graph,
        pairs=pairs[order],
        orders=graph.orders[order],
        in_ring=graph.in_ring[order],
        formal_charges=charges,
    )


def ring_bonds(count: int, pairs: IntArray) -> BoolArray:
    """(B,) True for bonds in a ring, which are no bridges of the graph (Tarjan, Inf. Process. Lett. 2, 160, 1974)."""
    links: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for bond, (i, j) in enumerate(pairs.tolist()):
        links[i].append((j, bond))
        links[j].append((i, bond))
    order, lowest = [-1] * count, [0] * count
    ring = np.ones(len(pairs), bool)
    clock = 0
    for root in range(count):
        stack = [(root, -1, 0)] if order[root] < 0 else []
        while stack:
            atom, entry, position = stack.pop()
            if position == 0:
                order[atom] = lowest[atom] = clock
                clock += 1
            if position < len(links[atom]):
                stack.append((atom, entry, position + 1))
                other, bond = links[atom][position]
                if bond == entry:
                    continue
                if order[other] < 0:
                    stack.append((other, bond, 0))
                else:
                    lowest[atom] = min(lowest[atom], order[other])
            elif stack:
                parent = stack[-1][0]
                lowest[parent] = min(lowest[parent], lowest[atom])
                if lowest[atom] > order[parent]:
                    ring[entry] = False
    return ring
