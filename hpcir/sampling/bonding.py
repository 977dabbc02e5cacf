"""Bond orders, formal charges and rings from a geometry, for cutting a large molecule into fragments.

Bonds come from covalent radii (`structures.bonds`). Orders and charges follow plain valence rules: every atom has
the free valences of its element and its neighbour count, neighbours share them as double and triple bonds so that
as few as possible are left (a matching, found by backtracking), and what is left is charge or unpaired electrons.
Where these rules do not give the molecule's charge, or would put it on carbon, RDKit is asked when it is installed
(Kim, Kim, Bull. Korean Chem. Soc. 36, 1769, 2015).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.errors import InputError
from hpcir.structures import Structure, bonds

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

HYDROGEN, BORON, CARBON, NITROGEN, OXYGEN = 1, 5, 6, 7, 8
# Elements between which a hydrogen may move as a proton.
PROTON_CARRIERS = (7, 8, 9, 16, 17)
# Neutral valences, the smallest first; an atom with more neighbours takes the next.
VALENCES: dict[int, tuple[int, ...]] = {
    1: (1,), 5: (3,), 6: (4,), 7: (3,), 8: (2,), 9: (1,), 14: (4,), 15: (3, 5), 16: (2, 4, 6), 17: (1, 3, 5, 7),
    32: (4,), 33: (3, 5), 34: (2, 4, 6), 35: (1, 3, 5, 7), 53: (1, 3, 5, 7),
}  # fmt: skip
# Charge of an element with one neighbour more than its valence: ammonium, oxonium, borate.
EXTRA_NEIGHBOUR: dict[int, int] = {5: -1, 7: 1, 8: 1}
IONS: dict[int, int] = {3: 1, 11: 1, 12: 2, 19: 1, 20: 2, 30: 2}
SEARCH_LIMIT = 20_000
LEFTOVER_LIMIT = 10


@dataclass(frozen=True)
class BondGraph:
    """The bonds of a molecule of N atoms and B bonds, of one of its resonance structures.

    numbers (N,); pairs (B, 2), i < j; orders (B,) 1 to 3; formal_charges (N,) in e; unpaired (N,) electrons;
    in_ring (B,) whether a bond is part of a ring.
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
        """(N,) whether an atom has a double or triple bond."""
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
        """Whether a single bond i-j joins two double bonds, or a double bond and a lone pair of N or O."""
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


def bond_graph(structure: Structure) -> BondGraph:
    """Bond orders, formal charges and rings of a molecule.

    Raises InputError, with the atom named, when an atom has more neighbours than its element allows or is of an
    element without rules, and when no bond orders give the molecule's charge and multiplicity.
    """
    pairs = np.array(bonds(structure), np.int64).reshape(-1, 2)
    graph = _plain_rules(structure, pairs)
    if graph is None or np.any(graph.formal_charges[structure.numbers == CARBON] != 0):
        graph = _rdkit_rules(structure, pairs) or graph
    if graph is None:
        raise InputError(
            f"no bond orders give this molecule its charge and multiplicity: {_valences_in_words(structure, pairs)}",
            where=structure.source or "system.structure",
            value=f"charge {structure.charge:+d}, multiplicity {structure.multiplicity}",
            hint="check system.charge, system.multiplicity and for missing hydrogens; rdkit, when installed, "
            "knows more kinds of bonding",
        )
    return replace(graph, in_ring=ring_bonds(len(structure), pairs))


def _valences_in_words(structure: Structure, pairs: IntArray) -> str:
    """Which atoms have charge or a free valence by the plain rules, for a message."""
    names = structure.symbols
    neighbours = adjacency(len(structure), pairs)
    free, charges = _free_valences(structure, neighbours)
    for i, j in _share(free, neighbours):
        free[i] -= 1
        free[j] -= 1
    said = [f"atom {k + 1} ({names[k]}) has charge {charges[k]:+d}" for k in np.flatnonzero(charges)[:3]]
    said += [f"atom {k + 1} ({names[k]}) has a free valence" for k in np.flatnonzero(free)[:3]]
    return ", ".join(said) or "every atom has all its bonds and no charge"


# -- plain valence rules ------------------------------------------------------------------------------------------


