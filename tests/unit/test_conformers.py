"""Conformers: torsions turned exactly, known counts of staggered conformers, chirality kept, families, weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcir.errors import InputError, RunStopped
from hpcir.molecules import conformers as module
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.bonding import reprotonated
from hpcir.molecules.conformers import (
    Conformer,
    boltzmann_weights,
    candidates,
    conformers,
    embedded,
    families,
    hydrogen_bonds,
    in_turns,
    kind,
    planar_torsions,
    proton_moved,
    radius_of_gyration,
    rotors,
    torsion,
    torsion_scan,
    turned,
    unlike,
)
from hpcir.molecules.structures import read_structure
from hpcir.molecules.symmetry import Likeness
from hpcir.units import ANGSTROM, KCAL_PER_MOL, KELVIN

INPUTS = Path(__file__).parents[2] / "inputs"


def load(name, charge=0):
    structure = read_structure(INPUTS / f"{name}.xyz", charge=charge)
    return structure, bond_graph(structure)


def torsion_energy(structure, graph):
    """A toy energy: 0.6 kcal/mol for each gauche torsion, as in alkanes."""
    gauche = sum(abs(torsion(structure.positions, item)) < 120 for item in rotors(graph))
    return structure, 0.6 * KCAL_PER_MOL * gauche


@pytest.mark.parametrize(
    ("name", "count"), [("ethanol", 1), ("alkanes/C4H10", 1), ("alkanes/C8H18", 5), ("alkanes/C2H6", 0)]
)
def test_rotors_leave_out_like_hydrogens(name, count):
    assert len(rotors(load(name)[1])) == count


def test_tripeptide_rotors_and_planar_groups():
    structure, graph = load("tripeptide", 1)
    assert len(rotors(graph)) == 5  # psi, phi, psi, phi, psi; ammonium and methyl hydrogens are alike
    assert [name for name, _ in planar_torsions(graph)] == ["amide", "amide", "acid"]
    assert kind(structure, graph).startswith("trans-trans amide, ")


def test_turning_sets_the_torsion_and_keeps_every_bond_length_and_angle():
    structure, graph = load("tripeptide", 1)
    one_three = [(i, k) for row in graph.neighbours for i in row for k in row if i < k]
    pairs = np.array([*map(tuple, graph.pairs), *one_three])
    before = np.linalg.norm(structure.positions[pairs[:, 0]] - structure.positions[pairs[:, 1]], axis=1)
    for item in rotors(graph):
        for angle in (-170.0, -60.0, 0.0, 75.0):
            positions = turned(structure.positions, graph, item, angle)
            assert torsion(positions, item) == pytest.approx(angle, abs=1e-8)
            after = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
            np.testing.assert_allclose(after, before, rtol=1e-12)


def test_turning_about_a_ring_bond_is_refused():
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import AllChem

    from hpcir.molecules.structures import Structure

    molecule = chem.AddHs(chem.MolFromSmiles("C1CCCCC1"))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    structure = Structure(numbers, molecule.GetConformer().GetPositions() * ANGSTROM)
    with pytest.raises(ValueError, match="ring"):
        turned(structure.positions, bond_graph(structure), (0, 1, 2, 3), 60.0)


def test_torsion_scan_finds_all_staggered_conformers_of_butane_and_pentane():
    """Nine settings of pentane, four conformers: g+t has three copies beside it, g+g+ and g+g- one."""
    butane, graph = load("alkanes/C4H10")
    angles = sorted(round(torsion(s.positions, rotors(graph)[0])) % 360 for s in torsion_scan(butane, 20, 1, graph))
    assert angles == [60, 180, 300]
    pentane, graph = load("alkanes/C5H12")
    found = torsion_scan(pentane, 20, 1, graph)
    assert len(found) == 9
    likeness = Likeness(pentane.numbers)
    kept = [found[k] for k in unlike(found, 0.3 * ANGSTROM, graph)]
    orders = [likeness.order(likeness.geometry(item.positions, graph)) for item in kept]
    assert sorted(orders) == [1, 2, 2, 4]
    assert sum(4 / order for order in orders) == 9


def test_torsion_scan_of_a_long_chain_is_random_reproducible_and_keeps_the_bonds():
    structure, graph = load("alkanes/C20H42")
    one, two = torsion_scan(structure, 6, 3, graph), torsion_scan(structure, 6, 3, graph)
    assert len(one) == 6
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(one, two, strict=True))
    assert not np.allclose(one[0].positions, torsion_scan(structure, 6, 4, graph)[0].positions)
    for frame in one:
        np.testing.assert_array_equal(bond_graph(frame).pairs, graph.pairs)


def test_boltzmann_weights_of_butane_count_both_gauche_basins():
    structure, graph = load("alkanes/C4H10")
    found = conformers(structure, 8, 1, lambda s: torsion_energy(s, graph), graph=graph)
    groups = families(found, 300 * KELVIN, graph)
    factor = 2 * np.exp(-0.6 * KCAL_PER_MOL / (300 * KELVIN))
    assert [group.name for group in groups] == ["all trans", "1 gauche"]
    assert groups[1].weight == pytest.approx(factor / (1 + factor), rel=1e-9)
    assert [item.symmetry for group in groups for item in group.members] == [4, 2]


def test_boltzmann_weights_do_not_overflow_and_sum_to_one():
    weights = boltzmann_weights(np.array([-1e4, -1e4 + 1e-3, 0.0]), 300 * KELVIN)
    assert weights.sum() == pytest.approx(1)
    assert weights[2] == 0
    assert weights[0] / weights[1] == pytest.approx(np.exp(1e-3 / (300 * KELVIN)), rel=1e-6)


def test_window_leaves_out_what_is_too_high():
    structure, graph = load("alkanes/C4H10")
    found = conformers(structure, 8, 1, lambda s: torsion_energy(s, graph), 0.3 * KCAL_PER_MOL, graph=graph)
    assert len(found) == 1
    assert kind(found[0].structure, graph) == "all trans"


def test_a_minimum_that_lost_a_bond_is_dropped():
    structure, graph = load("ethanol")
    broken = structure.positions.copy()
    broken[-1] += 5.0

    def relax(start):
        return (structure.moved(broken), -1.0) if start is not structure else (structure, 0.0)

    found = conformers(structure, 5, 1, relax, graph=graph)
    assert [item.energy for item in found] == [0.0]
    with pytest.raises(InputError, match="bond"):
        conformers(structure, 3, 1, lambda start: (structure.moved(broken), 0.0), graph=graph)


def test_a_relaxation_that_fails_is_left_out_unless_all_do():
    structure, graph = load("alkanes/C4H10")

    def relax(start):
        if abs(torsion(start.positions, rotors(graph)[0])) > 120:
            raise RunStopped("did not converge")
        return start, 0.0

    found = conformers(structure, 8, 1, relax, graph=graph)
    assert {kind(item.structure, graph) for item in found} == {"1 gauche"}
    with pytest.raises(RunStopped, match="converge"):
        conformers(structure, 1, 1, relax, graph=graph)


def test_without_rdkit_the_torsion_scan_takes_over(monkeypatch):
    structure, graph = load("ethanol")
    monkeypatch.setattr(module, "embedded", lambda *arguments: [])
    kinds = {kind(item, graph) for item in candidates(structure, 5, 1, graph)}
    assert kinds == {"all trans", "1 gauche"}


def test_in_turns_takes_the_first_of_every_kind_before_the_next():
    structure, graph = load("ethanol")
    anti, gauche = (next(s for s in candidates(structure, 5, 1, graph) if kind(s, graph) == name)
                    for name in ("all trans", "1 gauche"))  # fmt: skip
    frames = [anti, anti, anti, gauche, anti, gauche]
    assert in_turns(frames, graph) == [0, 3, 1, 5, 2, 4]
    assert in_turns(frames, graph, 2) == [0, 1, 3, 5, 2, 4]
    assert in_turns([], graph) == []


def handedness(structure, graph):
    """Signed volume's sign at every CH carbon with three different heavy neighbours (the alanine alpha carbons)."""
    signs = []
    for atom, row in enumerate(graph.neighbours):
        heavy = [k for k in row if graph.numbers[k] > 1]
        if graph.numbers[atom] == 6 and len(row) == 4 and len(heavy) == 3:
            a, b, c = (structure.positions[k] - structure.positions[atom] for k in heavy)
            signs.append(int(np.sign(np.cross(a, b) @ c)))
    return signs


