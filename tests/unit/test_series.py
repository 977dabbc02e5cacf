"""Several molecules in one deck: pieces and masks, torsion moves, and what a deck may not ask for."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hpcir.commands.check import check_engine
from hpcir.deck.checks import check_deck
from hpcir.deck.loader import load_deck
from hpcir.deck.resolved import resolved_text
from hpcir.errors import InputError
from hpcir.labels import Label
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.conformers import torsion
from hpcir.molecules.fragments import fragment
from hpcir.molecules.rotamers import GAUCHE_WEIGHT, pivots, random_rotamer, torsion_moves
from hpcir.molecules.structures import bonds, read_structure
from hpcir.sampling.target_exploration import TargetFindings, piece_of, pieces_of, whole
from hpcir.study.learning.committee import LearntLabel, groups_of
from hpcir.units import ANGSTROM, KELVIN
from hpcir.vibrations.normal_modes import thermal_geometries

ROOT = Path(__file__).parents[2]
ALKANES = ROOT / "inputs" / "alkanes"


@pytest.fixture
def random():
    return np.random.Generator(np.random.Philox(7))


def alkane(carbons):
    return read_structure(ALKANES / f"C{carbons}H{2 * carbons + 2}.xyz")


def same_bonds(structure, graph):
    return np.array_equal(np.array(bonds(structure)).reshape(-1, 2), graph.pairs)


def test_rotamers_keep_the_bonds_and_differ(random):
    chain = alkane(20)
    graph = bond_graph(chain)
    found = [random_rotamer(chain, graph, random) for _ in range(8)]
    assert all(same_bonds(item, graph) for item in found)
    gauche = np.mean([[abs(torsion(item.positions, p.atoms)) < 120 for p in pivots(graph)] for item in found])
    assert 0.2 < gauche < 2 * GAUCHE_WEIGHT / (1 + 2 * GAUCHE_WEIGHT) + 0.15


def test_a_pivot_turns_its_torsion_by_what_it_is_told_and_moves_nothing_else():
    chain = alkane(8)
    for pivot in pivots(bond_graph(chain)):
        turned = pivot.turned(chain.positions, 37.0)
        before, after = torsion(chain.positions, pivot.atoms), torsion(turned, pivot.atoms)
        assert (after - before) % 360 == pytest.approx(37.0)
        rest = np.setdiff1d(np.arange(len(chain)), pivot.beyond)
        np.testing.assert_array_equal(turned[rest], chain.positions[rest])


def test_thermal_geometries_have_the_temperature_of_stretches(random):
    ethane = alkane(2)
    frames = thermal_geometries(ethane, 300 * KELVIN, 200, random)
    length = np.linalg.norm(frames[:, 0] - frames[:, 1], axis=-1) / ANGSTROM
    assert 0.02 < length.std() < 0.08
    assert all(same_bonds(ethane.moved(frame), bond_graph(ethane)) for frame in frames)


def test_torsion_moves_keep_the_boltzmann_distribution(random):
    """Butane with a torsional energy alone: the share of gauche is that of the integral."""
    butane = alkane(4)
    moving = pivots(bond_graph(butane))
    height, temperature = 2.0, 1.0

    def energy(angles):
        return height * (1 + np.cos(np.radians(angles)))  # lowest at trans

    def energies_of(frames):
        return np.array([energy(torsion(frame, moving[0].atoms)) for frame in frames])

    frames = np.repeat(butane.positions[None], 40, 0)
    everything = lambda frames: np.ones(len(frames), bool)  # noqa: E731
    angles = []
    for _ in range(60):
        moves = torsion_moves(energies_of, everything, moving, frames, temperature, 5, random)
        frames = moves.positions
        angles += [torsion(frame, moving[0].atoms) for frame in frames]
        assert 0 < moves.taken < moves.tried
    grid = np.linspace(-180, 180, 3601)
    weights = np.exp(-energy(grid) / temperature)
    exact = weights[np.abs(grid) < 120].sum() / weights.sum()
    assert np.mean(np.abs(angles[400:]) < 120) == pytest.approx(exact, abs=0.06)


def test_pieces_hold_the_doubtful_atom_in_their_core_and_balance(random):
    chain = alkane(16)
    graph = bond_graph(chain)
    spreads = np.full((1, len(chain)), 0.1)
    spreads[0, 7] = 3.0
    found = TargetFindings(chain.positions[None], spreads, np.zeros_like(spreads), 1.0, 1, 0)
    pieces = pieces_of(chain, graph, found, 1.0, 4.0 * ANGSTROM, 9)
    assert len(pieces) == 1
    piece = pieces[0]
    numbers = piece.structure.numbers
    assert int((numbers == 6).sum()) <= 9
    assert int((numbers == 1).sum()) == 2 * int((numbers == 6).sum()) + 2
    assert piece.learnt[piece.doubtful]
    assert list(numbers) == sorted(numbers, reverse=True)
    np.testing.assert_array_equal(piece.structure.positions[piece.doubtful], chain.positions[7])


def test_charge_spread_asks_for_a_fragment_too():
    chain = alkane(16)
    force, charge = np.full((1, len(chain)), 0.1), np.zeros((1, len(chain)))
    charge[0, 3] = 0.05
    found = TargetFindings(chain.positions[None], force, charge, 1.0, 1, 0)
    pieces = pieces_of(chain, bond_graph(chain), found, 1.0, 4.0 * ANGSTROM, 9)
    assert len(pieces) == 1
    assert np.any(np.all(pieces[0].structure.positions == chain.positions[3], axis=1))


def test_masks_follow_their_geometries_into_the_training_groups():
    chain = alkane(12)
    graph = bond_graph(chain)
    piece = piece_of(fragment(chain, 5, 3.5 * ANGSTROM, 8, graph=graph), np.ones(len(chain)))
    other = whole(alkane(8).moved(alkane(8).positions + 0.01))
    label = lambda s: Label(0.0, np.zeros((len(s), 3)), np.zeros(3))  # noqa: E731
    labels = [label(item.structure) for item in (other, piece)]
    groups = groups_of([LearntLabel(other.structure, labels[0]), LearntLabel(piece.structure, labels[1], piece.learnt)])
    assert len(groups) == 1  # both are C8H18 with their atoms sorted
    np.testing.assert_array_equal(groups[0].force_mask, [np.ones(26, bool), piece.learnt])
    assert 0 < piece.learnt.sum() < len(piece.learnt)


# -- bad input ------------------------------------------------------------------------------------------------------


def deck_of(folder, **changes):
    settings = {
        "structure": ALKANES / "C8H18.xyz",
        "targets": f"[{ALKANES / 'C16H34.xyz'}]",
        "seeds": f"[{ALKANES / 'C2H6.xyz'}, {ALKANES / 'C3H8.xyz'}]",
        "largest": 10,
        "cutoff": "4 A",
        "charge": 0,
        "extra": "",
    } | changes
    text = (
        "system: {{structure: {structure}, targets: {targets}, charge: {charge}{extra}}}\n"
        "labels: {{engine: tblite}}\nmodel: {{cutoff: {cutoff}}}\n"
        "sampling: {{seeds: {seeds}, largest_fragment: {largest}}}\n"
    ).format(**settings)
    path = folder / "deck.yaml"
    path.write_text(text)
    return path


def refused(path):
    def check():
        check_engine(check_deck(load_deck(path)))

    with pytest.raises(InputError) as caught:
        check()
    return str(caught.value)


def test_a_good_deck_passes_and_its_resolved_text_is_read_again(tmp_path):
    study = check_deck(load_deck(deck_of(tmp_path)))
    check_engine(study)
    assert [target.name for target in study.targets] == ["C8H18", "C16H34"]
    (tmp_path / "again.yaml").write_text(resolved_text(study.deck))
    assert load_deck(tmp_path / "again.yaml").deck == study.deck


def test_an_element_that_no_seed_has_is_refused_with_the_atom_named(tmp_path):
    message = refused(deck_of(tmp_path, targets=f"[{ROOT / 'inputs' / 'ethanol.xyz'}]"))
    assert re.search(r"atom \d+ of ethanol is of an element that no seed has", message)
    assert "system.targets[1]" in message
    assert "sampling.seeds" in message


def test_a_cutoff_that_no_fragment_can_hold_is_refused_with_the_atom_named(tmp_path):
    message = refused(deck_of(tmp_path, cutoff="8 A"))
    assert re.search(r"surroundings of atom \d+ \([CH]\) do not fit in a fragment", message)
    assert "sampling.largest_fragment" in message


def test_bonds_that_cannot_be_assigned_are_refused_with_the_atom_named(tmp_path):
    lines = (ALKANES / "C8H18.xyz").read_text().splitlines()
    (tmp_path / "broken.xyz").write_text("\n".join(["25", "a hydrogen is missing", *lines[2:-1]]) + "\n")
    message = refused(deck_of(tmp_path, targets=f"[{tmp_path / 'broken.xyz'}]"))
    assert "multiplicity" in message  # an odd number of electrons comes first
    (tmp_path / "crowded.xyz").write_text(
        "\n".join(["28", "two hydrogens too many", *lines[2:], "H 0.0 1.1 0.7", "H 0.2 1.2 -0.8"]) + "\n"
    )
    message = refused(deck_of(tmp_path, targets=f"[{tmp_path / 'crowded.xyz'}]"))
    assert re.search(r"atoms? \d+ \([CH]\)", message)


def test_a_charge_that_the_bonds_do_not_carry_is_refused_with_what_was_found(tmp_path):
    silent = {}
    for name in ("C8H18", "C16H34", "C2H6", "C3H8"):  # the files themselves say that they have no charge
        lines = (ALKANES / f"{name}.xyz").read_text().splitlines()
        silent[name] = tmp_path / f"{name}.xyz"
        silent[name].write_text("\n".join([lines[0], name, *lines[2:]]) + "\n")
    targets, seeds = f"[{silent['C16H34']}]", f"[{silent['C2H6']}, {silent['C3H8']}]"
    message = refused(deck_of(tmp_path, structure=silent["C8H18"], targets=targets, seeds=seeds, charge=2))
    assert "charge" in message
    assert "every atom has all its bonds" in message


def test_a_charged_group_larger_than_a_fragment_is_refused_with_the_atom_named(tmp_path):
    peptide = ROOT / "inputs" / "tripeptide.xyz"
    lines = peptide.read_text().splitlines()
    (tmp_path / "cation.xyz").write_text("\n".join([lines[0], "charge=1", *lines[2:]]) + "\n")
    seed = ROOT / "inputs" / "formic-acid.xyz"
    (tmp_path / "amide.xyz").write_text(
        "6\nformamide\nC 0 0.42 0\nO 1.2 0.24 0\nN -0.94 -0.56 0\nH -0.45 1.43 0\nH -0.64 -1.52 0\nH -1.92 -0.34 0\n"
    )
    seeds = f"[{seed}, {tmp_path / 'amide.xyz'}]"
    message = refused(deck_of(tmp_path, targets=f"[{tmp_path / 'cation.xyz'}]", seeds=seeds, largest=5))
    assert re.search(r"atom \d+", message)
    assert "5 heavy atoms" in message


def test_seeds_larger_than_a_fragment_and_no_seed_at_all_are_refused(tmp_path):
    assert "labelled whole" in refused(deck_of(tmp_path, seeds=f"[{ALKANES / 'C12H26.xyz'}]"))
    message = refused(deck_of(tmp_path, structure=ALKANES / "C20H42.xyz", seeds="[]"))
    assert "no seeds to start from" in message


def test_two_targets_of_one_name_and_a_missing_file_are_refused(tmp_path):
    assert "same name" in refused(deck_of(tmp_path, targets=f"[{ALKANES / 'C8H18.xyz'}]"))
    assert "does not exist" in refused(deck_of(tmp_path, targets="[nowhere.xyz]"))


def test_isotopologues_are_of_the_targets(tmp_path):
    assert check_deck(load_deck(deck_of(tmp_path, extra=", isotopes: {d: {H: 2.014}}"))).deck.system.isotopes
    assert "the molecule has no O" in refused(deck_of(tmp_path, extra=", isotopes: {o: {O: 17.999}}"))
    assert "atoms 1 to 26" in refused(deck_of(tmp_path, extra=", isotopes: {d: {H27: 2.014}}"))
