"""The whole road on a tiny deck: what it leaves, the same on any rank count, and after being killed anywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import mpirun_command
from tests.e2e.conftest import differences, results

STAGES = ("optimisation", "label normal modes", "train round 0", "explore round 0", "trajectories main", "label test")


def test_a_run_leaves_what_it_promises(undisturbed):
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert summary["labels"]["count"] <= 110
    assert summary["labels"]["failed"] == 0
    assert summary["test"]["n"] == 10
    assert summary["test"]["force_rmse_kcal_per_mol_angstrom"] < 10
    assert summary["sampling"]["stopped_because"]
    assert summary["md"]["trajectories"] == 16
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
    assert len(summary["modes"]) == 13
    assert sorted(atom for group in summary["groups"] for atom in group["atoms"]) == [1, 2, 3, 4, 5, 6]
    assert any("stretch" in band["assignment"] for band in summary["bands"])
    for mode in summary["modes"][:-1]:
        assert mode["harmonic_per_cm"] > 0
        assert mode["width_per_cm"] >= 0


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_the_result_does_not_depend_on_the_rank_count(undisturbed, deck, run_deck, tmp_path, ranks):
    done = run_deck(deck, tmp_path / "run", ranks=ranks)
    assert done.returncode == 0, done.stdout + done.stderr
    assert differences(results(undisturbed), results(tmp_path / "run")) == []


def test_a_finished_run_is_not_done_again(undisturbed, deck, run_deck):
    before = results(undisturbed)
    labels = sorted((undisturbed / "labels").glob("*.journal"))
    sizes = [path.stat().st_size for path in labels]
    started = time.monotonic()
    done = run_deck(deck, undisturbed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.stat().st_size for path in labels] == sizes
    assert differences(before, results(undisturbed)) == []
    assert time.monotonic() - started < 60


def start(deck, out, ranks):
    launcher = mpirun_command(ranks) if ranks > 1 else []
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return subprocess.Popen(
        [*launcher, sys.executable, "-m", "hpcir", "run", str(deck), "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def wait_for_stage(out, stage, process, patience=300.0):
    """Wait until the log says that a stage has started; False when the run ended before."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        log = out / "log.txt"
        if log.exists() and f"{stage}: starts" in log.read_text():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    raise TimeoutError(f"{stage} did not start")


@pytest.mark.parametrize("stage", STAGES)
def test_killed_in_any_stage_and_run_again_it_ends_the_same(undisturbed, deck, run_deck, tmp_path, stage):
    out = tmp_path / "run"
    process = start(deck, out, 1)
    assert wait_for_stage(out, stage, process)
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = run_deck(deck, out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert differences(results(undisturbed), results(out)) == []


@pytest.mark.mpi
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_ends_the_run_with_status_75_and_it_goes_on(undisturbed, deck, run_deck, tmp_path, name):
    out = tmp_path / "run"
    process = start(deck, out, 1)
    assert wait_for_stage(out, "train round 0", process)
    asked = time.monotonic()
    process.send_signal(getattr(signal, name))
    process.wait(timeout=30)
    assert time.monotonic() - asked < 10
    assert process.returncode == 75
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    assert run_deck(deck, out, ranks=2).returncode == 0
    assert differences(results(undisturbed), results(out)) == []
