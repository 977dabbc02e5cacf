"""Fragments: bonding from geometry against RDKit's, charges and hydrogens balanced, nothing cut that must stay."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hpcir.errors import InputError
from hpcir.molecules import bond_orders
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.fragments import (
    MIN_CAP_DISTANCE,
    cap_length,
    check_fragmentable,
    distinct,
    formula,
    fragment,
    fragments_for,
    graph_key,
)
from hpcir.molecules.structures import Structure, bonds, check_structure, read_structure
from hpcir.units import ANGSTROM, KCAL_PER_MOL_ANGSTROM

INPUTS = Path(__file__).parents[2] / "inputs"
RADIUS = 3.0 * ANGSTROM

SMILES = {
    "isooctane": "CC(C)(C)CC(C)C",
    "cyclohexyl chain": "C1CCCCC1CCCCCCCC",
    "branched ether": "CC(C)COCCCCOC(C)(C)CCC",
    "hexamide": "CCCCCC(=O)NCCCCCC",
    "ester": "CCCCCCOC(=O)CCCCC",
    "aromatic": "c1ccccc1CCCCCc1ccc(O)cc1",
    "biphenyl": "c1ccccc1-c1ccc(CCCCC)cc1",
    "naphthalene": "c1ccc2cc(CCCCC)ccc2c1",
    "thiophene": "c1sccc1CCCCC",
    "pyridine": "n1ccccc1CCCCC",
    "diene": "CCCCCC=CC=CCCCC",
    "alkyne": "CCCCCC#CCCCCC",
    "allene": "CCCCC=C=CCCCC",
    "nitrile": "N#CCCCCCCC",
    "nitro": "[O-][N+](=O)CCCCCCC",
    "sulfone": "CCCCCCS(=O)(=O)CCCC",
    "sulfoxide": "CCCCCCS(=O)CCCC",
    "sulfonate": "CCCCCCCS(=O)(=O)[O-]",
    "phosphate": "CCCCCCOP(=O)(OC)OC",
    "trifluoride": "FC(F)(F)CCCCCCl",
    "ketone": "CCCCC(=O)CCCC",
    "ammonium": "[NH3+]CCCCCCCC",
    "tetraalkylammonium": "CCCC[N+](CC)(CC)CCCCC",
    "carboxylate": "CCCCCCCC(=O)[O-]",
    "zwitterion": "[NH3+]CCCCCCCC(=O)[O-]",
    "guanidinium": "NC(=[NH2+])NCCCCCC",
    "imidazolium": "CCCCCCn1cc[n+](C)c1",
    "protonated pyridine": "[nH+]1ccccc1CCCCC",
    "azide": "[N-]=[N+]=NCCCCCC",
    "thioether": "CCCCSCCCSCC",
    "steroid-like": "C1CCC2C(C1)CCC1C2CCC1CCCCCC",
    "tripeptide": "[NH3+]C(C)C(=O)NC(C)C(=O)NC(C)C(=O)O",
}


@cache
def built(name):
    """RDKit's molecule and the structure embedded from it."""
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import AllChem

    molecule = chem.AddHs(chem.MolFromSmiles(SMILES[name]))
    assert AllChem.EmbedMolecule(molecule, randomSeed=11) == 0
    if AllChem.MMFFHasAllMoleculeParams(molecule):
        AllChem.MMFFOptimizeMolecule(molecule, maxIters=1000)
    chem.Kekulize(molecule, clearAromaticFlags=False)
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    positions = molecule.GetConformer().GetPositions() * ANGSTROM
    return molecule, Structure(numbers, positions, charge=chem.GetFormalCharge(molecule), name=name)


@cache
def pieces_of(name, largest=7):
    """The graph and the fragments around every heavy atom; where a group is larger than `largest`, of larger ones."""
    _, structure = built(name)
    graph = bond_graph(structure)
    found = []
    for atom in np.flatnonzero(structure.numbers != 1).tolist():
        for limit in (largest, 10, 14, 100):
            try:
                found.append(fragment(structure, atom, RADIUS, limit, graph=graph))
            except InputError:
                continue
            break
    return graph, found


