"""Fragments of a large molecule: the neighbourhood of an atom, cut at single bonds and capped with hydrogen.

A fragment keeps every atom within the descriptor cutoff of its centre, functional groups and rings whole, and is
itself a closed molecule with charge and spin from the bond graph. The environments of its core atoms, whose whole
sphere it holds, are those of the large molecule (Gastegger, Behler, Marquetand, Chem. Sci. 8, 6924, 2017; Gastegger,
Kauffmann, Behler, Marquetand, J. Chem. Phys. 144, 194110, 2016).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.errors import InputError
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.bonding import CARBON, HYDROGEN, NITROGEN, OXYGEN, BondGraph
from hpcir.molecules.structures import Structure, symbols
from hpcir.units import ANGSTROM

MAX_HEAVY_ATOMS = 12
# Lengths of a bond to hydrogen, angstrom; of other elements: the sum of the covalent radii.
CAP_LENGTHS = {5: 1.19, 6: 1.09, 7: 1.01, 8: 0.96, 14: 1.48, 15: 1.42, 16: 1.34, 34: 1.46}
# Least distance of a cap from an atom that is not its own (geminal hydrogens are 1.78 A apart).
MIN_CAP_DISTANCE = 1.5 * ANGSTROM
# The kinds of bond that may be cut, the best first: a fragment takes the first level that fits.
NEVER, ALKYL, CARBONYL, HETERO = 0, 1, 2, 3
LEVELS = (ALKYL, CARBONYL, HETERO)


@dataclass(frozen=True)
class Fragment:
    """A capped piece of a large molecule, itself a molecule.

    structure: the kept atoms in their order, then the capping hydrogens. atoms (n_kept,): the original atom of each
    kept one. caps: (kept, cut) original atoms of every cut bond, in the order of the capping hydrogens. core
    (len(structure),): True where everything within the radius of this atom is as in the whole molecule. centre: the
    original atom that it was grown around. key: `graph_key` of the fragment.
    """

    structure: Structure
    atoms: IntArray
    caps: tuple[tuple[int, int], ...]
    core: BoolArray
    centre: int
    key: str

    @property
    def core_atoms(self) -> IntArray:
        """Original indices of the atoms in the core."""
        return self.atoms[self.core[: len(self.atoms)]]


class _Pieces(NamedTuple):
    """A molecule divided at one level: unit (N,) of every atom, heavy atoms of each unit, the bonds between units."""

    unit: IntArray
    heavy: IntArray
    cuts: IntArray


class _Growth(NamedTuple):
    """The molecule and the settings in which a fragment grows."""

    structure: Structure
    pieces: _Pieces
    atom: int
    radius: float
    largest: int
    steps: IntArray  # (N,) bonds between the centre and every atom


def fragment(
    structure: Structure,
    atom: int,
    radius: float,
    largest: int = MAX_HEAVY_ATOMS,
    *,
    graph: BondGraph | None = None,
    fill: bool = True,
) -> Fragment:
    """The fragment around one atom (0-based) with at most `largest` heavy atoms.

    radius in bohr, the cutoff of the symmetry functions. graph: the bond graph, when the geometry is a hot frame
    of a molecule whose bonds are known. fill: continue along the bonds up to `largest` after the sphere is complete,
    which brings more core atoms a label. A molecule no larger than `largest` is returned whole. Where the sphere
    needs more than `largest` the fragment grows along the bonds as far as it may and `core` tells what is left.
    Bonds in rings, multiple, conjugated and hetero-hetero bonds and bonds to charged atoms are never cut; C-C bonds of
    two saturated carbons first, then other C-C, then C-N, C-O and C-S.

    Raises InputError when the bonds cannot be assigned, or one functional group or ring is larger than `largest`.
    """
    graph = bond_graph(structure) if graph is None else graph
    return _fragment(structure, graph, [divide(graph, level) for level in LEVELS], atom, radius, largest, fill)


def _fragment(
    structure: Structure,
    graph: BondGraph,
    levels: list[_Pieces],
    atom: int,
    radius: float,
    largest: int,
    fill: bool,
) -> Fragment:
    if int((structure.numbers != HYDROGEN).sum()) <= largest:
        everything = np.arange(len(structure))
        core = np.ones(len(structure), bool)
        return Fragment(structure, everything, (), core, atom, graph_key(structure, graph))
    steps = _bond_steps(graph, atom)
    growths = [_Growth(structure, pieces, atom, radius, largest, steps) for pieces in levels]
    return _capped(structure, graph, atom, radius, np.flatnonzero(_choose(growths, fill)))


def check_fragmentable(
    structure: Structure, radius: float, largest: int = MAX_HEAVY_ATOMS, graph: BondGraph | None = None
) -> None:
    """Raise InputError, naming the atom, when some atom's sphere of `radius` (bohr) fits in no allowed fragment."""
    graph = bond_graph(structure) if graph is None else graph
    if int((structure.numbers != HYDROGEN).sum()) <= largest:
        return
    levels = [divide(graph, level) for level in LEVELS]
    for atom in range(len(structure)):
        needs = []
        for pieces in levels:
            grown = _Growth(structure, pieces, atom, radius, len(structure), np.zeros(0, np.int64))
            needs.append(int(pieces.heavy[_sphere(grown)].sum()))
            if needs[-1] <= largest:
                break
        else:
            raise InputError(
                f"the surroundings of atom {atom + 1} ({structure.symbols[atom]}) do not fit in a fragment: "
                f"within {radius / ANGSTROM:.2f} A of it, rings and functional groups kept whole, are {min(needs)} "
                "heavy atoms",
                where=structure.source or "system.structure",
                value=f"at most {largest} heavy atoms a fragment",
                hint="allow larger fragments (sampling.largest_fragment) or take a shorter model.cutoff",
            )


