"""Names of rotamers and of ring shapes: torsions trans or gauche, acids and esters syn or anti, amides cis or trans,
rings chair, twist-boat or by their signs."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.conformers import planar_torsions, rotor_angle, rotors, torsion
from hpcir.molecules.symmetry import atom_kinds

# Rotamers are named by all their torsions up to so many; beyond, by how many of these are gauche.
MAX_NAMED = 3
WORDS = {0: "t", 1: "g+", -1: "g-"}
# Planar groups by their torsion O=C-X-R: near 0, and near 180 degrees.
PLANAR_WORDS = {"amide": ("trans", "cis"), "acid": ("syn", "anti"), "ester": ("syn", "anti")}
# Least torsion of a ring that has a sign, degrees; sizes of rings whose shapes are told apart.
MIN_PUCKER = 20.0
RING_SIZES, CHAIR_SIZE = (6, 10), 6


def rotamer_states(angles: FloatArray) -> IntArray:
    """0 trans, 1 gauche plus, -1 gauche minus, of torsion angles in degrees, of any shape."""
    return np.where(np.abs(angles) > 120, 0, np.where(angles < 0, -1, 1))


def mirror_states(states: tuple[int, ...]) -> tuple[int, ...]:
    """The states of the mirror image."""
    return tuple(-state for state in states)


def stereogenic(graph: BondGraph) -> bool:
    """True where an atom has four neighbours of four kinds."""
    kinds = atom_kinds(graph)
    return any(len(near) == 4 and len({kinds[j] for j in near}) == 4 for near in graph.neighbours)


def puckered_rings(graph: BondGraph) -> list[list[int]]:
    """Rings of RING_SIZES atoms without double bonds and without a bond across, each once, its atoms in order. Those of
    five turn through their shapes too fast to be counted apart."""
    near: list[list[int]] = [[] for _ in range(len(graph))]
    for (i, j), ring in zip(graph.pairs.tolist(), graph.in_ring, strict=True):
        if ring and not (graph.unsaturated[i] or graph.unsaturated[j]):
            near[i].append(j)
            near[j].append(i)
    found: dict[frozenset[int], list[int]] = {}

    def walk(path: list[int]) -> None:
        for atom in near[path[-1]]:
            if atom == path[0] and len(path) >= RING_SIZES[0]:
                found.setdefault(frozenset(path), list(path))
            # A neighbour of an atom in between would be a bond across.
            elif len(path) < RING_SIZES[1] and atom > path[0] and not set(near[atom]) & set(path[1:-1]):
                walk([*path, atom])

    for first in range(len(graph)):
        walk([first])
    return list(found.values())


def ring_word(positions: FloatArray, ring: list[int]) -> str:
    """The shape of a ring. A six-membered chair's torsions alternate in sign, a twist-boat's do not (poles and equator
    of Cremer, Pople, J. Am. Chem. Soc. 97, 1354, 1975); larger rings are named by their signs, whatever atom is first
    and mirror images alike."""
    count = len(ring)
    turned = [ring[k:] + ring[:k] for k in range(count)]
    around = [torsion(positions, (atoms[0], atoms[1], atoms[2], atoms[3])) for atoms in turned]
    signs = [0 if abs(angle) < MIN_PUCKER else int(np.sign(angle)) for angle in around]
    if count == CHAIR_SIZE:
        alternating = all(one * two < 0 for one, two in pairwise([*signs, signs[0]]))
        return "chair" if alternating else "twist-boat"
    copies = [[side * sign for sign in order] for side in (1, -1) for order in (signs, signs[::-1])]
    best = max(copy[k:] + copy[:k] for copy in copies for k in range(count))
    return "".join("0+-"[sign] for sign in best)


class RotamerNames:
    """Names of the geometries of a molecule by their rotatable torsions, planar groups and the shapes of its rings; a
    mirror image has the same one where no atom is stereogenic."""

    def __init__(self, graph: BondGraph) -> None:
        self.graph, self.torsions, self.rings = graph, rotors(graph), puckered_rings(graph)
        self.planar = planar_torsions(graph)
        self.mirrored = not stereogenic(graph)

    @property
    def several(self) -> bool:
        """True where the molecule has something to be named by."""
        return bool(self.torsions or self.planar or self.rings)

    def name(self, positions: FloatArray) -> str:
        """The name of a geometry (N, 3)."""
        words = [self._torsions(positions)] if self.torsions else []
        return " ".join([*words, *self._planar(positions), *self._rings(positions)]) or "one"

    def _planar(self, positions: FloatArray) -> list[str]:
        """The word of the one planar group; of several how many are cis or anti."""
        found = []
        for group, item in self.planar:
            usual, other = PLANAR_WORDS[group]
            over = abs(torsion(positions, item)) > 90
            if len(self.planar) == 1:
                return [other if over else usual]
            found += [other] if over else []
        return [f"{count} {word}" for word, count in sorted(Counter(found).items())]

    def _torsions(self, positions: FloatArray) -> str:
        angles = np.array([rotor_angle(positions, self.graph, item) for item in self.torsions])
        states = tuple(rotamer_states(angles).tolist())
        if len(states) > MAX_NAMED:
            return f"{sum(state != 0 for state in states)} gauche"
        return " ".join(WORDS[state] for state in (max(states, mirror_states(states)) if self.mirrored else states))

    def _rings(self, positions: FloatArray) -> list[str]:
        words = Counter(ring_word(positions, ring) for ring in self.rings)
        if len(self.rings) == 1:
            return list(words)
        return [f"{count} {word}" for word, count in sorted(words.items())]