@pytest.mark.parametrize("name", SMILES)
def test_bond_orders_and_charges_are_those_of_the_molecule(name):
    molecule, structure = built(name)
    graph = bond_graph(structure)
    truth = {tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))): b for b in molecule.GetBonds()}
    assert set(map(tuple, graph.pairs.tolist())) == set(truth)
    assert [truth[tuple(pair)].IsInRing() for pair in graph.pairs.tolist()] == graph.in_ring.tolist()
    assert graph.formal_charges.sum() == structure.charge
    assert not graph.unpaired.any()
    # resonance structures may differ in where, not in how many (of an azide's two, one has a triple bond)
    orders = sorted(int(b.GetBondTypeAsDouble()) for b in truth.values())
    assert graph.orders.sum() == sum(orders)
    assert name == "azide" or sorted(graph.orders) == orders
    charges = [atom.GetFormalCharge() for atom in molecule.GetAtoms()]
    own = [(int(z), int(q)) for z, q in zip(structure.numbers, graph.formal_charges, strict=True)]
    assert sorted(own) == sorted(zip(structure.numbers.tolist(), charges, strict=True))


PLAIN_ENOUGH = [name for name in SMILES if name not in ("azide", "protonated pyridine", "imidazolium")]


@pytest.mark.parametrize("name", PLAIN_ENOUGH)
def test_plain_rules_do_without_rdkit(name, monkeypatch):
    molecule, structure = built(name)
    monkeypatch.setattr(bond_orders, "_rdkit_rules", lambda *arguments: None)
    graph = bond_graph(structure)
    charges = [atom.GetFormalCharge() for atom in molecule.GetAtoms()]
    assert sorted(graph.formal_charges) == sorted(charges)


@pytest.mark.parametrize("name", SMILES)
def test_fragments_are_closed_molecules_with_balanced_hydrogens_and_charges(name):
    _, structure = built(name)
    graph, found = pieces_of(name)
    for piece in found:
        check_structure(piece.structure)
        assert piece.structure.charge == graph.formal_charges[piece.atoms].sum()
        assert piece.structure.multiplicity == 1
        # every kept atom has as many neighbours as before, by the distances in the fragment alone
        own = np.bincount(np.array(bonds(piece.structure)).ravel(), minlength=len(piece.structure))
        before = [len(graph.neighbours[atom]) for atom in piece.atoms]
        assert own[: len(piece.atoms)].tolist() == before
        assert own[len(piece.atoms) :].tolist() == [1] * len(piece.caps)
        # and bonds, orders and charges found anew from the fragment's geometry are those that it was given
        anew = bond_graph(piece.structure)
        assert anew.formal_charges.sum() == piece.structure.charge
        assert not anew.unpaired.any()
        assert graph_key(piece.structure, anew) == piece.key
        np.testing.assert_array_equal(piece.structure.positions[: len(piece.atoms)], structure.positions[piece.atoms])


@pytest.mark.parametrize("name", SMILES)
def test_only_single_acyclic_bonds_are_cut(name):
    molecule, _ = built(name)
    graph, found = pieces_of(name)
    for piece in found:
        for kept, cut in piece.caps:
            bond = molecule.GetBondBetweenAtoms(kept, cut)
            assert bond.GetBondTypeAsDouble() == 1
            assert not bond.IsInRing()
            assert not bond.GetIsAromatic()
            assert (
                molecule.GetAtomWithIdx(kept).GetFormalCharge() == molecule.GetAtomWithIdx(cut).GetFormalCharge() == 0
            )
            elements = {graph.numbers[kept], graph.numbers[cut]}
            assert 6 in elements
            assert 1 not in elements
            assert not graph.conjugated(kept, cut)


def test_something_is_really_cut_in_most_molecules():
    cut = [name for name in SMILES if any(piece.caps for piece in pieces_of(name)[1])]
    assert len(cut) > 0.8 * len(SMILES)