# -- where to cut -------------------------------------------------------------------------------------------------


def cut_levels(graph: BondGraph) -> IntArray:
    """(B,) level of cuts of each bond: NEVER, ALKYL (sp3 C - sp3 C), CARBONYL (other C-C), HETERO (sp3 C-N/O/S)."""
    levels = np.full(len(graph.pairs), NEVER, np.int64)
    heavy = np.array([sum(graph.numbers[k] != HYDROGEN for k in row) for row in graph.neighbours])
    special = graph.carries_charge
    for bond, (i, j) in enumerate(graph.pairs.tolist()):
        if graph.orders[bond] != 1 or graph.in_ring[bond] or special[i] or special[j] or graph.conjugated(i, j):
            continue
        carbons = int((graph.numbers[[i, j]] == CARBON).sum())
        unsaturated = graph.unsaturated[i] or graph.unsaturated[j]
        if carbons == 2:
            levels[bond] = CARBONYL if unsaturated else ALKYL
        elif carbons == 1:
            carbon, other = (i, j) if graph.numbers[i] == CARBON else (j, i)
            hetero = sum(graph.numbers[k] not in (HYDROGEN, CARBON) for k in graph.neighbours[carbon])
            linking = graph.numbers[other] in (NITROGEN, OXYGEN, 16, 34) and heavy[other] > 1
            if linking and hetero == 1 and not graph.unsaturated[carbon]:
                levels[bond] = HETERO
    return levels


