"""Runs with quantum nuclei from a deck: PIGS with an isotopologue, TRPMD on one rank and on two, too few beads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcir.storage.hdf5 import read_h5

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


@pytest.mark.long
def test_trpmd_is_the_same_on_two_ranks(deck_of, tmp_path, run_deck):
    deck = deck_of("trpmd")
    for ranks in (1, 2):
        done = run_deck(deck, tmp_path / f"on-{ranks}", ranks=ranks)
        assert done.returncode == 0, done.stdout + done.stderr
    one, two = (read_h5(tmp_path / f"on-{ranks}" / "spectrum.h5")[0]["absorption"] for ranks in (1, 2))
    assert np.array_equal(one, two)
    assert stretch(tmp_path / "on-1") < 3570


def test_too_few_beads_are_refused_before_labels_are_spent(deck_of, tmp_path, run_deck):
    deck = deck_of("trpmd, beads: 8")
    done = run_deck(deck, tmp_path / "out", ranks=1)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "too few beads" in done.stderr + done.stdout
    assert not (tmp_path / "out" / "models" / "round-00.h5").exists()
