"""Where exploration begins: the falling temperature of the minima, and that the last rounds begin in minima alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.conformers import Conformer, torsion, torsion_scan
from hpcir.molecules.structures import read_structure
from hpcir.study.learning.exploration_starts import ExplorationStarts
from hpcir.study.learning.source import Block
from hpcir.units import KCAL_PER_MOL, KELVIN

ROUNDS = 4


@pytest.fixture
def starts(request):
    structure = read_structure(request.config.rootpath / "inputs" / "ethanol.xyz")
    deck = SimpleNamespace(
        sampling=SimpleNamespace(rounds=ROUNDS, largest_fragment=10),
        dynamics=SimpleNamespace(temperature=300 * KELVIN),
    )
    context = SimpleNamespace(
        deck=deck,
        stop=SimpleNamespace(check=lambda: None),
        random=lambda purpose, item=0: np.random.default_rng([len(purpose), ord(purpose[-1]), item]),
    )
    graph = bond_graph(structure)
    study = SimpleNamespace(targets=[structure], labelled_whole=lambda target: True)
    found = ExplorationStarts(context, study, [graph], lambda structures, number: [])
    turned = torsion_scan(structure, 9, 1, graph)
    anti = next(s for s in turned if abs(hydroxyl(s.positions)) > 150)
    gauche = next(s for s in turned if abs(hydroxyl(s.positions)) < 90)
    found.start_minima[0] = [Conformer(anti, 0.0), Conformer(gauche, 3 * KCAL_PER_MOL)]
    return found


def hydroxyl(positions):
    """The torsion C-C-O-H of ethanol in degrees; its file has the order C C O, hydrogens with that of oxygen last."""
    oxygen_hydrogen = int(np.argmin(np.linalg.norm(positions[3:] - positions[2], axis=1))) + 3
    return torsion(positions, (0, 1, 2, oxygen_hydrogen))


def test_the_temperature_of_the_minima_falls_towards_the_trajectories(starts):
    temperatures = [starts._temperature(number) / KELVIN for number in range(ROUNDS)]
    np.testing.assert_allclose(temperatures, [1000, np.sqrt(1000 * 400), 400, 400])


def test_the_higher_minimum_is_begun_in_less_often_in_later_rounds(starts):
    block = Block(0, np.arange(400), 100 * KELVIN)

    def share(number):
        return np.mean([abs(hydroxyl(starts.start(block, item, number))) < 120 for item in range(400)])

    expected = [np.exp(-3 * KCAL_PER_MOL / starts._temperature(number)) for number in (0, ROUNDS - 1)]
    for number, weight in zip((0, ROUNDS - 1), expected, strict=True):
        assert share(number) == pytest.approx(weight / (1 + weight), abs=0.06)


def test_only_the_first_half_of_the_rounds_goes_on_from_ends(starts):
    end = starts.targets[0].positions + 100.0
    starts.ends[0] = end[None]
    block = Block(0, np.arange(100), 300 * KELVIN)

    def from_ends(number):
        return sum(bool(np.array_equal(starts.start(block, item, number), end)) for item in range(100))

    assert 25 < from_ends(1) < 75
    assert from_ends(2) == from_ends(3) == 0
    starts.start_minima.clear()
    assert 25 < from_ends(3) < 75