def divide(graph: BondGraph, level: int) -> _Pieces:
    """The units that stay whole when every bond up to `level` may be cut."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    levels = cut_levels(graph)
    cut = (levels != NEVER) & (levels <= level)
    rows, columns = graph.pairs[~cut].T
    links = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(graph), len(graph)))
    count, unit = connected_components(links, directed=False)
    heavy = np.bincount(unit[graph.numbers != HYDROGEN], minlength=count)
    cuts = graph.pairs[cut]
    return _Pieces(unit.astype(np.int64), heavy.astype(np.int64), cuts[unit[cuts[:, 0]] != unit[cuts[:, 1]]])


# -- growing --------------------------------------------------------------------------------------------------------


def _choose(growths: list[_Growth], fill: bool) -> BoolArray:
    """(N,) the atoms that the fragment keeps: at the first level of cuts whose sphere fits."""
    for growth in growths:
        units = _sphere(growth)
        if growth.pieces.heavy[units].sum() <= growth.largest:
            return (_filled(growth, units) if fill else units)[growth.pieces.unit]
    growth = growths[-1]
    atom, pieces = growth.atom, growth.pieces
    units = np.zeros(len(pieces.heavy), bool)
    units[pieces.unit[atom]] = True
    while (tight := _tight_cuts(growth.structure, pieces, units)).size:
        units[pieces.unit[tight]] = True
    if pieces.heavy[units].sum() > growth.largest:
        raise InputError(
            f"the ring or functional group of atom {atom + 1} ({growth.structure.symbols[atom]}) is larger than "
            "a fragment",
            where=growth.structure.source or "system.structure",
            value=f"{int(pieces.heavy[units].sum())} heavy atoms, at most {growth.largest} a fragment",
            hint="allow larger fragments (sampling.largest_fragment)",
        )
    return _filled(growth, units)[pieces.unit]


def _sphere(growth: _Growth) -> BoolArray:
    """(U,) the units that the centre needs: all within its radius, no cap within it, no cap against another atom."""
    structure, pieces = growth.structure, growth.pieces
    distance = np.linalg.norm(structure.positions - structure.positions[growth.atom], axis=-1)
    units = np.zeros(len(pieces.heavy), bool)
    units[pieces.unit[distance < growth.radius]] = True
    units[pieces.unit[growth.atom]] = True
    while True:
        kept, cut, caps = _caps(structure, pieces, units)
        near = np.linalg.norm(caps - structure.positions[growth.atom], axis=-1) < growth.radius
        wrong = near | _tight(structure, pieces, units, kept, caps)
        if not wrong.any():
            return units
        units[pieces.unit[cut[wrong]]] = True


def _filled(growth: _Growth, units: BoolArray) -> BoolArray:
    """Units added along the bonds, those fewest bonds from the centre first, while heavy atoms allow."""
    structure, pieces = growth.structure, growth.pieces
    refused = np.zeros_like(units)
    while True:
        _, cut, _ = _caps(structure, pieces, units)
        offered = [int(k) for k in cut if not refused[pieces.unit[k]]]
        if not offered:
            return units
        distance = np.linalg.norm(structure.positions[offered] - structure.positions[growth.atom], axis=-1)
        nearest = min(range(len(offered)), key=lambda k: (growth.steps[offered[k]], round(distance[k], 6), offered[k]))
        trial = units.copy()
        trial[pieces.unit[offered[nearest]]] = True
        while (tight := _tight_cuts(structure, pieces, trial)).size:
            trial[pieces.unit[tight]] = True
        if pieces.heavy[trial].sum() <= growth.largest:
            units = trial
        else:
            refused[pieces.unit[offered[nearest]]] = True


def _bond_steps(graph: BondGraph, atom: int) -> IntArray:
    """(N,) bonds on the shortest way from `atom` to every other; N where there is none."""
    steps = np.full(len(graph), len(graph), np.int64)
    steps[atom] = 0
    front = [atom]
    while front:
        ahead = []
        for i in front:
            for k in graph.neighbours[i]:
                if steps[k] == len(graph):
                    steps[k] = steps[i] + 1
                    ahead.append(k)
        front = ahead
    return steps


# -- capping --------------------------------------------------------------------------------------------------------


def _caps(structure: Structure, pieces: _Pieces, units: BoolArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Kept atoms (C,), cut atoms (C,) and positions (C, 3) of the capping hydrogens when `units` are kept."""
    inside = units[pieces.unit]
    ends = np.concatenate([pieces.cuts, pieces.cuts[:, ::-1]])
    ends = ends[inside[ends[:, 0]] & ~inside[ends[:, 1]]]
    kept, cut = ends[np.lexsort((ends[:, 1], ends[:, 0]))].T
    along = structure.positions[cut] - structure.positions[kept]
    lengths = np.array([cap_length(int(z)) for z in structure.numbers[kept]]).reshape(-1, 1)
    return (
        kept,
        cut,
        structure.positions[kept] + along * (lengths / np.linalg.norm(along, axis=-1, keepdims=True)),
    )


def cap_length(element: int) -> float:
    """Length in bohr of the bond between an atom of this element and the hydrogen that caps it."""
    from ase.data import covalent_radii

    length = CAP_LENGTHS.get(element)
    return float(length if length is not None else covalent_radii[element] + covalent_radii[1]) * ANGSTROM


