"""Exchanges of like atoms: which geometries they make alike, and the symmetry of one.

Two geometries are alike where a one-to-one mapping of atoms that keeps elements and bonds, followed by a rotation or a
rotation and reflection, lays one on the other. A methyl group turned by a third is alike; the turned pyramid of an NH2
group is not, for no exchange of its two hydrogens gives it back. All copies of a conformer that exchange and reflection
make are basins of their own, and their number is that of all exchanges over the order of its point group: the inverse
of that order is a factor of its weight (Longuet-Higgins, Mol. Phys. 6, 445, 1963; Fernandez-Ramos, Ellingson,
Meana-Paneda, Marques, Truhlar, Theor. Chem. Acc. 118, 813, 2007).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.molecules.bonding import BondGraph

# Mappings of the skeleton that are looked at, at most, and geometries that one is compared with at once.
MAX_MAPPINGS, MAX_FRAMES = 2000, 20_000
# Terminal atoms of a set beyond this many are left in their order.
MAX_SET = 6
# Rounds of refinement of the kinds of atoms.
ROUNDS = 16
# The skeleton fixes a rotation where it is this far (bohr, root mean square) from a line.
OFF_LINE = 0.3
# An atom of a geometry that is alike may be farther from its place than the root mean square limit by this factor.
FARTHEST = 2.0
# A geometry alike itself within this root mean square distance (bohr) is symmetric.
SYMMETRIC = 0.2


def atom_kinds(graph: BondGraph) -> list[int]:
    """(N,) a number for each atom, equal for atoms with equal surroundings, in other graphs too (Morgan, J. Chem. Doc.
    5, 107, 1965)."""
    kinds = [int(z) for z in graph.numbers]
    for _ in range(min(ROUNDS, len(graph))):
        kinds = [hash((kinds[i], *sorted(kinds[j] for j in graph.neighbours[i]))) for i in range(len(graph))]
    return kinds


def terminal_sets(graph: BondGraph) -> list[tuple[int, tuple[int, ...]]]:
    """(centre, atoms) of every two or more atoms of one element that are bonded to the same centre alone."""
    found = []
    for centre, near in enumerate(graph.neighbours):
        ends = [atom for atom in sorted(near) if len(graph.neighbours[atom]) == 1]
        for number in sorted({int(graph.numbers[atom]) for atom in ends}):
            alike = tuple(atom for atom in ends if graph.numbers[atom] == number)
            if len(alike) > 1:
                found.append((centre, alike))
    return found


def skeleton_mappings(own: BondGraph, other: BondGraph) -> list[IntArray]:
    """Orders (N,) of the atoms of `other` that give it the bonds of `own`, MAX_MAPPINGS at most.

    One for each mapping of the skeleton; atoms of a terminal set keep their order.
    """
    sets = dict[int, list[tuple[int, ...]]]()
    for centre, atoms in terminal_sets(other):
        sets.setdefault(centre, []).append(atoms)
    mapped = terminal_sets(own)
    found = []
    for image in _skeletons(own, other):
        order = np.full(len(own), -1, np.int64)
        for atom, to in image.items():
            order[atom] = to
        for centre, atoms in mapped:
            element = own.numbers[atoms[0]]
            (same,) = (s for s in sets[image[centre]] if other.numbers[s[0]] == element)
            order[list(atoms)] = same
        found.append(order)
        if len(found) == MAX_MAPPINGS:
            break
    return found


def _skeletons(own: BondGraph, other: BondGraph) -> Iterator[dict[int, int]]:
    """Mappings of all atoms but those of terminal sets, by backtracking along the bonds."""
    if sorted(map(len, own.neighbours)) != sorted(map(len, other.neighbours)):
        return
    kinds, others = atom_kinds(own), atom_kinds(other)
    free = set(range(len(other))) - {atom for _, atoms in terminal_sets(other) for atom in atoms}
    sequence = _sequence(own)
    if len(sequence) != len(free):
        return
    image: dict[int, int] = {}
    choices = [_choices(own, other, kinds, others, free, image, sequence[0])]
    while choices:
        atom = sequence[len(choices) - 1]
        image.pop(atom, None)
        if not choices[-1]:
            choices.pop()
            continue
        image[atom] = choices[-1].pop()
        if len(choices) == len(sequence):
            yield dict(image)
        else:
            choices.append(_choices(own, other, kinds, others, free, image, sequence[len(choices)]))


def _sequence(graph: BondGraph) -> list[int]:
    """The atoms of no terminal set, each but the first of a molecule after one of its neighbours."""
    terminal = {atom for _, atoms in terminal_sets(graph) for atom in atoms}
    found: list[int] = []
    seen = set(terminal)
    for first in range(len(graph)):
        queue = [] if first in seen else [first]
        seen.add(first)
        while queue:
            atom = queue.pop(0)
            found.append(atom)
            for near in graph.neighbours[atom]:
                if near not in seen:
                    seen.add(near)
                    queue.append(near)
    return found


def _choices(
    own: BondGraph,
    other: BondGraph,
    kinds: Sequence[int],
    others: Sequence[int],
    free: set[int],
    image: dict[int, int],
    atom: int,
) -> list[int]:
    """The atoms of `other` that may take the place of `atom`, the first choice last."""
    placed = [image[near] for near in own.neighbours[atom] if near in image]
    used = set(image.values())
    pool = set(other.neighbours[placed[0]]) if placed else free
    good = [
        to
        for to in pool & free
        if to not in used
        and others[to] == kinds[atom]
        and sum(near in used for near in other.neighbours[to]) == len(placed)
        and all(near in other.neighbours[to] for near in placed)
    ]
    return sorted(good, reverse=True)


@dataclass(frozen=True)
class Fits:
    """Copies of a geometry laid on another one: root mean square distances (K,) and the largest of an atom (K,) in
    bohr; orders (K, N) of the atoms; mirrored (K,)."""

    rms: FloatArray
    largest: FloatArray
    orders: IntArray
    mirrored: BoolArray


class Exchanges:
    """The exchanges of like atoms between two molecules with these bonds (the same one twice: its symmetry)."""

    def __init__(self, own: BondGraph, other: BondGraph) -> None:
        self.graph = own
        self.mappings = skeleton_mappings(own, other)

    @cached_property
    def sets(self) -> list[IntArray]:
        """Terminal sets whose atoms are exchanged."""
        return [np.array(atoms) for _, atoms in terminal_sets(self.graph) if len(atoms) <= MAX_SET]

    @cached_property
    def skeleton(self) -> IntArray:
        """Atoms of no terminal set."""
        return np.array(sorted(_sequence(self.graph)), np.int64)

    def fits(self, own: FloatArray, other: FloatArray) -> Fits:
        """All copies of a geometry (N, 3) laid on another one (N, 3), one or more for each mapping of the skeleton."""
        orders = np.array(self.mappings, np.int64).reshape(-1, len(own))
        fixed = self._fixes_rotation(own)
        if not fixed:
            orders = self._all_orders(orders)
        mirrored = np.repeat([False, True], len(orders))
        orders = np.concatenate([orders, orders])
        frames = other[orders] * np.where(mirrored, -1.0, 1.0)[:, None, None]
        if fixed:
            laid = laid_on(own, frames, self.skeleton)
            for atoms in self.sets:
                turns = np.array(list(permutations(range(len(atoms)))))
                away = laid[:, atoms[turns]] - own[atoms]
                best = turns[np.argmin((away**2).sum(axis=(2, 3)), axis=1)]
                orders[:, atoms] = np.take_along_axis(orders[:, atoms], best, axis=1)
            frames = other[orders] * np.where(mirrored, -1.0, 1.0)[:, None, None]
        squares = ((laid_on(own, frames) - own) ** 2).sum(axis=2)
        return Fits(np.sqrt(squares.mean(axis=1)), np.sqrt(squares.max(axis=1)), orders, mirrored)

    def _fixes_rotation(self, own: FloatArray) -> bool:
        points = own[self.skeleton] - own[self.skeleton].mean(axis=0)
        if len(points) < 3:
            return False
        return bool(np.linalg.svd(points, compute_uv=False)[1] > OFF_LINE * np.sqrt(len(points)))

    def _all_orders(self, orders: IntArray) -> IntArray:
        """The orders with the atoms of every terminal set in every order, MAX_FRAMES of them at most."""
        for atoms in self.sets:
            turns = list(permutations(range(len(atoms))))
            if len(orders) * len(turns) > MAX_FRAMES:
                break
            copies = np.repeat(orders, len(turns), axis=0)
            copies[:, atoms] = np.concatenate([row[atoms][np.array(turns)] for row in orders])
            orders = copies
        return orders


def laid_on(own: FloatArray, frames: FloatArray, atoms: IntArray | None = None) -> FloatArray:
    """Frames (K, N, 3) turned onto a geometry (N, 3) by least squares of the given atoms (default: all), as in
    `superimpose`."""
    chosen = np.arange(len(own)) if atoms is None else atoms
    target = own[chosen].mean(axis=0)
    centres = frames[:, chosen].mean(axis=1)[:, None]
    covariance = np.swapaxes(frames[:, chosen] - centres, 1, 2) @ (own[chosen] - target)
    u, _, vt = np.linalg.svd(covariance)
    handed = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    u[:, :, 2] *= handed[:, None]
    return np.asarray((frames - centres) @ (u @ vt) + target)


@dataclass(frozen=True)
class Geometry:
    """Positions (N, 3) with the bonds that they have, and the sorted distances (P,) of each pair of elements."""

    positions: FloatArray
    graph: BondGraph
    distances: FloatArray


class Likeness:
    """Likeness of geometries of a molecule up to exchanges of like atoms and reflection."""

    def __init__(self, numbers: IntArray) -> None:
        self.first, self.second = np.triu_indices(len(numbers), 1)
        low, high = (f(numbers[self.first], numbers[self.second]) for f in (np.minimum, np.maximum))
        self.classes = 1000 * low + high
        self.known: dict[tuple[bytes, bytes], Exchanges] = {}

    def geometry(self, positions: FloatArray, graph: BondGraph) -> Geometry:
        """Positions (N, 3) with their bonds, ready to be compared."""
        distances = np.linalg.norm(positions[self.first] - positions[self.second], axis=1)
        return Geometry(positions, graph, distances[np.lexsort((distances, self.classes))])

    def exchanges(self, own: BondGraph, other: BondGraph) -> Exchanges:
        """The exchanges between two graphs of the molecule."""
        key = own.pairs.tobytes(), other.pairs.tobytes()
        if key not in self.known:
            self.known[key] = Exchanges(own, other)
        return self.known[key]

    def alike(self, own: Geometry, others: Sequence[Geometry], nearest: float) -> bool:
        """True where a copy of the geometry comes within `nearest` (bohr, root mean square) of another one, no atom
        being farther than FARTHEST times that from its place."""
        if not others:
            return False
        # Sorted distances differ no more than those of the pairs that belong together: these by sqrt(2/3) of the
        # displacements where their directions are random.
        apart = np.sqrt(((np.array([other.distances for other in others]) - own.distances) ** 2).mean(axis=1))
        for place in np.argsort(apart)[: int((apart < nearest).sum())]:
            other = others[int(place)]
            fits = self.exchanges(other.graph, own.graph).fits(other.positions, own.positions)
            if bool(((fits.rms < nearest) & (fits.largest < FARTHEST * nearest)).any()):
                return True
        return False

    def order(self, own: Geometry) -> int:
        """The order of the point group: how many exchanges of like atoms, with reflection or without, a rotation makes
        good. 1 without symmetry, 4 for trans-butane (C2h), 2 for a gauche one (C2)."""
        fits = self.exchanges(own.graph, own.graph).fits(own.positions, own.positions)
        return max(1, int((fits.rms < SYMMETRIC).sum()))