def _plain_rules(structure: Structure, pairs: IntArray) -> BondGraph | None:
    """The graph by valence rules, or None when they do not lead to the molecule's charge and multiplicity."""
    neighbours = adjacency(len(structure), pairs)
    free, charges = _free_valences(structure, neighbours)
    shared = _share(free, neighbours)
    for i, j in shared:
        free[i] -= 1
        free[j] -= 1
    shared += _share_with_cations(structure.numbers, neighbours, free, charges)
    settled = _settle(structure, neighbours, free, charges)
    if settled is None:
        return None
    orders = np.ones(len(pairs), np.int64)
    index = {(i, j): k for k, (i, j) in enumerate(pairs.tolist())}
    for i, j in shared:
        orders[index[min(i, j), max(i, j)]] += 1
    nothing = np.zeros(len(pairs), bool)
    return BondGraph(structure.numbers, pairs, orders, settled[0], settled[1], nothing)


def _free_valences(structure: Structure, neighbours: list[list[int]]) -> tuple[IntArray, IntArray]:
    """Valences (N,) that single bonds leave free, and charges (N,) that a neighbour too many brings."""
    free, charges = np.zeros(len(structure), np.int64), np.zeros(len(structure), np.int64)
    for atom, element in enumerate(structure.numbers.tolist()):
        degree = len(neighbours[atom])
        if degree == 0 and element in IONS:
            charges[atom] = IONS[element]
            continue
        valences = [valence for valence in VALENCES.get(element, ()) if valence >= degree]
        if valences:
            # sulfones, sulfonates, perchlorates: a higher valence where terminal oxygens can take it up
            ends = sum(structure.numbers[k] == OXYGEN and len(neighbours[k]) == 1 for k in neighbours[atom])
            fitting = [valence for valence in valences[1:] if valence - degree <= ends]
            free[atom] = max([valences[0], *fitting]) - degree
        elif element in EXTRA_NEIGHBOUR and degree == VALENCES[element][0] + 1:
            charges[atom] = EXTRA_NEIGHBOUR[element]
        else:
            _refuse(structure, atom, neighbours[atom])
    return free, charges


def _refuse(structure: Structure, atom: int, neighbours: list[int]) -> None:
    names = structure.symbols
    listed = ", ".join(f"{names[k]}{k + 1}" for k in neighbours)
    known = int(structure.numbers[atom]) in VALENCES
    raise InputError(
        f"the bonds of atom {atom + 1} ({names[atom]}) cannot be assigned: "
        + ("more neighbours than its valence allows" if known else "no valence rules for this element"),
        where=structure.source or "system.structure",
        value=f"{len(neighbours)} neighbours: {listed}",
        hint="check the geometry there (atoms too close?)"
        if known
        else "such a molecule can be labelled whole, but not cut into fragments",
    )


def _share(free: IntArray, neighbours: list[list[int]]) -> list[tuple[int, int]]:
    """Pairs that share a free valence each (twice for a triple bond), leaving as few free as can be found."""
    shared: list[tuple[int, int]] = []
    seen: set[int] = set()
    for start in np.flatnonzero(free).tolist():
        if start in seen:
            continue
        group, stack = [], [start]
        seen.add(start)
        while stack:
            atom = stack.pop()
            group.append(atom)
            for other in neighbours[atom]:
                if free[other] and other not in seen:
                    seen.add(other)
                    stack.append(other)
        if len(group) > 1:
            shared += _Matching(sorted(group), free, neighbours).best
    return shared


class _Matching:
    """Backtracking over who shares with whom in one group of atoms with free valences; `best` is the result."""

    def __init__(self, group: list[int], free: IntArray, neighbours: list[list[int]]) -> None:
        self.free = {atom: int(free[atom]) for atom in group}
        self.neighbours = {atom: [k for k in neighbours[atom] if k in self.free] for atom in group}
        self.best: list[tuple[int, int]] = []
        self.most = sum(self.free.values()) // 2
        self.visits = 0
        self._extend([])

    def _extend(self, chosen: list[tuple[int, int]]) -> bool:
        """Depth first, the atom with fewest partners first; True when nothing better is possible or worth seeking."""
        self.visits += 1
        if len(chosen) > len(self.best):
            self.best = list(chosen)
        if len(self.best) == self.most or self.visits > SEARCH_LIMIT:
            return True
        partners = {a: [k for k in self.neighbours[a] if self.free[k]] for a, free in self.free.items() if free}
        partners = {atom: options for atom, options in partners.items() if options}
        if not partners or len(chosen) + sum(self.free[atom] for atom in partners) // 2 <= len(self.best):
            return False
        atom = min(partners, key=lambda a: (len(partners[a]), a))
        for other in sorted(partners[atom], key=lambda k: (len(partners[k]), k)):
            self._change(atom, other, -1)
            if self._extend([*chosen, (atom, other)]):
                return True
            self._change(atom, other, 1)
        left, self.free[atom] = self.free[atom], 0  # or this atom shares no more
        done = self._extend(chosen)
        self.free[atom] = left
        return done

    def _change(self, i: int, j: int, by: int) -> None:
        self.free[i] += by
        self.free[j] += by