@pytest.mark.parametrize("name", SMILES)
def test_caps_stand_along_the_cut_bond_at_the_right_length_and_touch_nothing(name):
    _, structure = built(name)
    for piece in pieces_of(name)[1]:
        first = len(piece.atoms)
        for k, (kept, cut) in enumerate(piece.caps):
            along = piece.structure.positions[first + k] - structure.positions[kept]
            bond = structure.positions[cut] - structure.positions[kept]
            assert np.linalg.norm(along) == pytest.approx(cap_length(int(structure.numbers[kept])))
            assert along @ bond == pytest.approx(np.linalg.norm(along) * np.linalg.norm(bond))
            others = np.delete(piece.structure.positions, [first + k, int(np.searchsorted(piece.atoms, kept))], axis=0)
            distance = np.linalg.norm(others - piece.structure.positions[first + k], axis=1).min()
            assert distance > MIN_CAP_DISTANCE


@pytest.mark.parametrize("name", ["hexamide", "zwitterion", "isooctane", "cyclohexyl chain", "tripeptide"])
def test_core_is_what_its_definition_says(name):
    _, structure = built(name)
    for piece in pieces_of(name)[1]:
        for index, atom in enumerate(piece.atoms):
            whole = np.linalg.norm(structure.positions - structure.positions[atom], axis=1) < RADIUS
            inside = np.linalg.norm(piece.structure.positions - structure.positions[atom], axis=1) < RADIUS
            same = set(np.flatnonzero(whole)) <= set(piece.atoms) and inside.sum() == whole.sum()
            assert bool(piece.core[index]) == same
        assert not piece.core[len(piece.atoms) :].any()


def test_descriptors_of_core_atoms_are_those_of_the_whole_molecule():
    derivatives = pytest.importorskip("hpcir.descriptors.derivatives")
    from hpcir.descriptors.definition import automatic_set

    functions = automatic_set((1, 6, 7, 8), RADIUS, 6, 3, (1, 2))
    _, structure = built("hexamide")
    whole = derivatives.features_only(functions, structure.numbers, structure.positions[None])[0]
    for piece in pieces_of("hexamide")[1]:
        own = derivatives.features_only(functions, piece.structure.numbers, piece.structure.positions[None])[0]
        same = np.abs(own[: len(piece.atoms)] - whole[piece.atoms]).max(1) < 1e-10
        core = piece.core[: len(piece.atoms)]
        assert core.any()
        assert same[core].all()
        assert not same[~core].any()


def test_amine_and_carboxylate_take_their_charge_into_the_fragment():
    from hpcir.molecules.conformers import rotors, turned

    _, structure = built("zwitterion")
    graph = bond_graph(structure)
    for item in rotors(graph):  # stretched out: in vacuum the ends attract each other
        structure = structure.moved(turned(structure.positions, graph, item, 180.0))
    heavy = np.flatnonzero(structure.numbers != 1)
    nitrogen, carboxyl = int(heavy[0]), int(heavy[-1])
    for atom, charge in ((nitrogen, 1), (carboxyl, -1)):
        piece = fragment(structure, atom, RADIUS, 6)
        assert piece.structure.charge == charge
        assert atom in piece.core_atoms
    assert structure.charge == 0


def test_radical_keeps_its_unpaired_electron():
    chain = read_structure(INPUTS / "alkanes" / "C12H26.xyz")
    last = len(chain) - 1  # a terminal hydrogen
    radical = Structure(chain.numbers[:last], chain.positions[:last], multiplicity=2)
    graph = bond_graph(radical)
    site = int(np.flatnonzero(graph.unpaired)[0])
    assert fragment(radical, site, RADIUS, 6, graph=graph).structure.multiplicity == 2
    far = 0 if site > 6 else 11
    assert fragment(radical, far, RADIUS, 6, graph=graph).structure.multiplicity == 1


