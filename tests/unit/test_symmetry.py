"""Likeness of geometries: exchanges of like atoms that a rotation, or a rotation and reflection, makes good."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.conformers import rotors, torsion, turned, unlike
from hpcir.molecules.structures import Structure, read_structure
from hpcir.molecules.symmetry import Exchanges, Likeness, atom_kinds, skeleton_mappings, terminal_sets
from hpcir.units import ANGSTROM

INPUTS = Path(__file__).parents[2] / "inputs"
NEAREST = 0.3 * ANGSTROM


def load(name):
    structure = read_structure(INPUTS / f"{name}.xyz")
    return structure, bond_graph(structure)


def order_of(structure):
    graph, likeness = bond_graph(structure), Likeness(structure.numbers)
    return likeness.order(likeness.geometry(structure.positions, graph))


def shuffled(structure, seed):
    """The molecule turned, reflected, and with like atoms exchanged by an automorphism of its bonds at random."""
    random, graph = np.random.default_rng(seed), bond_graph(structure)
    orders = skeleton_mappings(graph, graph)
    order = orders[random.integers(len(orders))].copy()
    for _, atoms in terminal_sets(graph):
        order[list(atoms)] = random.permutation(order[list(atoms)])
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]  # a rotation or a rotation and reflection
    return structure.moved(structure.positions[order] @ turn.T + random.normal(size=3))


def built(smiles):
    """A molecule from SMILES, at a minimum of MMFF94."""
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import AllChem

    molecule = chem.AddHs(chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=3)
    AllChem.MMFFOptimizeMolecule(molecule, maxIters=2000)
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    return Structure(numbers, molecule.GetConformer().GetPositions() * ANGSTROM)


def turns(structure, item):
    """The structure with a torsion turned by thirds."""
    graph, now = bond_graph(structure), torsion(structure.positions, item)
    return [structure.moved(turned(structure.positions, graph, item, now + by)) for by in (0.0, 120.0, 240.0)]


@pytest.mark.parametrize(
    ("name", "order"), [("alkanes/C2H6", 12), ("alkanes/C3H8", 4), ("alkanes/C4H10", 4), ("methanol", 2)]
)
def test_order_of_the_point_group(name, order):
    assert order_of(load(name)[0]) == order


def test_order_of_gauche_butane_and_of_methylamine():
    structure, graph = load("alkanes/C4H10")
    assert order_of(structure.moved(turned(structure.positions, graph, rotors(graph)[0], 65.0))) == 2
    assert order_of(built("CN")) == 2


@pytest.mark.parametrize(("name", "count"), [("alkanes/C4H10", 2), ("ethanol", 1), ("alkanes/C2H6", 2)])
def test_mappings_of_the_skeleton(name, count):
    _, graph = load(name)
    found = skeleton_mappings(graph, graph)
    assert len(found) == count
    linked = np.zeros((len(graph), len(graph)), bool)
    linked[tuple(graph.pairs.T)] = True
    linked |= linked.T
    for order in found:
        assert sorted(order) == list(range(len(graph)))
        np.testing.assert_array_equal(linked[np.ix_(order, order)], linked)
        np.testing.assert_array_equal(graph.numbers[order], graph.numbers)


@pytest.mark.parametrize("name", ["alkanes/C2H6", "alkanes/C5H12", "ethanol"])
def test_turned_reflected_and_exchanged_copies_are_alike(name):
    structure, graph = load(name)
    if rotors(graph):  # of no symmetry
        structure = structure.moved(turned(structure.positions, graph, rotors(graph)[0], 62.0))
    found = [structure, *(shuffled(structure, seed) for seed in range(6))]
    assert unlike(found, 1e-3, graph) == [0]


def test_a_methyl_group_turned_by_a_third_is_alike_and_an_amino_group_is_not():
    """Ethylamine: lone pair trans, or gauche on one side or the other, which are mirror images."""
    structure = built("CCN")
    graph = bond_graph(structure)
    (amino,) = rotors(graph)
    methyl = (min(k for k in graph.neighbours[0] if graph.numbers[k] == 1), 0, 1, 2)
    assert unlike(turns(structure, methyl), NEAREST, graph) == [0]
    frames = turns(structure, amino)
    orders = [order_of(frame) for frame in frames]
    kept = unlike(frames, NEAREST, graph)
    assert sorted(orders) == [1, 1, 2]
    assert sorted(orders[k] for k in kept) == [1, 2]


def test_ring_puckers_are_unlike_and_substituents_are_axial_or_equatorial():
    chair, other = built("C1CCCCC1"), built("CC1CCCCC1")
    assert order_of(chair) == 12  # D3d
    graph = bond_graph(chair)
    flat = chair.positions * np.array([1.0, 1.0, 0.6])
    assert len(unlike([chair, chair.moved(flat)], NEAREST, graph)) == 2
    assert order_of(other) == 2


def test_e_and_z_are_unlike_and_mirror_images_of_a_chiral_molecule_are_alike():
    one, two = built("F/C=C/F"), built("F/C=C\\F")
    np.testing.assert_array_equal(one.numbers, two.numbers)
    assert unlike([one, two], NEAREST, bond_graph(one)) == [0, 1]
    chiral = built("C[C@H](O)F")
    image = chiral.moved(chiral.positions * [1, 1, -1])
    assert order_of(chiral) == 1
    assert unlike([chiral, image], NEAREST, bond_graph(chiral)) == [0]


def test_geometries_with_a_moved_atom_are_unlike_however_many_atoms_there_are():
    """A hydroxyl group of a long molecule turned: the root mean square hardly sees it."""
    structure = built("OCCCCCCCCCCCC")
    graph = bond_graph(structure)
    item = next(item for item in rotors(graph) if 0 in item[1:3])
    frames = turns(structure, item)
    assert len(unlike(frames, NEAREST, graph)) >= 2


def test_kinds_do_not_depend_on_the_order_of_the_atoms():
    structure = built("CC(O)CN")
    order = np.random.default_rng(1).permutation(len(structure))
    moved = Structure(structure.numbers[order], structure.positions[order])
    kinds = np.array(atom_kinds(bond_graph(structure)))
    np.testing.assert_array_equal(kinds[order], atom_kinds(bond_graph(moved)))


def test_the_fit_is_the_best_of_all_exchanges():
    """Against every exchange of the atoms of ethane, one by one."""
    structure, graph = load("alkanes/C2H6")
    random = np.random.default_rng(4)
    other = shuffled(structure, 5).positions + 0.1 * random.normal(size=structure.positions.shape)
    found = Exchanges(graph, graph).fits(structure.positions, other).rms.min()
    assert found == pytest.approx(best_by_hand(structure.positions, other, graph), rel=1e-9)
    # With the skeleton off a line the sets are matched one by one.
    structure, graph = load("alkanes/C3H8")
    other = shuffled(structure, 5).positions + 0.1 * random.normal(size=structure.positions.shape)
    found = Exchanges(graph, graph).fits(structure.positions, other).rms.min()
    assert found == pytest.approx(best_by_hand(structure.positions, other, graph), rel=1e-9)


def best_by_hand(own, other, graph):
    from hpcir.molecules.structures import superimpose

    best, weights = np.inf, np.ones(len(own))
    for order in skeleton_mappings(graph, graph):
        sets = [atoms for _, atoms in terminal_sets(graph)]
        for choice in product(*(permutations(range(len(atoms))) for atoms in sets)):
            mixed = order.copy()
            for atoms, turn in zip(sets, choice, strict=True):
                mixed[list(atoms)] = order[list(atoms)][list(turn)]
            for sign in (1.0, -1.0):
                laid, _, _ = superimpose(other[mixed] * [1, 1, sign], own, weights)
                best = min(best, float(np.sqrt(((laid - own) ** 2).sum(1).mean())))
    return best