def _share_with_cations(
    numbers: IntArray, neighbours: list[list[int]], free: IntArray, charges: IntArray
) -> list[tuple[int, int]]:
    """Double bonds to N and O that become cations by them: C=N+ (iminium, guanidinium), C=O+, N+=O (nitro)."""
    shared = []
    for atom in sorted(np.flatnonzero(free).tolist(), key=lambda k: (numbers[k] != CARBON, k)):
        if numbers[atom] not in (CARBON, OXYGEN) or not free[atom]:
            continue
        for other in neighbours[atom]:
            full = (int(numbers[other]), len(neighbours[other])) in ((NITROGEN, 3), (OXYGEN, 2))
            oxygens = sum(numbers[k] == OXYGEN and free[k] > 0 for k in neighbours[other])
            if full and not free[other] and not charges[other] and (numbers[atom] == CARBON or oxygens > 1):
                shared.append((atom, other))
                free[atom] -= 1
                charges[other] = 1
                break
    return shared


def _settle(
    structure: Structure, neighbours: list[list[int]], free: IntArray, charges: IntArray
) -> tuple[IntArray, IntArray] | None:
    """What the valences left over are, charge or unpaired electrons, to fit the molecule; None when nothing fits."""
    left = np.flatnonzero(free).tolist()
    if len(left) > LEFTOVER_LIMIT:
        return None
    states: list[list[tuple[int, int]]] = []
    for atom in left:
        element, count = int(structure.numbers[atom]), int(free[atom])
        if element in (HYDROGEN, BORON, CARBON):
            states.append([(0, count), (count, 0), (-count, 0)])
        elif len(neighbours[atom]) > VALENCES[element][0]:
            states.append([(count, 0), (0, count)])
        else:
            states.append([(-count, 0), (0, count)])
    for choice in product(*states):
        unpaired = sum(state[1] for state in choice)
        total = int(charges.sum()) + sum(state[0] for state in choice)
        if total == structure.charge and unpaired == structure.multiplicity - 1:
            formal, electrons = charges.copy(), np.zeros_like(charges)
            for atom, (charge, radical) in zip(left, choice, strict=True):
                formal[atom] += charge
                electrons[atom] = radical
            return formal, electrons
    return None


# -- RDKit, where the plain rules end -----------------------------------------------------------------------------


def _bond_orders(molecule: Any, charge: int) -> None:
    """RDKit's bond orders, with a limit to the search where this version has one (2024.9 has none)."""
    from rdkit.Chem import rdDetermineBonds

    try:
        rdDetermineBonds.DetermineBondOrders(molecule, charge=charge, embedChiral=False, maxIterations=SEARCH_LIMIT)
    except TypeError:
        rdDetermineBonds.DetermineBondOrders(molecule, charge=charge, embedChiral=False)


def _rdkit_rules(structure: Structure, pairs: IntArray) -> BondGraph | None:
    """The graph by RDKit's bond orders for these bonds; None without RDKit or when it finds none."""
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        return None
    if structure.multiplicity != 1:
        return None
    molecule = Chem.RWMol()
    for element in structure.numbers.tolist():
        atom = Chem.Atom(element)
        atom.SetNoImplicit(True)
        molecule.AddAtom(atom)
    for i, j in pairs.tolist():
        molecule.AddBond(i, j, Chem.BondType.SINGLE)
    with rdBase.BlockLogs():
        try:
            _bond_orders(molecule, structure.charge)
            Chem.Kekulize(molecule, clearAromaticFlags=True)
        except (ValueError, RuntimeError):
            return None
    orders = [round(molecule.GetBondBetweenAtoms(i, j).GetBondTypeAsDouble()) for i, j in pairs.tolist()]
    charges = np.array([atom.GetFormalCharge() for atom in molecule.GetAtoms()], np.int64)
    unpaired = np.array([atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()], np.int64)
    if charges.sum() != structure.charge or unpaired.any():
        return None
    nothing = np.zeros(len(pairs), bool)
    return BondGraph(structure.numbers, pairs, np.array(orders, np.int64), charges, unpaired, nothing)


# -- rings ----------------------------------------------------------------------------------------------------------


def ring_bonds(count: int, pairs: IntArray) -> BoolArray:
    """(B,) whether a bond is in a ring: whether it is no bridge (Tarjan, Inf. Process. Lett. 2, 160, 1974)."""
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
