"""Quantum nuclei on the whole road, in one process: hydrogen chloride with the known levels of a Morse oscillator."""

from __future__ import annotations

import numpy as np
import pytest

from hpcir.storage.hdf5 import read_h5
from hpcir.study.production import pigs
from hpcir.units import PER_CM
from tests.unit.test_road import DEPTH, RANGE, reduced_mass, run, study_of

DECK = """
labels: {engine: tblite}
model: {members: 2, hidden: [16, 16], radial: 8, shells: 0, cutoff: 4 A}
training: {steps: 600, final_steps: 600, retrain_steps: 50, precision: float64}
sampling:
  {max_labels: 140, initial_labels: 90, round_labels: 20, rounds: 1, trajectories: 8, duration: 200 fs,
    temperatures: [300 K]}
test: {count: 6}
dynamics: {NUCLEI, trajectories: 8, lockstep: 8, equilibration: 500 fs, duration: 1 ps}
spectrum: {depth: 500 fs, committee_errors: false, last: 3800 cm-1}
"""


def harmonic(hydrogen: float) -> float:
    """cm-1."""
    return float(np.sqrt(2 * DEPTH * RANGE**2 / reduced_mass(hydrogen)) / PER_CM)


def fundamental(hydrogen: float) -> float:
    """omega - 2 omega x, exact (cm-1)."""
    return harmonic(hydrogen) - float(RANGE**2 / reduced_mass(hydrogen) / PER_CM)


def centre(folder, name: str = "") -> float:
    """Of the absorption above 1500 cm-1."""
    arrays, _ = read_h5(folder / f"spectrum{name}.h5")
    place, curve = arrays["wavenumbers"], arrays["absorption"]
    return float((place * curve)[place > 1500].sum() / curve[place > 1500].sum())


@pytest.fixture(scope="module")
def corrected(tmp_path_factory):
    place = tmp_path_factory.mktemp("pigs")
    # Below the temperature that the rings of either isotopologue choose, about 350 and 250 K.
    text = DECK.replace("NUCLEI", "nuclei: pigs, temperature: 240 K")
    study = study_of(place, "{structure: hcl.xyz, isotopes: {DCl: {H: 2.014}}}", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pigs, "GEOMETRIES", 48)
        return place, study, run(place / "run", study)


def test_pigs_brings_the_stretch_to_its_quantum_place(corrected):
    """Within a third of the way from the harmonic place, where classical nuclei are nearly; also with deuterium."""
    place, _, _ = corrected
    for name, hydrogen in (("", 1.008), ("-DCl", 2.014)):
        shift = harmonic(hydrogen) - fundamental(hydrogen)
        assert centre(place / "run", name) == pytest.approx(fundamental(hydrogen), abs=0.4 * shift)


def test_every_isotopologue_has_a_correction_of_its_own(corrected):
    place, _, _ = corrected
    forces = [read_h5(place / "run" / "pigs" / f"{name}-centroids.h5")[0]["forces"] for name in ("main", "DCl")]
    sizes = [float(np.sqrt((one**2).mean())) for one in forces]
    # To first order the correction is that of the zero-point amplitude's square, which falls with the root of the mass.
    assert 0.55 < sizes[1] / sizes[0] < 0.85


def test_the_independent_test_has_beads(corrected):
    place, _, _ = corrected
    beads = read_h5(place / "run" / "pigs" / "main-centroids.h5")[0]["beads"]
    tested = read_h5(place / "run" / "test.h5")[0]["positions"]
    apart = np.abs(tested[:, None] - beads[None]).max((2, 3)).min(1)
    assert (apart < 1e-10).sum() == 3


def test_a_finished_run_with_corrections_does_nothing_again(corrected):
    place, study, first = corrected
    assert len(first.labelled) > 60
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pigs, "GEOMETRIES", 48)
        patch.setattr(pigs, "centroid_means", None)
        assert run(place / "run", study).labelled == []


def test_trpmd_brings_the_stretch_to_its_quantum_place(tmp_path):
    study = study_of(tmp_path, text=DECK.replace("NUCLEI", "nuclei: trpmd"))
    run(tmp_path / "run", study)
    shift = harmonic(1.008) - fundamental(1.008)
    assert centre(tmp_path / "run") == pytest.approx(fundamental(1.008), abs=0.7 * shift)
    block, _ = read_h5(tmp_path / "run" / "trajectories" / "main-00000.h5")
    assert block["snapshots"].shape[1:] == (2, 3, 8)
    lengths = np.linalg.norm(block["snapshots"][:, 1] - block["snapshots"][:, 0], axis=1)
    # Zero-point motion spreads beads by hbar / 2 m omega, within what 8 rings and anharmonicity leave.
    expected = np.sqrt(1 / (2 * reduced_mass(1.008) * harmonic(1.008) * PER_CM))
    assert lengths.std() == pytest.approx(expected, rel=0.35)
