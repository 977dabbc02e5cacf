"""Conformer families: what sampling has labelled is among their candidates, and what has no weight is not labelled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hpcir.deck.sections import LabelSettings
from hpcir.labels import Label
from hpcir.labels.base import create_engine
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.conformers import Conformer, Family, rotors, torsion, turned
from hpcir.molecules.internal_coordinates import model_hessian
from hpcir.molecules.structures import read_structure
from hpcir.runtime.mpi import SerialCommunicator
from hpcir.sampling.tempering import Basins, Tally
from hpcir.study.label_farm import Entry, LabelStore
from hpcir.study.learning import relaxation
from hpcir.study.production.canonical_starts import Canonical
from hpcir.study.production.families import (
    MAX_FREE_ENERGY,
    MAX_LABELLED_CANDIDATES,
    Ensemble,
    _lowest_labelled,
    _worth_a_label,
)
from hpcir.study.session import default_deck, session
from hpcir.units import KELVIN
from hpcir.vibrations.normal_modes import normal_modes

INPUTS = Path(__file__).parents[2] / "inputs"
BUTANE = INPUTS / "alkanes" / "C4H10.xyz"
TEMPERATURE = 300 * KELVIN


@pytest.fixture(scope="module")
def butane():
    return read_structure(BUTANE)


def label(energy: float) -> Label:
    return Label(energy, np.zeros((14, 3)), np.zeros(3))


def test_a_known_conformer_is_found_though_no_candidate_comes_near_it(butane, monkeypatch):
    graph = bond_graph(butane)
    gauche = butane.moved(turned(butane.positions, graph, rotors(graph)[0], 60.0))

    def as_they_are(context, what, starts, key, work):
        return [{"positions": s.positions, "energy": np.float64(0), "converged": np.bool_(True)} for s in starts]

    def not_moved(context, model, starts, key):
        return [Conformer(item, float(number)) for number, item in enumerate(starts)]

    monkeypatch.setattr(relaxation, "map_structures", as_they_are)
    monkeypatch.setattr(relaxation, "_quenched", not_moved)
    monkeypatch.setattr(relaxation, "torsion_scan", lambda *arguments: [])
    monkeypatch.setattr(relaxation, "embedded", lambda *arguments: [])
    context = SimpleNamespace(root=True, comm=SerialCommunicator(), on_root=lambda work: work())

    def found(**known):
        return relaxation.minima(context, None, butane, graph, 2, 1, "key", **known)

    assert len(found()) == 1
    positions = [item.structure.positions for item in found(known=[gauche])]
    assert [np.array_equal(item, gauche.positions) for item in positions] == [False, True]


@pytest.fixture
def context(tmp_path, butane):
    with session(tmp_path / "run", SerialCommunicator(), default_deck(BUTANE), butane, "test-1") as opened:
        yield opened


def test_minima_are_the_lowest_of_many_candidates_by_energy(context, butane, monkeypatch):
    """The surface is GFN2-xTB itself: butane's trans minimum comes first, then a gauche one, which stands for both."""
    engine = create_engine(LabelSettings(engine="tblite"))

    class Surface:
        def __init__(self, model, numbers, replicas, charge=None):
            pass

        def evaluate(self, positions):
            labels = [engine.label(butane.moved(frame)) for frame in positions.transpose(2, 0, 1)]
            forces = np.array([item.forces for item in labels])
            return np.array([item.energy for item in labels]), forces.transpose(1, 2, 0)

    monkeypatch.setattr(relaxation, "Evaluator", Surface)
    monkeypatch.setattr(relaxation, "as_label_function", lambda model: engine.label)
    monkeypatch.setattr(relaxation, "CANDIDATES", 4)
    graph = bond_graph(butane)
    found = relaxation.minima(context, None, butane, graph, 3, 1, "key")
    torsions = [abs(torsion(item.structure.positions, rotors(graph)[0])) for item in found]
    np.testing.assert_allclose(torsions, [180, 65], atol=5)
    assert [item.symmetry for item in found] == [4, 2]
    monkeypatch.setattr(relaxation, "Evaluator", None)  # all of it is in the journals
    again = relaxation.minima(context, None, butane, graph, 3, 1, "key")
    assert [item.energy for item in again] == [item.energy for item in found]


def test_the_lowest_labelled_geometries_of_the_molecule_itself_are_known(butane):
    ethane = read_structure(INPUTS / "alkanes" / "C2H6.xyz")
    store = LabelStore()
    moved = [butane.moved(butane.positions * (1 + 1e-3 * step)) for step in range(MAX_LABELLED_CANDIDATES + 5)]
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
        store.request(str(number))
    known = _lowest_labelled(SimpleNamespace(store=store, level="level"), butane)
    assert len(known) == MAX_LABELLED_CANDIDATES
    expected = [moved[index] for index in np.argsort(energies)[:MAX_LABELLED_CANDIDATES]]
    assert all(one is other for one, other in zip(known, expected, strict=True))


