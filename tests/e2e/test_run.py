"""The whole road on a tiny deck: what it leaves, the same on any rank count, and after being killed anywhere."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.conftest import (
    assert_part_of,
    differences,
    finish,
    kill_in_stages,
    log_of,
    results,
    said,
    start,
    wait_for_stage,
)


def test_a_run_leaves_what_it_promises(undisturbed):
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert summary["labels"]["count"] <= 40
    assert summary["labels"]["failed"] == 0
    assert summary["test"]["n"] == 10
    assert summary["test"]["force_rmse_kcal_per_mol_angstrom"] < 10
    assert summary["sampling"]["stopped_because"]
    assert summary["md"]["trajectories"] == 32
    assert summary["bands"]
    for name in ("spectrum.csv", "spectrum.h5", "labels.h5", "models/model.h5", "report.html", "deck.resolved.yaml"):
        assert (undisturbed / name).stat().st_size > 0
    assert not (undisturbed / "lock.json").exists()
    curve = json.loads((undisturbed / "models" / "learning_curve.json").read_text())["rounds"]
    assert [entry["labels"] for entry in curve] == sorted(entry["labels"] for entry in curve)
    assert all(entry["test_force_rmse_kcal_per_mol_angstrom"] > 0 for entry in curve)


def test_the_spectrum_is_the_sum_of_its_trajectories(undisturbed):
    table = np.loadtxt(undisturbed / "spectrum.csv", delimiter=",", comments="#", skiprows=0, dtype=str)
    numbers = np.array([row for row in table if row[0].replace(".", "").isdigit()], float)
    found = results(undisturbed)
    np.testing.assert_allclose(numbers[:, 1], found["spectrum/absorption"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["spectrum/trajectories"].mean(0), found["spectrum/absorption"], rtol=1e-9)


def test_the_parts_of_the_assignment_sum_to_the_spectrum(undisturbed):
    found = results(undisturbed)
    absorption = found["spectrum/absorption"]
    for name in ("mode_contributions", "group_contributions"):
        difference = found[f"spectrum/{name}"].sum(axis=0) - absorption
        assert np.abs(difference).max() < 1e-10 * absorption.max()
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert len(summary["modes"]) == 4
    assert sorted(atom for group in summary["groups"] for atom in group["atoms"]) == [1, 2, 3]
    assert any("stretch" in band["assignment"] for band in summary["bands"])
    for mode in summary["modes"][:-1]:
        assert mode["harmonic_per_cm"] > 0
        assert mode["width_per_cm"] >= 0


@pytest.mark.mpi
def test_the_result_of_two_ranks_is_that_of_one(undisturbed, undisturbed_on_two):
    assert differences(results(undisturbed), results(undisturbed_on_two)) == []


@pytest.mark.mpi
def test_the_result_of_three_ranks_is_that_of_one(undisturbed, deck, run_deck, tmp_path):
    finish(run_deck, deck, tmp_path / "run", ranks=3)
    assert differences(results(undisturbed), results(tmp_path / "run")) == []


def test_a_finished_run_is_not_done_again(undisturbed, deck, run_deck, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    before = results(out)
    labels = sorted((out / "labels").glob("*.journal"))
    sizes = [path.stat().st_size for path in labels]
    started = time.monotonic()
    finish(run_deck, deck, out)
    assert [path.stat().st_size for path in labels] == sizes
    assert differences(before, results(out)) == []
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "stages",
    [
        ("optimisation", "label normal modes", "train round 0"),
        ("explore round 0", "trajectories main", "label test"),
    ],
    ids=["first stages", "last stages"],
)
def test_killed_in_one_stage_after_the_other_it_ends_the_same(undisturbed, deck, run_deck, tmp_path, stages):
    out = tmp_path / "run"
    kill_in_stages(deck, out, stages, undisturbed)
    finish(run_deck, deck, out)
    assert differences(results(undisturbed), results(out)) == []


@pytest.fixture(scope="module")
def stopped_by_signals(undisturbed, deck, made_once) -> Path:
    """A run that one signal ended in each of its three rounds, on one rank."""

    def make(folder: Path) -> None:
        out = folder / "run"
        for number, name in enumerate(("SIGTERM", "SIGINT", "SIGUSR1")):
            known = log_of(out)
            process = start(deck, out)
            wait_for_stage(out, f"train round {number}", process, known)
            asked = time.monotonic()
            process.send_signal(getattr(signal, name))
            process.wait(timeout=30)
            assert time.monotonic() - asked < 10
            assert process.returncode == 75, said(out)
            assert name in said(out)
            assert "Traceback" not in said(out)
            assert_part_of(undisturbed, out)

    return made_once("stopped-by-signals", make) / "run"


@pytest.mark.mpi
def test_a_signal_ends_the_run_with_status_75_and_it_goes_on(undisturbed, stopped_by_signals, deck, run_deck, tmp_path):
    """Two ranks finish what is left."""
    out = tmp_path / "run"
    shutil.copytree(stopped_by_signals, out)
    finish(run_deck, deck, out, ranks=2)
    assert differences(results(undisturbed), results(out)) == []
