"""The positions that an isotopologue's atoms take by motion alone, whichever of them the user has named.

A geometry with like atoms exchanged, or its mirror image, is reached by turning about bonds, inverting pyramids and
puckering rings where it keeps the handedness of the labels about every four-connected atom, and the sides of double
bonds: the group of feasible operations (Longuet-Higgins, Mol. Phys. 6, 445, 1963). Classical energies do not depend on
masses, so that all arrangements of the masses that the group makes have equal weight.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.errors import InputError
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.structures import Structure
from hpcir.molecules.symmetry import skeleton_mappings, terminal_sets

# Arrangements of masses that are sampled, at most.
MAX_ARRANGEMENTS = 1000
# A four-connected atom flatter than this (volume of its bonds' unit vectors), and a double bond whose sides have a
# smaller cosine, tell no handedness.
FLAT, ACROSS = 0.2, 0.3


@dataclass(frozen=True)
class Relabelling:
    """An exchange of like atoms, with reflection where `mirrored`: atom i goes to where atom order[i] was."""

    order: IntArray
    mirrored: bool = False

    def of(self, vectors: FloatArray) -> FloatArray:
        """Positions or velocities (N, 3, ...) of the copy."""
        moved = np.array(vectors[self.order])
        if self.mirrored:
            moved[:, 2] *= -1.0
        return moved

    def after(self, first: Relabelling) -> Relabelling:
        """This one, done after another."""
        return Relabelling(first.order[self.order], first.mirrored != self.mirrored)

    def places(self, masses: FloatArray) -> FloatArray:
        """The masses (N,) at the places of the geometry that it is a copy of."""
        found = np.empty_like(masses)
        found[self.order] = masses
        return found


def arrangements(structure: Structure, masses: FloatArray) -> list[Relabelling]:
    """A relabelling for each arrangement of masses (N,) on the places of a geometry that motion makes, the geometry
    itself first; it alone where the masses of all like atoms are equal, or the bonds cannot be assigned."""
    same = Relabelling(np.arange(len(structure)))
    try:
        graph = bond_graph(structure)
    except InputError:
        return [same]
    generators = list(_generators(structure.positions, graph))
    found = {same.places(masses).tobytes(): same}
    queue = [same]
    while queue and len(found) < MAX_ARRANGEMENTS:
        before = queue.pop(0)
        for one in generators:
            new = one.after(before)
            key = new.places(masses).tobytes()
            if key not in found:
                found[key] = new
                queue.append(new)
    return list(found.values())[:MAX_ARRANGEMENTS]


def operations(structure: Structure) -> list[Relabelling]:
    """Operations that generate the group of those that motion makes, but the one that does nothing; none where the
    bonds cannot be assigned. The energy of a copy is that of the geometry, whatever geometry it is."""
    try:
        graph = bond_graph(structure)
    except InputError:
        return []
    identity = np.arange(len(structure))
    found = _generators(structure.positions, graph)
    return [one for one in found if one.mirrored or not np.array_equal(one.order, identity)]


def _generators(positions: FloatArray, graph: BondGraph) -> Iterator[Relabelling]:
    """Operations that generate the feasible group."""
    identity = np.arange(len(graph))
    candidates = [Relabelling(identity, True)]
    for _, atoms in terminal_sets(graph):
        for one, two in combinations(atoms, 2):
            swap = identity.copy()
            swap[[one, two]] = two, one
            candidates.append(Relabelling(swap))
        for three in combinations(atoms, 3):
            turn = identity.copy()
            turn[list(three)] = np.roll(three, 1)
            candidates.append(Relabelling(turn))
    for order in skeleton_mappings(graph, graph):
        candidates += [Relabelling(order), Relabelling(order, True)]
    sides = handedness(positions, graph)
    for candidate in candidates:
        feasible = _repaired(candidate, positions, graph, sides)
        if feasible is not None:
            yield feasible


def _repaired(
    one: Relabelling, positions: FloatArray, graph: BondGraph, sides: dict[Hashable, int]
) -> Relabelling | None:
    """An operation with two like atoms swapped about every centre whose handedness it changes; None where that cannot
    be."""
    wrong = _changed(one, positions, graph, sides)
    if not wrong:
        return one
    order = one.order.copy()
    sets = {centre: atoms for centre, atoms in terminal_sets(graph)}
    for key in wrong:
        centres = key[1:] if isinstance(key, tuple) else ()
        pair = next((sets[centre][:2] for centre in centres if centre in sets), None)
        if pair is None:
            return None
        order[list(pair)] = order[list(pair)[::-1]]
    repaired = Relabelling(order, one.mirrored)
    return None if _changed(repaired, positions, graph, sides) else repaired


def _changed(one: Relabelling, positions: FloatArray, graph: BondGraph, sides: dict[Hashable, int]) -> list[Hashable]:
    now = handedness(one.of(positions), graph)
    return [key for key, side in sides.items() if now.get(key, side) != side]


def handedness(positions: FloatArray, graph: BondGraph) -> dict[Hashable, int]:
    """1 or -1 for ("centre", atom), the sense of the labels of its four neighbours, and for ("bond", i, j), the side of
    the first neighbours of a double bond outside rings."""
    found: dict[Hashable, int] = {}
    for centre, near in enumerate(graph.neighbours):
        if len(near) == 4:
            arms = positions[near] - positions[centre]
            arms = arms / np.linalg.norm(arms, axis=1)[:, None]
            volume = float(np.linalg.det(arms[1:] - arms[0]))
            if abs(volume) > FLAT:
                found["centre", centre] = int(np.sign(volume))
    for (i, j), order, ring in zip(graph.pairs.tolist(), graph.orders, graph.in_ring, strict=True):
        ends = [min((k for k in graph.neighbours[a] if k != b), default=-1) for a, b in ((i, j), (j, i))]
        if order != 2 or ring or min(ends) < 0:
            continue
        axis = positions[j] - positions[i]
        axis = axis / np.linalg.norm(axis)
        first, second = (positions[end] - positions[atom] for end, atom in zip(ends, (i, j), strict=True))
        first, second = (arm - (arm @ axis) * axis for arm in (first, second))
        cosine = float(first @ second / max(np.linalg.norm(first) * np.linalg.norm(second), 1e-12))
        if abs(cosine) > ACROSS:
            found["bond", i, j] = int(np.sign(cosine))
    return found