def test_embedding_keeps_handedness_charge_and_bonds_of_the_tripeptide():
    pytest.importorskip("rdkit")
    structure, graph = load("tripeptide", 1)
    found = embedded(structure, 12, 5, graph)
    assert len(found) == 12
    assert len(handedness(structure, graph)) == 3
    sizes = [radius_of_gyration(item) for item in found]
    assert max(sizes) / min(sizes) > 1.05
    for item in found:
        assert handedness(item, graph) == handedness(structure, graph)
        assert item.charge == 1
        np.testing.assert_array_equal(bond_graph(item).pairs, graph.pairs)
    again = embedded(structure, 12, 5, graph)
    np.testing.assert_allclose(again[3].positions, found[3].positions, atol=1e-9)


def test_turning_an_amide_over_makes_it_cis():
    structure, graph = load("tripeptide", 1)
    _, item = planar_torsions(graph)[1]
    positions = turned(structure.positions, graph, item, 180.0)
    assert kind(structure.moved(positions), graph).startswith("trans-cis amide, ")


def test_formic_acid_syn_and_anti():
    structure, graph = load("formic-acid")
    (name, item), *rest = planar_torsions(graph)
    assert name == "acid"
    assert not rest
    kinds = {kind(structure.moved(turned(structure.positions, graph, item, a)), graph) for a in (0.0, 180.0)}
    assert kinds == {"syn acid", "anti acid"}


