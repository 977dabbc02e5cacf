"""Conformers of chains by chance and by Monte Carlo: torsions at their staggered angles, and moves that keep the
Boltzmann distribution.

Rotational isomeric states: Flory, "Statistical Mechanics of Chain Molecules", 1969. Pivot moves about a bond: Lal,
Mol. Phys. 17, 57, 1969.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.molecules.bonding import HYDROGEN, NITROGEN, OXYGEN, BondGraph
from hpcir.molecules.conformers import beyond_bond, planar_torsions, rotors, torsion, turned_about
from hpcir.molecules.structures import Structure
from hpcir.units import ANGSTROM

# Weight of each gauche state against trans: 0.5 kcal/mol at 300 K.
GAUCHE_WEIGHT = 0.43
# Spread about a staggered angle, degrees, and most draws of one when atoms clash.
ANGLE_SPREAD = 8.0
MAX_DRAWS = 12
# One move in so many turns a torsion a little.
LITTLE = 4
# Turns between the states of a torsion with so many of them, degrees.
STEPS = {2: (180.0,), 3: (-120.0, 120.0), 6: (-120.0, -60.0, 60.0, 120.0, 180.0)}
# One amide or acid in so many is turned over.
FLIP_INTERVAL = 8
# Atoms more than three bonds apart clash below this fraction of the sum of their van der Waals radii; less where
# hydrogen meets oxygen or nitrogen.
CLASH, HYDROGEN_BOND_CLASH = 0.80, 0.65


@dataclass(frozen=True)
class Pivot:
    """A torsion (a, i, j, b) about the bond i-j, and the atoms beyond j that turn with it."""

    atoms: tuple[int, int, int, int]
    beyond: IntArray
    states: tuple[float, ...]
    weights: tuple[float, ...]

    def turned(self, positions: FloatArray, by: float) -> FloatArray:
        """Positions (N, 3) with what is beyond the bond turned by so many degrees."""
        return turned_about(positions, self.atoms[1], self.atoms[2], self.beyond, by)


def pivots(graph: BondGraph, flips: bool = True) -> list[Pivot]:
    """The rotatable torsions of a molecule with their states; with `flips` amides, acids and esters too."""
    found = []
    for item in rotors(graph):
        flat = graph.unsaturated[item[1]] or graph.unsaturated[item[2]]
        states = (180.0, 120.0, 60.0, 0.0, -60.0, -120.0) if flat else (180.0, 60.0, -60.0)
        weights = (1.0,) * 6 if flat else (1.0, GAUCHE_WEIGHT, GAUCHE_WEIGHT)
        found.append(Pivot(item, _beyond(graph, item), states, weights))
    if flips:
        for _, item in planar_torsions(graph):
            found.append(Pivot(item, _beyond(graph, item), (0.0, 180.0), (FLIP_INTERVAL - 1.0, 1.0)))
    return found


def _beyond(graph: BondGraph, item: tuple[int, int, int, int]) -> IntArray:
    _, i, j, _ = item
    return np.array(sorted(beyond_bond(graph, i, j) - {j}), np.int64)


class Clashes:
    """Test for clashes of atoms more than three bonds apart."""

    def __init__(self, graph: BondGraph) -> None:
        from ase.data.vdw_alvarez import vdw_radii
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import shortest_path

        # Older versions of scipy read indices of four bytes alone.
        ends = tuple(graph.pairs.T.astype(np.int32))
        links = coo_array((np.ones(len(graph.pairs)), ends), shape=(len(graph), len(graph))).tocsr()
        steps = shortest_path(links, directed=False, unweighted=True)
        radii = np.asarray(vdw_radii)[graph.numbers] * ANGSTROM
        polar = np.isin(graph.numbers, (NITROGEN, OXYGEN))
        hydrogen = graph.numbers == HYDROGEN
        meets = (polar[:, None] & hydrogen) | (hydrogen[:, None] & polar)
        limit = np.where(meets, HYDROGEN_BOND_CLASH, CLASH) * (radii[:, None] + radii)
        self.limit: FloatArray = np.where(steps > 3, limit, 0.0)

    def between(self, positions: FloatArray, moved: IntArray) -> bool:
        """True where one of the `moved` atoms clashes with another atom, at positions (N, 3)."""
        rest = np.setdiff1d(np.arange(len(positions)), moved)
        distance = np.linalg.norm(positions[moved][:, None] - positions[rest][None], axis=-1)
        return bool((distance < self.limit[np.ix_(moved, rest)]).any())


def random_rotamer(
    structure: Structure, graph: BondGraph, random: np.random.Generator, flips: bool = True
) -> Structure:
    """A conformer with every torsion drawn from its states by their weights; one that clashes is drawn again, and left
    as it was after MAX_DRAWS."""
    clashes, positions = Clashes(graph), structure.positions
    for pivot in pivots(graph, flips):
        weights = np.array(pivot.weights) / sum(pivot.weights)
        now = torsion(positions, pivot.atoms)
        for _ in range(MAX_DRAWS):
            angle = pivot.states[int(random.choice(len(weights), p=weights))] + ANGLE_SPREAD * random.standard_normal()
            trial = pivot.turned(positions, angle - now)
            if not clashes.between(trial, pivot.beyond):
                positions = trial
                break
    return structure.moved(positions)


# -- Monte Carlo ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moves:
    """Results of Monte Carlo: positions (R, N, 3), moves tried by all replicas and accepted (R,) by each."""

    positions: FloatArray
    tried: int
    accepted: IntArray

    @property
    def taken(self) -> int:
        """Moves accepted by all replicas."""
        return int(self.accepted.sum())


def torsion_moves(
    energies_of: Callable[[FloatArray], FloatArray],
    is_allowed: Callable[[FloatArray], BoolArray],
    moving: list[Pivot],
    positions: FloatArray,
    temperature: float | FloatArray,
    count: int,
    random: np.random.Generator,
) -> Moves:
    """`count` Metropolis moves of every replica: one torsion turned from one state towards another, or a little.

    energies_of: positions (R, N, 3) -> (R,) hartree. Proposals are symmetric (a turn and its reverse are drawn alike),
    so the Boltzmann distribution at `temperature` (hartree; one for all or (R,)) is kept. A move to a geometry that
    `is_allowed` (R, N, 3) -> (R,) excludes is rejected.
    """
    positions = np.array(positions, float)
    taken = np.zeros(len(positions), np.int64)
    if not moving or count == 0:
        return Moves(positions, 0, taken)
    energies = energies_of(positions)
    for _ in range(count):
        which = random.integers(len(moving), size=len(positions))
        trial = positions.copy()
        for number, pivot in enumerate(moving):
            own = np.flatnonzero(which == number)
            if len(own):
                trial[own] = _turned(positions[own], pivot, _turns(pivot, len(own), random))
        allowed = is_allowed(trial)
        trial[~allowed] = positions[~allowed]
        changed = energies_of(trial)
        chance = np.exp(np.minimum(0.0, (energies - changed) / temperature))
        accepted = allowed & (random.random(len(positions)) < chance)
        positions[accepted], energies[accepted] = trial[accepted], changed[accepted]
        taken += accepted
    return Moves(positions, count * len(positions), taken)


def _turns(pivot: Pivot, count: int, random: np.random.Generator) -> FloatArray:
    """Turns of replicas (R,), degrees: from one state of the torsion to another, every turn as likely as its reverse,
    or, one time in LITTLE, a little."""
    far = random.choice(STEPS[len(pivot.states)], size=count) + 12.0 * random.standard_normal(count)
    return np.where(random.random(count) < 1 / LITTLE, 20.0 * random.standard_normal(count), far)


def _turned(positions: FloatArray, pivot: Pivot, degrees: FloatArray) -> FloatArray:
    """Positions (R, N, 3) with what is beyond the bond turned by so many degrees (R,) (Rodrigues)."""
    _, i, j, _ = pivot.atoms
    axis = positions[:, j] - positions[:, i]
    axis = (axis / np.linalg.norm(axis, axis=1)[:, None])[:, None]
    cosine, sine = (function(np.radians(degrees))[:, None, None] for function in (np.cos, np.sin))
    away = positions[:, pivot.beyond] - positions[:, j][:, None]
    along = (away * axis).sum(axis=2, keepdims=True) * axis
    moved = positions.copy()
    moved[:, pivot.beyond] = along + cosine * (away - along) + sine * np.cross(axis, away) + positions[:, j][:, None]
    return moved