def test_conformers_far_above_the_lowest_are_not_labelled(butane):
    graph = bond_graph(butane)
    found = [Conformer(butane, energy * TEMPERATURE) for energy in (0.0, MAX_FREE_ENERGY - 0.1, MAX_FREE_ENERGY + 0.1)]
    modes = [normal_modes(butane, model_hessian(butane))] * 3
    assert [item for item, _ in _worth_a_label(found, modes, TEMPERATURE, graph)] == found[:2]
    # A soft vibration is worth as much as the energy that it takes.
    soft = replace(modes[0], wavenumbers=np.array([*modes[0].wavenumbers[:-1], modes[0].wavenumbers[-1] / 2]))
    assert len(_worth_a_label(found, [*modes[:2], soft], TEMPERATURE, graph)) == 3


def ensemble_of(shifts: tuple[float, ...]) -> Ensemble:
    """Two families with one conformer each, of these labelled less model energies."""
    butane = read_structure(BUTANE)
    modes = normal_modes(butane, model_hessian(butane))
    members = [Family(name, (Conformer(butane, 0.0),), 0.5) for name in ("one", "two")]
    return Ensemble(tuple(members), ((modes,), (modes,)), shifts, (0.5, 0.5), (np.nan, np.nan))


def canonical_of(shares: dict[str, float], error: float, unconnected=()) -> Canonical:
    names, values = tuple(shares), np.array(list(shares.values()))
    covariance = error**2 * (np.eye(len(names)) - 1 / len(names)) * len(names) / (len(names) - 1)
    basins = Basins(names, values, np.sqrt(np.diag(covariance)), covariance, 9, unconnected)
    frames = np.arange(100)[:, None, None] * np.ones((1, 14, 3))
    owners = tuple(np.repeat(names, np.round(100 * values).astype(int)).tolist())
    return Canonical(basins, frames, owners, np.array([TEMPERATURE]), Tally.none(1), 30, 0.02, 0, "key", False)


def test_canonical_weights_are_moved_by_the_labels_and_sorted():
    """Shares of 0.3 and 0.7, where labels put the second family ln 7 kT higher than the model does: 0.75 and 0.25."""
    kt = TEMPERATURE
    found = ensemble_of((0.0, np.log(7) * kt)).weighted(canonical_of({"two": 0.7, "one": 0.3}, 0.01), kt)
    assert [family.name for family in found.families] == ["one", "two"]
    assert found.weights == pytest.approx((0.75, 0.25))
    assert found.other == pytest.approx(0, abs=1e-12)
    # d w = dp / 7 / (0.3 + 0.1)^2 where what one family gains the other loses.
    assert found.weight_errors == pytest.approx((0.01 / 7 / 0.16,) * 2, rel=1e-6)


def test_conformers_of_no_family_keep_their_share():
    found = ensemble_of((0.0, 0.0)).weighted(canonical_of({"one": 0.5, "two": 0.3, "new": 0.2}, 0.01), TEMPERATURE)
    assert found.weights == pytest.approx((0.5, 0.3))
    assert found.other == pytest.approx(0.2)


def test_harmonic_weights_stay_where_families_are_not_connected():
    before = ensemble_of((0.0, 0.0))
    assert before.weighted(canonical_of({"one": 0.9, "two": 0.1}, 0.01, (("two",),)), TEMPERATURE) is before


def test_starts_are_drawn_by_weight_from_the_frames_of_each_family(tmp_path):
    canonical = canonical_of({"one": 0.9, "two": 0.1}, 0.01)
    butane = read_structure(BUTANE)
    with session(tmp_path / "run", SerialCommunicator(), default_deck(BUTANE), butane, "key") as context:
        starts, found = canonical.draw(context, butane, 40, "main", {"one": 0.25, "two": 0.75})
        plain, _ = canonical.draw(context, butane, 40, "main")
        only = canonical.draw(context, butane, 12, "family", {"two": 1.0})[0]
    assert [found.names[kind] for kind in found.kind].count("two") == pytest.approx(30, abs=1)
    # Frames are numbered by their coordinates: the first 90 are of one family.
    assert (starts.positions[0, 0] >= 90).sum() == pytest.approx(30, abs=1)
    assert (plain.positions[0, 0] >= 90).sum() == pytest.approx(4, abs=1)
    assert (only.positions[0, 0] >= 90).all()
    assert len(set(only.positions[0, 0].tolist())) > 5