def test_hydrogen_bond_needs_length_and_angle():
    structure, graph = load("tripeptide", 1)
    found = hydrogen_bonds(structure, graph)
    assert found  # the ammonium group holds a carbonyl oxygen in this minimum
    for donor, hydrogen, acceptor in found:
        distance = np.linalg.norm(structure.positions[hydrogen] - structure.positions[acceptor])
        assert distance < 2.4 * ANGSTROM
        assert hydrogen in graph.neighbours[donor]
        assert structure.numbers[acceptor] in (7, 8)
    assert not hydrogen_bonds(structure.moved(structure.positions * 1.6), graph)


def test_families_of_equal_kind_differ_by_shape():
    structure, graph = load("alkanes/C8H18")
    straight = structure.positions
    bent = straight
    for item in rotors(graph)[1:4]:
        bent = turned(bent, graph, item, 60.0)
    found = [Conformer(structure, 0.0), Conformer(structure.moved(bent), 0.001)]
    names = [family.name for family in families(found, 300 * KELVIN, graph)]
    assert names == ["all trans, extended", "3 gauche, folded"]


def moved_tripeptide():
    structure, graph = load("tripeptide", 1)
    for item in [structure, *candidates(structure, 20, 1, graph)]:
        for other in proton_moved(item, graph):
            return item, other, graph
    raise AssertionError("no conformer with a hydrogen bond of the ammonium group")


def test_a_moved_proton_changes_the_bonds_of_the_two_atoms_alone():
    before, after, graph = moved_tripeptide()
    assert reprotonated(graph, before).pairs.tolist() == graph.pairs.tolist()
    now = reprotonated(graph, after)
    gone = {tuple(pair) for pair in graph.pairs.tolist()} - {tuple(pair) for pair in now.pairs.tolist()}
    assert len(gone) == 1
    (carrier, hydrogen) = gone.pop()
    assert graph.numbers[carrier] == 7
    (oxygen,) = now.neighbours[hydrogen]
    assert graph.numbers[oxygen] == 8
    assert now.formal_charges.sum() == graph.formal_charges.sum() == 1
    assert now.formal_charges[carrier] == 0
    assert now.formal_charges[oxygen] == 1
    assert f"proton on O{oxygen + 1}" in kind(after, graph)
    assert "proton" not in kind(before, graph)


def test_tautomers_are_unlike_however_near_their_atoms():
    before, after, graph = moved_tripeptide()
    assert unlike([before, after], 100.0, graph) == [0, 1]


def test_a_broken_carbon_bond_is_no_moved_proton():
    structure, graph = load("tripeptide", 1)
    hydrogen = next(k for k in np.flatnonzero(graph.numbers == 1) if graph.numbers[graph.neighbours[k][0]] == 6)
    positions = structure.positions.copy()
    positions[hydrogen] += 20.0
    assert reprotonated(graph, structure.moved(positions)) is None
