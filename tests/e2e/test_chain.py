"""A chain of levels of theory on its whole way: a calculator, a data set, engines; resumed, on two ranks; two levels as
`labels` with pretraining."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hpcir.deck.sections import LabelSettings
from hpcir.exchange.datasets import Dataset, Frame
from hpcir.exchange.extxyz import write_extxyz
from hpcir.exchange.reading import read_dataset
from hpcir.labels import create_engine
from hpcir.models.model import Model
from hpcir.molecules.structures import read_structure
from tests.e2e.conftest import WATER, differences, finish, kill_in_stages, replaced, results

pytest.importorskip("tblite")

LABELS = {"GFN1-xTB (ASE)": 50, "other program": 40, "GFN2-xTB (tblite)": 8}
REST = """\
model: {members: 2, hidden: [10, 10], radial: 6, shells: 2, zetas: [1, 2], channels: 0}
training: {steps: 120, pretrain_steps: 200, retrain_steps: 60, final_steps: 120, learning_rate: 0.01}
sampling: {rounds: 1, trajectories: 8, duration: 0.1 ps}
test: {count: 6, harmonic: "no"}
dynamics: {trajectories: 4, lockstep: 2, equilibration: 0.05 ps, duration: 0.6 ps, force_error: 100 kcal/mol/A}
spectrum: {depth: 0.3 ps, committee_errors: false, levels: "no"}
"""
DECK = f"""\
system: {{structure: {WATER}}}
levels:
  - {{engine: ase, calculator: 'tblite.ase:TBLite', arguments: {{method: GFN1-xTB, verbosity: 0}}, labels: 50}}
  - {{data: {{file: data.extxyz, units: ase}}}}
  - {{engine: tblite, labels: 8, round_labels: 4}}
{REST}"""


@pytest.fixture(scope="module")
def chain_deck(made_once) -> Path:
    def make(folder: Path) -> None:
        water, engine = read_structure(WATER), create_engine(LabelSettings(engine="tblite", method="IPEA1-xTB"))
        random = np.random.default_rng(7)
        frames = []
        for _ in range(40):
            moved = water.moved(water.positions + 0.06 * random.standard_normal((3, 3)))
            label = engine.label(moved)
            told = (label.energy, label.forces, label.dipole)
            frames.append(Frame(moved.numbers, moved.positions, *told, level="other program"))
        write_extxyz(Dataset(tuple(frames)), folder / "data.extxyz")
        (folder / "chain.yaml").write_text(DECK)

    return made_once("chain-deck", make) / "chain.yaml"


@pytest.fixture(scope="module")
def finished(chain_deck, finished_run) -> Path:
    return finished_run("chain", chain_deck)


def test_every_level_is_told_of_with_its_labels_and_its_learning_curve(finished) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    levels = summary["chain"]["levels"]
    assert [level["labels"] for level in levels] == list(LABELS.values())
    for level, name in zip(levels, LABELS, strict=True):
        assert name.split()[0] in level["level"]
        assert level["learning"][-1]["labels"] == level["labels"]
        assert all(point["force_rmse_kcal_per_mol_angstrom"] > 0 for point in level["learning"])
    assert len(levels[2]["learning"]) == 2
    assert (summary["labels"]["count"], summary["labels"]["test_count"]) == (8, 4)
    page = (finished / "report.html").read_text()
    assert "Levels of theory" in page
    assert "other program" in page


def test_no_label_of_the_last_level_is_spent_on_its_minimum_and_none_of_the_models_is_told_as_the_engines(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert set(summary["labels"]["by_purpose"]) == {"round 0", "round 1", "test"}
    assert "engine_wavenumbers_per_cm" not in summary["harmonic"]
    assert not (finished / "prepare.h5").exists()


def test_the_first_labels_of_the_last_level_are_geometries_of_the_level_below(chain_deck, finished) -> None:
    below = [frame.positions for frame in read_dataset(chain_deck.parent / "data.extxyz", units="ase").frames]
    own = [f for f in read_dataset(finished / "labels.h5").frames if f.level.startswith("GFN2")]
    first = [min(float(np.abs(frame.positions - other).max()) for other in below) for frame in own[:4]]
    assert max(first) < 1e-6


def test_the_chain_is_worth_its_levels(finished) -> None:
    """The same eight labels teach fresh weights much less, and the level below without them is another surface."""
    test = json.loads((finished / "summary.json").read_text())["test"]
    own = test["force_rmse_kcal_per_mol_angstrom"]
    fresh, below = (test["others"][name]["force_rmse_kcal_per_mol_angstrom"] for name in test["others"])
    assert own < 0.7 * fresh
    assert own < 0.7 * below


def test_a_level_between_labels_every_geometry_of_the_level_above(tmp_path, run_deck) -> None:
    """So that the process of the labels is that of the difference between two levels, and of no model."""
    between = "{engine: ase, calculator: 'tblite.ase:TBLite', arguments: {method: IPEA1-xTB, verbosity: 0}, labels: 12}"
    deck = tmp_path / "three.yaml"
    deck.write_text(
        f"""\
