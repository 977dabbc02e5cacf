"""Conformer families of ethanol: found, ranked, each with a spectrum; the main trajectories start by their weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hpcir.storage.hdf5 import read_h5
from tests.e2e.conftest import ROOT, differences, finish, results

DECK = f"""\
system: {{structure: {ROOT / "inputs" / "ethanol.xyz"}}}
labels: {{engine: tblite}}
model: {{members: 2, hidden: [16, 16], radial: 6, shells: 2, zetas: [1, 2], channels: 0}}
training: {{steps: 300, final_steps: 300, learning_rate: 0.01, process: 0}}
sampling:
  {{families: 6, max_labels: 90, initial_labels: 45, round_labels: 15, rounds: 1, trajectories: 8, duration: 0.1 ps,
    force_error: 8 kcal/mol/A}}
test: {{count: 4}}
dynamics: {{trajectories: 8, lockstep: 4, equilibration: 0.05 ps, duration: 0.6 ps, force_error: 32 kcal/mol/A}}
spectrum: {{depth: 0.3 ps, committee_errors: false, levels: "no"}}
seed: 3
"""


@pytest.fixture(scope="module")
def families_deck(made_once) -> Path:
    return made_once("families-deck", lambda folder: (folder / "ethanol.yaml").write_text(DECK)) / "ethanol.yaml"


@pytest.fixture(scope="module")
def finished(families_deck, finished_run) -> Path:
    return finished_run("families", families_deck)


def test_families_are_found_ranked_and_have_spectra(finished):
    found = json.loads((finished / "summary.json").read_text())["families"]
    weights = [family["weight"] for family in found]
    assert sum(weights) == pytest.approx(1.0)
    assert weights == sorted(weights, reverse=True)
    assert {"1 gauche", "all trans"} == {family["name"] for family in found}
    assert sum(family["trajectories"] for family in found) == 8
    for number, family in enumerate(found, 1):
        if family["weight"] >= 0.02:
            assert family["bands"]
            assert (finished / f"spectrum-family-{number}.h5").is_file()


def test_trajectories_start_in_families_as_often_as_their_weights_say(finished):
    found = json.loads((finished / "families.json").read_text())["families"]
    for family in found:
        assert abs(family["trajectories"] - 8 * family["weight"]) <= 1.0


@pytest.mark.long
@pytest.mark.mpi
def test_the_result_does_not_depend_on_the_rank_count(finished, families_deck, run_deck, tmp_path):
    finish(run_deck, families_deck, tmp_path / "run", ranks=2)
    assert differences(results(finished), results(tmp_path / "run")) == []
    for name in ("spectrum.h5", "spectrum-family-1.h5"):
        first, second = (read_h5(run / name)[0] for run in (finished, tmp_path / "run"))
        np.testing.assert_array_equal(first["absorption"], second["absorption"])