def _tight(structure: Structure, pieces: _Pieces, units: BoolArray, kept: IntArray, caps: FloatArray) -> BoolArray:
    """(C,) caps that stand against another cap or against a kept atom that is not their own."""
    inside = np.flatnonzero(units[pieces.unit])
    atoms = np.linalg.norm(caps[:, None] - structure.positions[None, inside], axis=-1)
    atoms[inside[None] == kept[:, None]] = np.inf
    others = np.linalg.norm(caps[:, None] - caps[None], axis=-1)
    np.fill_diagonal(others, np.inf)
    return np.asarray((atoms < MIN_CAP_DISTANCE).any(1) | (others < MIN_CAP_DISTANCE).any(1))


def _tight_cuts(structure: Structure, pieces: _Pieces, units: BoolArray) -> IntArray:
    """The cut atoms of the caps that stand too tight."""
    kept, cut, caps = _caps(structure, pieces, units)
    return cut[_tight(structure, pieces, units, kept, caps)]


def _capped(structure: Structure, graph: BondGraph, centre: int, radius: float, atoms: IntArray) -> Fragment:
    """The fragment of these original atoms: caps, charge, multiplicity, core mask."""
    chosen = np.zeros(len(structure), np.int64)
    chosen[atoms] = 1
    whole = np.zeros(1, np.int64)
    between = graph.pairs[chosen[graph.pairs].sum(1) == 1]
    pieces = _Pieces(chosen, whole, between)
    kept, cut, caps = _caps(structure, pieces, np.array([False, True]))
    numbers = np.concatenate([structure.numbers[atoms], np.full(len(caps), HYDROGEN)])
    piece = Structure(
        numbers=numbers,
        positions=np.concatenate([structure.positions[atoms], caps]),
        charge=int(graph.formal_charges[atoms].sum()),
        multiplicity=int(graph.unpaired[atoms].sum()) + 1,
        name=f"{formula(numbers)} of {structure.name}",
        source=structure.source,
    )
    core = np.concatenate([_core(structure, atoms, caps, radius), np.zeros(len(caps), bool)])
    ends = tuple((int(i), int(j)) for i, j in zip(kept, cut, strict=True))
    return Fragment(piece, atoms, ends, core, centre, graph_key(piece, _capped_graph(graph, atoms, ends)))


def _core(structure: Structure, atoms: IntArray, caps: FloatArray, radius: float) -> BoolArray:
    """(n_kept,) True where nothing was cut, and no cap set, within the radius of the kept atom."""
    gone = np.setdiff1d(np.arange(len(structure)), atoms)
    strange = np.concatenate([structure.positions[gone], caps])
    distance = np.linalg.norm(structure.positions[atoms][:, None] - strange[None], axis=-1)
    return np.asarray((distance >= radius).all(1))


def _capped_graph(graph: BondGraph, atoms: IntArray, caps: Sequence[tuple[int, int]]) -> BondGraph:
    """The bond graph of a fragment: that of the kept atoms and a bond to every cap."""
    place = np.full(len(graph), -1)
    place[atoms] = np.arange(len(atoms))
    inside = (place[graph.pairs] >= 0).all(1)
    bonds_of_caps = [(int(place[kept]), len(atoms) + k) for k, (kept, _) in enumerate(caps)]
    pairs = np.concatenate([place[graph.pairs[inside]], np.array(bonds_of_caps, int).reshape(-1, 2)])
    extra = np.zeros(len(caps), np.int64)
    return BondGraph(
        numbers=np.concatenate([graph.numbers[atoms], extra + HYDROGEN]),
        pairs=pairs,
        orders=np.concatenate([graph.orders[inside], extra + 1]),
        formal_charges=np.concatenate([graph.formal_charges[atoms], extra]),
        unpaired=np.concatenate([graph.unpaired[atoms], extra]),
        in_ring=np.concatenate([graph.in_ring[inside], extra > 0]),
    )


# -- the same molecule, the same environments -----------------------------------------------------------------------


def formula(numbers: IntArray) -> str:
    """Hill formula: C, H, then the others by name."""
    count = Counter(symbols(numbers))
    first = [name for name in ("C", "H") if name in count] if "C" in count else []
    names = first + sorted(set(count) - set(first))
    return "".join(f"{name}{count[name] if count[name] > 1 else ''}" for name in names)