def test_small_molecules_come_back_whole_and_so_do_fragments():
    structure = read_structure(INPUTS / "ethanol.xyz")
    piece = fragment(structure, 0, 5 * ANGSTROM)
    assert piece.structure is structure
    assert piece.core.all()
    assert piece.caps == ()
    chain = read_structure(INPUTS / "alkanes" / "C20H42.xyz")
    once = fragment(chain, 9, 5 * ANGSTROM, 12)
    twice = fragment(once.structure, 4, 5 * ANGSTROM, 12)
    assert twice.structure is once.structure
    assert twice.key == once.key


def test_filling_brings_more_core_atoms_and_never_passes_the_largest():
    chain = read_structure(INPUTS / "alkanes" / "C20H42.xyz")
    sphere = fragment(chain, 9, 5 * ANGSTROM, 12, fill=False)
    filled = fragment(chain, 9, 5 * ANGSTROM, 12)
    assert set(sphere.atoms) < set(filled.atoms)
    assert sphere.core.sum() < filled.core.sum()
    assert (filled.structure.numbers != 1).sum() == 12


def test_too_large_a_sphere_grows_along_the_bonds_and_has_no_core_at_the_centre():
    chain = read_structure(INPUTS / "alkanes" / "C20H42.xyz")
    piece = fragment(chain, 9, 7 * ANGSTROM, 6)
    assert (piece.structure.numbers != 1).sum() == 6
    assert 9 not in piece.core_atoms
    with pytest.raises(InputError, match=r"atom \d+ \([CH]\).*heavy atoms"):
        check_fragmentable(chain, 7 * ANGSTROM, 6)
    check_fragmentable(chain, 5 * ANGSTROM, 12)


def test_a_ring_larger_than_a_fragment_is_refused_with_the_atom_named():
    _, structure = built("steroid-like")
    with pytest.raises(InputError, match=r"ring or functional group of atom 1 \(C\)"):
        fragment(structure, 0, RADIUS, 8)
    with pytest.raises(InputError, match="atom 1 "):
        check_fragmentable(structure, RADIUS, 8)


def test_bonds_that_cannot_be_assigned_name_the_atom():
    methane = read_structure(INPUTS / "alkanes" / "C2H6.xyz")
    extra = np.vstack([methane.positions, methane.positions[0] + np.array([0.0, -1.2, 0.3]) * ANGSTROM])
    crowded = Structure(np.append(methane.numbers, 1), extra, charge=1)
    with pytest.raises(InputError, match=r"bonds of atom 1 \(C\) cannot be assigned"):
        bond_graph(crowded)


def test_a_charge_that_the_bonds_do_not_give_is_refused():
    _, structure = built("ammonium")
    wrong = Structure(structure.numbers, structure.positions, charge=-1)
    with pytest.raises(InputError, match="charge and multiplicity"):
        bond_graph(wrong)


def test_an_element_without_rules_is_refused():
    metal = Structure(np.array([26, 6, 8]), np.array([[0, 0, 0], [3.4, 0, 0], [5.6, 0, 0]], float))
    with pytest.raises(InputError, match=r"atom 1 \(Fe\).*no valence rules"):
        bond_graph(metal)


def test_graph_key_does_not_depend_on_order_and_position():
    random = np.random.Generator(np.random.Philox(key=np.array([3, 3], np.uint64)))
    for name in ("hexamide", "zwitterion", "steroid-like"):
        _, structure = built(name)
        order = random.permutation(len(structure))
        rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
        shuffled = Structure(structure.numbers[order], structure.positions[order] @ rotation, charge=structure.charge)
        assert graph_key(shuffled) == graph_key(structure)


def test_graph_key_tells_isomers_apart_even_where_colour_refinement_alone_does_not():
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import AllChem

    keys = set()
    # decalin and bicyclopentyl have the same refined colours
    isomers = ["C1CCC2CCCCC2C1", "C1CCCC1C1CCCC1", "C=CCCCCCCC=C", "CCCCCCCC#CC"]
    for smiles in isomers:
        molecule = chem.AddHs(chem.MolFromSmiles(smiles))
        AllChem.EmbedMolecule(molecule, randomSeed=1)
        numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
        keys.add(graph_key(Structure(numbers, molecule.GetConformer().GetPositions() * ANGSTROM)))
        assert formula(numbers) == "C10H18"
    assert len(keys) == len(isomers)