system: {{structure: {WATER}}}
levels:
  - {{engine: tblite, method: GFN1-xTB, labels: 50}}
  - {between}
  - {{engine: tblite, labels: 8, round_labels: 4}}
{replaced(REST, {"count: 6": "count: 0"})}"""
    )
    finish(run_deck, deck, tmp_path / "run")
    own: dict[str, list[bytes]] = {"GFN2": [], "IPEA1": []}
    for frame in read_dataset(tmp_path / "run" / "labels.h5").frames:
        for name, found in own.items():
            if name in frame.level:
                found.append(frame.positions.tobytes())
    assert len(own["GFN2"]) == 8
    assert set(own["GFN2"]) < set(own["IPEA1"])
    levels = json.loads((tmp_path / "run" / "summary.json").read_text())["chain"]["levels"]
    # What is labelled for the level above is no part of the level's own budget, and is not learnt there.
    assert levels[1]["labels"] <= 12
    assert len(own["IPEA1"]) > levels[1]["labels"]


@pytest.mark.long
def test_a_killed_chain_goes_on_and_two_ranks_come_to_the_same(tmp_path, chain_deck, finished, run_deck) -> None:
    out = tmp_path / "run"
    kill_in_stages(chain_deck, out, ["cheap labels", "train on other program", "train round 1"], finished)
    finish(run_deck, chain_deck, out, ranks=2)
    # Two ranks train a member each: the same bits.
    assert differences(results(finished), results(out)) == []


def test_labels_with_pretraining_are_a_chain_of_two_levels(tmp_path, run_deck) -> None:
    """Bit for bit, with the counts and the labelled minimum of before."""
    counts = "max_labels: 50, initial_labels: 10, round_labels: 6"
    old = f"""\
system: {{structure: {WATER}}}
labels: {{engine: tblite, pretrain: {{engine: tblite, method: GFN1-xTB, labels: 50}}}}
{replaced(REST, {"rounds: 1": f"rounds: 1, {counts}"})}"""
    new = f"""\
system: {{structure: {WATER}}}
levels:
  - {{engine: tblite, method: GFN1-xTB, labels: 50}}
  - {{engine: tblite, labels: 50, initial_labels: 10, round_labels: 6, minimum: labels}}
{replaced(REST, {"count: 6": "count: 0"})}"""
    models = []
    for name, text in (("old", old), ("new", new)):
        deck = tmp_path / f"{name}.yaml"
        deck.write_text(replaced(text, {"count: 6": "count: 0"}) if name == "old" else text)
        finish(run_deck, deck, tmp_path / name)
        models.append(Model.load(tmp_path / name / "models" / "model.h5"))
    assert models[0].digest == models[1].digest
