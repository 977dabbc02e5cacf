"""Isotopologues: the places that motion takes their atoms to, whichever of them is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.conformers import torsion
from hpcir.molecules.internal_coordinates import model_hessian
from hpcir.molecules.isotopomers import Relabelling, arrangements, handedness
from hpcir.molecules.structures import Structure, read_structure
from hpcir.runtime.mpi import SerialCommunicator
from hpcir.study.production.sets import TrajectorySet, arranged, isotopomer_starts
from hpcir.study.session import default_deck, session
from hpcir.units import AMU, ANGSTROM, KELVIN
from hpcir.vibrations.normal_modes import isotope_masses, normal_modes

INPUTS = Path(__file__).parents[2] / "inputs"
DEUTERIUM = 2.0141


def built(smiles):
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import AllChem

    molecule = chem.AddHs(chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=5)
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    return Structure(numbers, molecule.GetConformer().GetPositions() * ANGSTROM)


def places(structure, *named):
    """The sets of places of deuterium at some atoms."""
    masses = structure.masses.copy()
    masses[list(named)] = DEUTERIUM * AMU
    found = arrangements(structure, masses)
    return {frozenset(np.flatnonzero(one.places(masses) != structure.masses).tolist()) for one in found}


def hydrogens(structure, heavy):
    return [k for k in bond_graph(structure).neighbours[heavy] if structure.numbers[k] == 1]


@pytest.mark.parametrize(
    ("smiles", "heavy", "count"),
    [
        ("CCO", 0, 3),  # a methyl group turns
        ("CCO", 1, 2),  # the two gauche forms of CH3-CHD-OH
        ("CCO", 2, 1),
        ("CCN", 2, 2),
        ("C1CCCCC1", 0, 12),  # axial and equatorial, at every carbon
        ("CC", 0, 6),
        ("C=CF", 0, 1),  # E or Z, for good
        ("NC=O", 0, 2),  # an amide turns
        ("c1ccccc1", 0, 6),
    ],
)
def test_deuterium_is_at_all_places_that_motion_takes_it_to(smiles, heavy, count):
    structure = built(smiles)
    found = {frozenset(places(structure, atom)) for atom in hydrogens(structure, heavy)}
    assert {len(one) for one in found} == {count}
    if smiles not in ("C=CF",):
        assert len(found) == 1  # whichever is named


def test_two_deuterium_atoms_keep_their_configuration():
    """CHD(OH)-CHD(OH): meso and dl are different molecules, and do not become each other."""
    structure = built("OCCO")
    first, second = hydrogens(structure, 1), hydrogens(structure, 2)
    one, two = places(structure, first[0], second[0]), places(structure, first[0], second[1])
    assert not one & two
    assert len(one) == len(two) == 2
    # CHD2-CH3: two of three on one carbon.
    ethane = built("CC")
    assert len(places(ethane, *hydrogens(ethane, 0)[:2])) == 6


def test_relabellings_keep_the_handedness_of_labels_and_all_distances():
    structure = built("CC(O)CF")
    graph, masses = bond_graph(structure), structure.masses.copy()
    masses[hydrogens(structure, 0)[0]] = DEUTERIUM * AMU
    sides = handedness(structure.positions, graph)
    for one in arrangements(structure, masses):
        copy = one.of(structure.positions)
        assert handedness(copy, graph) == sides
        own = np.linalg.norm(structure.positions[:, None] - structure.positions, axis=-1)
        new = np.linalg.norm(copy[:, None] - copy, axis=-1)
        np.testing.assert_allclose(new, own[np.ix_(one.order, one.order)])


def test_relabellings_compose():
    random = np.random.default_rng(0)
    positions = random.normal(size=(5, 3))
    one, two = Relabelling(random.permutation(5), True), Relabelling(random.permutation(5))
    np.testing.assert_allclose(two.after(one).of(positions), two.of(one.of(positions)))


def ethanol_modes():
    structure = read_structure(INPUTS / "ethanol.xyz")
    return structure, normal_modes(structure, model_hessian(structure))


@pytest.mark.parametrize("named", [0, 1, 2])
def test_trajectories_of_a_rotor_with_one_deuterium_start_a_third_trans(tmp_path, named):
    """CH2D-CH2OH: D is trans to oxygen in a third of the starts and gauche in two, whichever atom is named."""
    structure, modes = ethanol_modes()
    graph = bond_graph(structure)
    carbon = next(
        k for k in np.flatnonzero(structure.numbers == 6) if sum(structure.numbers[graph.neighbours[k]] == 1) == 3
    )
    other = next(k for k in graph.neighbours[carbon] if structure.numbers[k] == 6)
    oxygen = next(k for k in graph.neighbours[other] if structure.numbers[k] == 8)
    atom = hydrogens(structure, carbon)[named]
    masses = isotope_masses(structure, {f"H{atom + 1}": DEUTERIUM})
    deck = default_deck(INPUTS / "ethanol.xyz")
    main = TrajectorySet("main", None, structure.masses, (modes,), 60)
    with session(tmp_path / "run", SerialCommunicator(), deck, structure, "test-1") as context:
        starts = isotopomer_starts(context, main, masses)
    frames = starts.positions.transpose(2, 0, 1)
    angles = [abs(torsion(frame, (atom, carbon, other, oxygen))) for frame in frames]
    assert Counter(angle > 120 for angle in angles) == {True: 20, False: 40}
    kinetic = 0.5 * (masses[:, None, None] * starts.velocities**2).sum(axis=(0, 1)).mean()
    assert kinetic == pytest.approx((3 * len(structure) - 6) / 2 * 300 * KELVIN, rel=0.1)


def test_an_isotopologue_with_all_places_alike_starts_as_it_did(tmp_path):
    """CH3CH2OD: one arrangement, and no starts of its own."""
    structure, modes = ethanol_modes()
    atom = next(
        k for k in np.flatnonzero(structure.numbers == 1) if structure.numbers[bond_graph(structure).neighbours[k]] == 8
    )
    masses = isotope_masses(structure, {f"H{atom + 1}": DEUTERIUM})
    main = TrajectorySet("main", None, structure.masses, (modes,), 8)
    with session(
        tmp_path / "run", SerialCommunicator(), default_deck(INPUTS / "ethanol.xyz"), structure, "t"
    ) as context:
        assert isotopomer_starts(context, main, masses) is None


def test_a_molecule_whose_structure_names_an_isotope_is_arranged_too(tmp_path):
    """The main set of CH2D-CH2OH read from a file: velocities are thermal in the masses of their own atoms."""
    from dataclasses import replace

    structure, _ = ethanol_modes()
    carbon = next(
        k
        for k in np.flatnonzero(structure.numbers == 6)
        if sum(structure.numbers[bond_graph(structure).neighbours[k]] == 1) == 3
    )
    masses = structure.masses.copy()
    masses[hydrogens(structure, carbon)[0]] = DEUTERIUM * AMU
    heavy = normal_modes(structure, model_hessian(structure), masses=masses)
    deck = default_deck(INPUTS / "ethanol.xyz")
    with session(tmp_path / "run", SerialCommunicator(), deck, structure, "test-1") as context:
        plain = TrajectorySet("main", None, masses, (heavy,), 60)
        first = arranged(context, plain)
        again = arranged(context, replace(plain, starts=first.starts))
    for one in (first, again):
        energies = 0.5 * (masses[:, None] * (one.starts.velocities**2).sum(axis=1))
        assert energies.sum(axis=0).mean() == pytest.approx((3 * len(structure) - 6) / 2 * 300 * KELVIN, rel=0.1)
    assert again.starts.key != first.starts.key
