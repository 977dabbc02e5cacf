"""Bond orders, formal charges and rings from a geometry, for cutting a large molecule into fragments.

Bonds come from covalent radii (`structures.bonds`). Orders and charges follow plain valence rules: every atom has
the free valences of its element and its neighbour count, neighbours share them as double and triple bonds so that
as few as possible are left (a matching, found by backtracking), and what is left is charge or unpaired electrons.
Where these rules do not give the molecule's charge, or would put it on carbon, RDKit is used when it is installed
(Kim, Kim, Bull. Korean Chem. Soc. 36, 1769, 2015).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from hpcir.arrays import IntArray
from hpcir.errors import InputError
from hpcir.molecules.bonding import BORON, CARBON, HYDROGEN, NITROGEN, OXYGEN, BondGraph, adjacency, ring_bonds
from hpcir.molecules.structures import Structure, bonds

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
    """The atoms with charge or a free valence by the plain rules, for a message."""
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
    """Backtracking over pairs that share valences in one group of atoms with free valences; `best` is the result."""

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
    """The remaining valences as charge or unpaired electrons that fit the molecule; None when nothing fits."""
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
