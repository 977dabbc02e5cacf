"""Runs with quantum nuclei from a deck: PIGS with an isotopologue, rank counts, kills, too few beads."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from hpcir.storage.hdf5 import read_h5
from tests.e2e.conftest import computed, differences, finish, results, said, start

WATER = """3

O 0.0 0.0 0.0
H 0.96 0.0 0.0
H -0.24 0.93 0.0
"""
DECK = """\
system: {structure: water.xyz, isotopes: {heavy: {H: 2.014}}}
labels: {engine: tblite}
model: {members: 2, hidden: [16, 16], radial: 6, shells: 3, zetas: [1, 2], channels: 0}
training: {steps: 400, retrain_steps: 80, final_steps: 400}
sampling:
  {max_labels: 160, initial_labels: 100, round_labels: 30, rounds: 1, trajectories: 8, duration: 0.2 ps,
    force_error: 5 kcal/mol/A}
test: {count: 10}
dynamics: {nuclei: NUCLEI, trajectories: 8, lockstep: 4, equilibration: 0.5 ps, duration: 1 ps,
  force_error: 40 kcal/mol/A}
spectrum: {depth: 0.5 ps, committee_errors: false}
"""


# Hydrogen chloride, all as small as it can be: what is looked at is whether two runs agree bit for bit.
SMALL = """\
system: {structure: hcl.xyz}
labels: {engine: tblite}
model: {members: 2, hidden: [8, 8], radial: 6, shells: 0, cutoff: 4 A, channels: 0}
training: {steps: 100, retrain_steps: 50, final_steps: 100}
sampling: {max_labels: 45, initial_labels: 30, round_labels: 8, rounds: 1, trajectories: 8, duration: 40 fs}
test: {count: 4}
dynamics: {nuclei: NUCLEI, trajectories: 6, lockstep: 2, equilibration: 0.5 ps, duration: 0.3 ps,
  force_error: 1000 kcal/mol/A}
spectrum: {depth: 0.15 ps, committee_errors: false, levels: "no"}
"""


@pytest.fixture
def small_deck(tmp_path):
    """small_deck(nuclei): the path of a small deck."""

    def write(nuclei: str) -> Path:
        (tmp_path / "hcl.xyz").write_text("2\n\nCl 0 0 0\nH 0 0 1.30\n")
        path = tmp_path / "small.yaml"
        path.write_text(SMALL.replace("NUCLEI", nuclei))
        return path

    return write


@pytest.fixture
def deck_of(tmp_path):
    """deck_of(nuclei): the path of a deck; nuclei may be followed by further keys of its section."""

    def write(nuclei: str) -> Path:
        (tmp_path / "water.xyz").write_text(WATER)
        path = tmp_path / "deck.yaml"
        path.write_text(DECK.replace("NUCLEI", nuclei))
        return path

    return write


def stretch(out: Path, name: str = "") -> float:
    """Centre (cm-1) of the absorption above the bend of a finished run, or of its isotopologue."""
    arrays, _ = read_h5(out / f"spectrum{name}.h5")
    place, curve = arrays["wavenumbers"], arrays["absorption"]
    high = place > 2100
    return float((place * curve)[high].sum() / curve[high].sum())


@pytest.mark.long
def test_pigs_has_softer_stretches_and_a_correction_for_each_isotopologue(deck_of, tmp_path, run_deck):
    deck = deck_of("pigs")
    done = run_deck(deck, tmp_path / "pigs", ranks=1)
    assert done.returncode == 0, done.stdout + done.stderr
    found = tmp_path / "pigs"
    assert (found / "pigs" / "main.h5").exists()
    assert (found / "pigs" / "heavy.h5").exists()
    # Of this level classical nuclei have it at 3624 cm-1 and exact ones at 3452.
    assert stretch(found) < 3550
    assert stretch(found, "-heavy") == pytest.approx(stretch(found) / 1.36, rel=0.03)
    centroids, _ = read_h5(found / "pigs" / "main-centroids.h5")
    assert np.abs(centroids["beads"] - centroids["centroids"]).max() > 0.1


def quantum_results(out: Path) -> dict[str, np.ndarray]:
    """What two runs of one deck must share, corrections included."""
    files = sorted((out / "pigs").glob("*.h5"))
    return results(out) | {f"{path.stem}/{name}": array for path in files for name, array in read_h5(path)[0].items()}


@pytest.mark.long
@pytest.mark.parametrize("nuclei", ["trpmd", "pigs"])
def test_quantum_nuclei_are_the_same_on_any_number_of_ranks(small_deck, tmp_path, run_deck, nuclei):
    deck = small_deck(nuclei)
    found = []
    for ranks in (1, 2, 3):
        finish(run_deck, deck, tmp_path / f"on-{ranks}", ranks)
        found.append(quantum_results(tmp_path / f"on-{ranks}"))
    assert differences(found[0], found[1]) == []
    assert differences(found[0], found[2]) == []
    assert any(name.startswith("main-centroids") for name in found[0]) == (nuclei == "pigs")


@pytest.mark.long
@pytest.mark.parametrize(
    ("nuclei", "begun"), [("pigs", "pigs/*.journal"), ("trpmd", "trajectories/in-progress/main/*.journal")]
)
def test_a_killed_run_of_quantum_nuclei_goes_on_as_if_nothing_was(small_deck, tmp_path, run_deck, nuclei, begun):
    deck = small_deck(nuclei)
    finish(run_deck, deck, tmp_path / "whole")
    process = start(deck, tmp_path / "killed")
    end = time.monotonic() + 300
    while not any(path.stat().st_size > 2000 for path in (tmp_path / "killed").glob(begun)):
        assert process.poll() is None, said(tmp_path / "killed")
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "killed").glob("spectrum*"))
    finish(run_deck, deck, tmp_path / "killed")
    assert differences(quantum_results(tmp_path / "whole"), quantum_results(tmp_path / "killed")) == []
    assert set(computed(tmp_path / "killed").values()) == {1}


@pytest.mark.long
def test_trpmd_has_softer_stretches(deck_of, tmp_path, run_deck):
    finish(run_deck, deck_of("trpmd"), tmp_path / "out")
    assert stretch(tmp_path / "out") < 3570


def test_too_few_beads_are_refused_before_labels_are_spent(deck_of, tmp_path, run_deck):
    deck = deck_of("trpmd, beads: 8")
    done = run_deck(deck, tmp_path / "out", ranks=1)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "too few beads" in done.stderr + done.stdout
    assert not (tmp_path / "out" / "models" / "round-00.h5").exists()