def graph_key(structure: Structure, graph: BondGraph | None = None) -> str:
    """A canonical key of the bond graph, the same for any order of the atoms, such as 'C2H6+0.1:0f3a...'.

    Colour refinement (Weisfeiler and Leman, 1968) on elements, started from every atom's histogram of bond
    distances to each element, which tells ring systems apart that refinement alone does not; with charge and
    multiplicity. Bond orders and formal charges, which depend on the resonance structure, do not enter.
    """
    graph = bond_graph(structure) if graph is None else graph
    colours = []
    for atom, element in enumerate(structure.numbers.tolist()):
        steps = _bond_steps(graph, atom).tolist()
        histogram = sorted(Counter(zip(steps, structure.numbers.tolist(), strict=True)).items())
        colours.append(_short_hash(f"{element} {histogram}"))
    while True:
        refined = [
            _short_hash(f"{colours[i]} {sorted(colours[k] for k in row)}") for i, row in enumerate(graph.neighbours)
        ]
        if len(set(refined)) <= len(set(colours)):
            break
        colours = refined
    digest = _short_hash(" ".join(sorted(colours)))
    return f"{formula(structure.numbers)}{structure.charge:+d}.{structure.multiplicity}:{digest}"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def distinct(fragments: Sequence[Fragment], features: Sequence[FloatArray], nearest: float) -> list[int]:
    """Indices of the fragments that are left when duplicates are merged; the first of each kind stays.

    features[k] (atoms of fragment k, F), descriptors on a common scale. Two fragments are duplicates when their
    graphs are the same and every core atom of the later one has, in the one that stays, a core atom of its element
    not farther than `nearest` in descriptor space (root mean square over the features).
    """
    kept: list[int] = []
    for index, piece in enumerate(fragments):
        if not any(
            _repeats(fragments, features, index, other, nearest) for other in kept if fragments[other].key == piece.key
        ):
            kept.append(index)
    return kept


def _repeats(
    fragments: Sequence[Fragment], features: Sequence[FloatArray], index: int, other: int, nearest: float
) -> bool:
    """True where the core environments of fragment `index` are all in fragment `other`."""
    new, old = fragments[index], fragments[other]
    for element in np.unique(new.structure.numbers[new.core]):
        own = features[index][new.core & (new.structure.numbers == element)]
        there = features[other][old.core & (old.structure.numbers == element)]
        if len(there) == 0:
            return False
        distance = np.sqrt(((own[:, None] - there[None]) ** 2).mean(-1)).min(1)
        if distance.max() > nearest:
            return False
    return True


def fragments_for(
    structure: Structure,
    atoms: Iterable[int],
    radius: float,
    largest: int = MAX_HEAVY_ATOMS,
    *,
    graph: BondGraph | None = None,
    weights: FloatArray | None = None,
    most: int | None = None,
    fill: bool = True,
) -> tuple[list[Fragment], list[int]]:
    """A few fragments that hold these atoms (those of large spread) in their cores, and the atoms that none holds.

    Greedy set cover: each time the fragment whose core has most of what is still open, by `weights` (N,) (such as
    the spread of every atom's force) when given, of one around each of these atoms. At most `most` fragments.
    """
    graph = bond_graph(structure) if graph is None else graph
    open_atoms = {int(atom) for atom in atoms}
    worth = np.ones(len(structure)) if weights is None else np.asarray(weights, float)
    levels = [divide(graph, level) for level in LEVELS]
    candidates = [_fragment(structure, graph, levels, atom, radius, largest, fill) for atom in sorted(open_atoms)]
    cores = [set(candidate.core_atoms.tolist()) for candidate in candidates]
    chosen: list[Fragment] = []
    while open_atoms and (most is None or len(chosen) < most):
        gains = [float(worth[sorted(core & open_atoms)].sum()) for core in cores]
        best = int(np.argmax(gains)) if gains else 0
        if not gains or gains[best] <= 0:
            break
        chosen.append(candidates[best])
        open_atoms -= cores[best]
    return chosen, sorted(open_atoms)
