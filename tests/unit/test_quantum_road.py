"""Quantum nuclei on the whole road, in one process: hydrogen chloride with the known levels of a Morse oscillator."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hpcir.errors import RunStopped
from hpcir.models.evaluator import Evaluator
from hpcir.models.model import Model
from hpcir.storage.hdf5 import read_h5
from hpcir.study.production import pigs, sets
from hpcir.study.production.block import TrajectoryBlock
from hpcir.study.results.spectra import spectrum_of_set
from hpcir.units import KCAL_PER_MOL_ANGSTROM, PER_CM
from hpcir.vibrations.harmonics import model_harmonics
from tests.unit.test_road import DEPTH, RANGE, Opened, reduced_mass, run, study_of

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


def turns(vectors):
    """(T, R) cosines of vectors (T, 3, R) with the first."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.einsum("tar,ar->tr", unit, unit[0])


@pytest.fixture(scope="module")
def corrected(tmp_path_factory):
    place = tmp_path_factory.mktemp("pigs")
    # Below the temperature that the rings of either isotopologue choose, about 350 and 270 K.
    text = DECK.replace("NUCLEI", "nuclei: pigs, temperature: 240 K")
    study = study_of(place, "{structure: hcl.xyz, isotopes: {DCl: {H: 2.014}}}", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pigs, "GEOMETRIES", 48)
        return place, study, run(place / "run", study)


def test_pigs_brings_the_stretch_to_its_quantum_place(corrected):
    """Within 0.4 of the way from the harmonic place, where classical nuclei are nearly; also with deuterium."""
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


def moved_on_correction(place, factor: float, name: str, limit: float = 8.0):
    """Trajectories of the finished run's model whose correction was learnt at `factor` times their temperature, with
    dynamics.force_error `limit` (kcal/mol/A): their block, and the result of their spectrum."""
    settings = f"nuclei: pigs, temperature: 240 K, force_error: {limit} kcal/mol/A"
    study = study_of(place, text=DECK.replace("NUCLEI", settings))
    with pytest.MonkeyPatch.context() as patch, Opened(place / name, study) as context:
        patch.setattr(pigs, "GEOMETRIES", 48)
        patch.setattr(pigs, "TEMPERATURE_FACTOR", factor)
        model = Model.load(place / "run" / "models" / "model.h5")
        chosen = sets.main_set(context, model, model_harmonics(model, study.structure))
        (chosen,) = sets.run_sets(context, [chosen])
        block = TrajectoryBlock.read(context.directory / chosen.blocks[0])
        return block, spectrum_of_set(context, chosen, "spectrum")


def test_a_centroid_that_leaves_where_its_correction_was_learnt_is_left_out_and_counted(corrected):
    """The model itself is sure everywhere; a correction that was learnt near the minimum alone is not."""
    place, _, _ = corrected
    usual, whole = moved_on_correction(place, pigs.TEMPERATURE_FACTOR, "usual")
    narrow, _ = moved_on_correction(place, 0.01, "narrow")
    assert whole.md.left_out == 0
    assert np.median(narrow.largest_spread) > 5 * np.median(usual.largest_spread)
    # So tight that half of them are outside, and all of those whose correction was learnt where they go inside.
    limit = float(np.median(narrow.largest_spread))
    assert usual.largest_spread.max() < limit
    model = Model.load(place / "run" / "models" / "model.h5")
    tight = limit / model.spread_threshold(KCAL_PER_MOL_ANGSTROM)
    found, part = moved_on_correction(place, 0.01, "narrow", tight)
    assert (part.md.trajectories, part.md.left_out) == (8, 4)
    assert np.array_equal(found.sane, found.largest_spread <= limit)
    assert found.alive.all()
    frames = np.ascontiguousarray(np.concatenate(list(found.snapshots), axis=-1))
    assert Evaluator(model, np.array([17, 1]), frames.shape[2]).force_spread(frames).max() < limit


def test_centroids_whose_beads_leave_the_molecule_end_the_run_with_words(corrected):
    place, _, _ = corrected
    with pytest.MonkeyPatch.context() as patch:
        means = pigs.centroid_means

        def lost(*arguments):
            found = means(*arguments)
            return replace(found, forces=np.full_like(found.forces, np.nan))

        patch.setattr(pigs, "centroid_means", lost)
        with pytest.raises(RunStopped, match=r"does not reach as far as quantum nuclei do at 3\d\d K"):
            moved_on_correction(place, pigs.TEMPERATURE_FACTOR, "lost")


def test_trpmd_brings_the_stretch_to_its_quantum_place(tmp_path):
    study = study_of(tmp_path, text=DECK.replace("NUCLEI", "nuclei: trpmd"))
    run(tmp_path / "run", study)
    shift = harmonic(1.008) - fundamental(1.008)
    assert centre(tmp_path / "run") == pytest.approx(fundamental(1.008), abs=0.7 * shift)
    # Its molecules turn, their dipoles do not: one band and none of rotation, over several chunks of the trajectories.
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert len(summary["bands"]) == 1
    block, _ = read_h5(tmp_path / "run" / "trajectories" / "main-00000.h5")
    assert len(block["snapshots"]) > 1
    bonds = block["snapshots"][:, 1] - block["snapshots"][:, 0]
    turned, still = (turns(vectors).min() for vectors in (bonds, block["dipoles"]))
    assert turned < 0.5 < 0.8 < still
    assert block["snapshots"].shape[1:] == (2, 3, 8)
    lengths = np.linalg.norm(block["snapshots"][:, 1] - block["snapshots"][:, 0], axis=1)
    # Zero-point motion spreads beads by hbar / 2 m omega, within what 8 rings and anharmonicity leave.
    expected = np.sqrt(1 / (2 * reduced_mass(1.008) * harmonic(1.008) * PER_CM))
    assert lengths.std() == pytest.approx(expected, rel=0.35)


def test_members_learn_what_their_own_rings_felt(corrected):
    place, study, _ = corrected
    random = np.random.default_rng(7)
    structure = study.structure
    arrays = {
        "centroids": np.broadcast_to(structure.positions, (3, 5, 2, 3)),
        "forces": random.normal(size=(3, 5, 2, 3)),
        "dipoles": random.normal(size=(3, 5, 3)),
        "noise": np.full((3, 5, 2, 3), 0.3),
        "beads": random.normal(size=(3, 5, 2, 3)),
    }
    arrays["forces"][1, 2, 0, 0] = np.nan
    points = pigs.Points.of_members(arrays, structure)
    kept = np.array([0, 1, 3, 4])
    assert np.array_equal(points.beads, arrays["beads"][kept % 3, kept])
    group = points.group(structure, dipoles=True)
    assert np.allclose(group.forces + group.force_offsets, arrays["forces"][:, kept])
    assert np.allclose(group.dipoles + group.dipole_offsets, arrays["dipoles"][:, kept])
    assert points.facts()["noise_kcal_per_mol_angstrom"] == pytest.approx(0.3 / np.sqrt(3) / KCAL_PER_MOL_ANGSTROM)
    differ = np.sqrt(arrays["forces"][:, kept].var(0, ddof=1).mean()) / KCAL_PER_MOL_ANGSTROM
    assert points.facts()["members_differ_kcal_per_mol_angstrom"] == pytest.approx(differ)
    # In the run the members' surfaces are nearly one, and so are their corrections.
    forces = read_h5(place / "run" / "pigs" / "main-centroids.h5")[0]["forces"]
    assert forces.shape[:2] == (2, 48)
    assert 0 < np.sqrt(forces.var(0, ddof=1).mean()) < 0.5 * np.sqrt((forces.mean(0) ** 2).mean())