def test_interior_fragments_of_an_alkane_have_one_graph_and_merge_when_alike():
    chain = read_structure(INPUTS / "alkanes" / "C20H42.xyz")
    pieces = [fragment(chain, atom, 5 * ANGSTROM, 12) for atom in (8, 9, 10)]
    assert len({piece.key for piece in pieces}) == 1
    # plain radial fingerprints: the all-trans interior is periodic, so all environments of a kind are equal
    features = [fingerprints(piece.structure) for piece in pieces]
    assert distinct(pieces, features, nearest=1e-3) == [0]
    moved = pieces[1].structure.positions.copy()
    moved[6] += 0.3
    features[1] = fingerprints(pieces[1].structure.moved(moved))
    assert distinct(pieces, features, nearest=1e-3) == [0, 1]


def fingerprints(structure):
    distance = np.linalg.norm(structure.positions[:, None] - structure.positions[None], axis=-1)
    inside = (distance > 0) & (distance < 5 * ANGSTROM)
    return np.array(
        [
            [np.exp(-((row[keep] - s) ** 2)).sum() for s in range(2, 9)]
            for row, keep in zip(distance, inside, strict=True)
        ]
    )


def test_few_fragments_cover_all_atoms_of_a_chain():
    chain = read_structure(INPUTS / "alkanes" / "C20H42.xyz")
    pieces, left = fragments_for(chain, range(0, 20), 5 * ANGSTROM, 12)
    covered = set().union(*(piece.core_atoms.tolist() for piece in pieces))
    assert left == []
    assert set(range(20)) <= covered
    assert len(pieces) <= 5
    one, rest = fragments_for(chain, range(0, 20), 5 * ANGSTROM, 12, most=1)
    assert len(one) == 1
    assert rest == sorted(set(range(20)) - set(one[0].core_atoms.tolist()))


def test_weights_decide_which_fragment_comes_first():
    chain = read_structure(INPUTS / "alkanes" / "C20H42.xyz")
    weights = np.zeros(len(chain))
    weights[17] = 1.0
    (piece,), _ = fragments_for(chain, [3, 9, 17], 5 * ANGSTROM, 12, weights=weights, most=1)
    assert 17 in piece.core_atoms


def test_forces_in_the_core_are_those_of_the_whole_molecule():
    """GFN2-xTB on a bent, shaken hexadecane: core atoms hardly notice the cut, the others do."""
    pytest.importorskip("tblite")
    from hpcir.deck.sections import LabelSettings
    from hpcir.labels import create_engine
    from hpcir.molecules.conformers import rotors, turned

    engine = create_engine(LabelSettings(engine="tblite"))
    chain = read_structure(INPUTS / "alkanes" / "C16H34.xyz")
    graph = bond_graph(chain)
    random = np.random.Generator(np.random.Philox(key=np.array([5, 5], np.uint64)))
    bent = turned(chain.positions, graph, rotors(graph)[6], 65.0)
    chain = chain.moved(bent + random.normal(scale=0.06, size=bent.shape))
    whole = engine.label(chain).forces
    inner, outer = [], []
    for atom in (5, 9):
        piece = fragment(chain, atom, 5 * ANGSTROM, 12, graph=graph)
        errors = engine.label(piece.structure).forces[: len(piece.atoms)] - whole[piece.atoms]
        core = piece.core[: len(piece.atoms)]
        cut_ends = np.isin(piece.atoms, [kept for kept, _ in piece.caps])
        inner.append(errors[core])
        outer.append(errors[~core & ~cut_ends])
    core_error, rest_error = (np.sqrt(np.mean(np.concatenate(part) ** 2)) for part in (inner, outer))
    assert core_error < 0.1 * KCAL_PER_MOL_ANGSTROM
    assert core_error < 0.2 * rest_error
