"""Conformer families: what sampling has labelled is among their candidates, and what has no weight is not labelled."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hpcir.labels import Label
from hpcir.mpi import SerialCommunicator
from hpcir.sampling.bond_orders import bond_graph
from hpcir.sampling.conformers import Conformer, rotors, turned
from hpcir.stages import relaxation
from hpcir.stages.families import HIGHEST, KNOWN, _lowest_labelled, _worth_a_label
from hpcir.stages.farm import Entry, LabelStore
from hpcir.structures import read_structure
from hpcir.units import KELVIN

INPUTS = Path(__file__).parents[2] / "inputs"
TEMPERATURE = 300 * KELVIN


@pytest.fixture(scope="module")
def butane():
    return read_structure(INPUTS / "alkanes" / "C4H10.xyz")


def label(energy: float) -> Label:
    return Label(energy, np.zeros((14, 3)), np.zeros(3))


def test_a_known_conformer_is_found_though_no_candidate_comes_near_it(butane, monkeypatch):
    graph = bond_graph(butane)
    gauche = butane.moved(turned(butane.positions, graph, rotors(graph)[0], 60.0))

    def as_they_are(context, what, starts, key, work):
        return [{"positions": s.positions, "energy": np.float64(0), "converged": np.bool_(True)} for s in starts]

    monkeypatch.setattr(relaxation, "over_ranks", as_they_are)
    context = SimpleNamespace(root=True, comm=SerialCommunicator())

    def found(**known):
        return relaxation.minima(context, None, butane, graph, 1, 1, "key", **known)

    assert len(found()) == 1
    positions = [item.structure.positions for item in found(known=[gauche])]
    assert [np.array_equal(item, gauche.positions) for item in positions] == [False, True]


def test_the_lowest_labelled_geometries_of_the_molecule_itself_are_known(butane):
    ethane = read_structure(INPUTS / "alkanes" / "C2H6.xyz")
    store = LabelStore()
    moved = [butane.moved(butane.positions * (1 + 1e-3 * step)) for step in range(KNOWN + 5)]
    energies = np.random.default_rng(1).permutation(len(moved)).astype(float)
    own = [
        Entry(geometry, "level", "round 1", label(energy), "") for geometry, energy in zip(moved, energies, strict=True)
    ]
    others = [
        Entry(ethane, "level", "round 0", Label(-9.0, np.zeros((8, 3)), np.zeros(3)), ""),
        Entry(butane, "another level", "round 0", label(-9.0), ""),
        Entry(butane, "level", "round 0", None, "failed"),
    ]
    for number, entry in enumerate([*others, *own]):
        store.entries[str(number)] = entry
        store.ask(str(number))
    known = _lowest_labelled(SimpleNamespace(store=store, level="level"), butane)
    assert len(known) == KNOWN
    expected = [moved[index] for index in np.argsort(energies)[:KNOWN]]
    assert all(one is other for one, other in zip(known, expected, strict=True))


def test_conformers_far_above_the_lowest_are_not_labelled(butane):
    found = [Conformer(butane, energy * TEMPERATURE) for energy in (0.0, HIGHEST - 0.1, HIGHEST + 0.1)]
    modes = [SimpleNamespace(wavenumbers=np.full(36, 1000.0))] * 3
    assert [item for item, _ in _worth_a_label(found, modes, TEMPERATURE)] == found[:2]
    # A soft vibration is worth as much as the energy that it takes.
    soft = SimpleNamespace(wavenumbers=np.array([*np.full(35, 1000.0), 500.0]))
    assert len(_worth_a_label(found, [*modes[:2], soft], TEMPERATURE)) == 3
