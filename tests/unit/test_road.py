"""The road and its loop in one process: an analytic label engine, a serial communicator, seconds of work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hpcir.deck.checks import check_deck
from hpcir.deck.loader import load_deck
from hpcir.errors import RunStopped
from hpcir.labels import Label
from hpcir.runtime.mpi import SerialCommunicator
from hpcir.storage.hdf5 import read_h5
from hpcir.study.context import Context
from hpcir.study.label_farm import LabelBudget, LabelFarm, LabelStore, candidates
from hpcir.study.learning.approach import AroundMinimum, SeedsAndFragments, approach_of
from hpcir.study.learning.committee import CommitteeTrainer, symmetry_functions
from hpcir.study.learning.fragment_source import FragmentSource
from hpcir.study.learning.minimum_source import MinimumSource
from hpcir.study.road import Road
from hpcir.study.session import session
from hpcir.units import PER_CM

SMALL = """
labels: {engine: tblite}
model: {members: 2, hidden: [8, 8], radial: 6, shells: 0, cutoff: 4 A}
training: {steps: 150, final_steps: 150, retrain_steps: 50, precision: float64}
sampling:
  {max_labels: 40, initial_labels: 20, round_labels: 5, rounds: 1, trajectories: 4, duration: 20 fs,
    temperatures: [300 K]}
test: {count: 4}
dynamics: {trajectories: 4, lockstep: 4, equilibration: 20 fs, duration: 200 fs}
spectrum: {depth: 100 fs}
"""
# Morse's potential of hydrogen chloride, about: depth (hartree), range (1/bohr), bond (bohr), charge (e).
DEPTH, RANGE, BOND, CHARGE = 0.17, 0.99, 2.41, 0.18


class Morse:
    """Hydrogen chloride with Morse's potential and fixed charges; counts what it labels."""

    level = "Morse"

    def __init__(self) -> None:
        self.labelled: list[np.ndarray] = []

    def check(self, structure) -> None: ...

    def close(self) -> None: ...

    def label(self, structure, polar: bool = False) -> Label:
        self.labelled.append(structure.positions)
        apart = structure.positions[1] - structure.positions[0]
        length = float(np.linalg.norm(apart))
        decay = np.exp(-RANGE * (length - BOND))
        slope = 2 * DEPTH * RANGE * decay * (1 - decay)
        force = slope * apart / length
        # Charges of -CHARGE and +CHARGE on the heavier and the lighter atom.
        sign = 1.0 if structure.numbers[1] < structure.numbers[0] else -1.0
        return Label(DEPTH * (1 - decay) ** 2, np.array([force, -force]), sign * CHARGE * apart)


def study_of(folder: Path, system: str = "{structure: hcl.xyz}", text: str = SMALL):
    (folder / "hcl.xyz").write_text("2\n\nCl 0 0 0\nH 0 0 1.30\n")
    (folder / "hcl2.xyz").write_text("2\n\nCl 0 0 0\nH 0 1.32 0\n")
    (folder / "deck.yaml").write_text(f"system: {system}\n{text}")
    return check_deck(load_deck(folder / "deck.yaml"))


class Opened:
    """A study's context on one rank, its label engine in the same process."""

    def __init__(self, folder: Path, study) -> None:
        self.engine = Morse()
        self._session = session(folder, SerialCommunicator(), study.deck, study.structure, "test-1")
        self.study = study

    def __enter__(self) -> Context:
        context = self._session.__enter__()
        return replace(context, open_engine=lambda *_: self.engine)

    def __exit__(self, *reason) -> None:
        self._session.__exit__(*reason)


def run(folder: Path, study, **arguments) -> Morse:
    opened = Opened(folder, study)
    with opened as context:
        Road(context, study, arguments.get("until"), None).run()
    return opened.engine


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("road")
    text = "{structure: hcl.xyz, isotopes: {DCl: {H: 2.014}}}"
    study = study_of(place, text)
    return place, study, run(place / "run", study)


def test_one_molecule_goes_from_labels_to_its_spectrum(finished):
    place, _, _ = finished
    summary = json.loads((place / "run" / "summary.json").read_text())
    omega = np.sqrt(2 * DEPTH * RANGE**2 / reduced_mass(1.008)) / PER_CM
    assert summary["harmonic"]["engine_wavenumbers_per_cm"] == pytest.approx([omega], rel=2e-3)
    assert summary["harmonic"]["model_wavenumbers_per_cm"] == pytest.approx([omega], rel=0.05)
    assert summary["labels"]["count"] <= 40
    assert 2 <= summary["test"]["n"] <= 4
    assert list(summary["isotopologues"]) == ["DCl"]
    assert (place / "run" / "spectrum-DCl.csv").is_file()
    assert (place / "run" / "trajectories" / "member-1-00000.h5").is_file()


def reduced_mass(hydrogen: float) -> float:
    return hydrogen * 35.45 / (hydrogen + 35.45) * 1822.888


def test_deuterium_lowers_the_band_by_the_root_of_the_masses(finished):
    place, _, _ = finished
    ratio = []
    for name in ("main", "DCl"):
        arrays, _ = read_h5(place / "run" / "trajectories" / f"{name}-00000.h5")
        ratio.append(float(np.ravel(arrays["mode_wavenumbers"])[0]))
    assert ratio[0] / ratio[1] == pytest.approx(np.sqrt(reduced_mass(2.014) / reduced_mass(1.008)), rel=1e-3)


def test_a_finished_run_labels_nothing_again(finished):
    place, study, first = finished
    assert len(first.labelled) > 40
    assert run(place / "run", study).labelled == []


def test_until_stops_after_its_stage_and_goes_on_the_same(finished, tmp_path):
    place, study, _ = finished
    from hpcir.study.road import Until

    with pytest.raises(Until):
        run(tmp_path / "run", study, until="sample")
    assert (tmp_path / "run" / "models" / "model.h5").is_file()
    assert not list((tmp_path / "run").glob("spectrum*"))
    run(tmp_path / "run", study)
    one, two = (json.loads((folder / "run" / "summary.json").read_text()) for folder in (place, tmp_path))
    for key in ("bands", "weak_bands", "test", "harmonic", "isotopologues"):
        assert one[key] == two[key]


def test_several_molecules_have_all_that_one_has(tmp_path):
    """Isotopologues, members' trajectories, the engine's harmonic spectrum; a folder for each."""
    text = SMALL.replace("rounds: 1", "rounds: 0")
    study = study_of(tmp_path, "{structure: hcl.xyz, targets: [hcl2.xyz], isotopes: {DCl: {H: 2.014}}}", text)
    run(tmp_path / "run", study)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert list(summary["targets"]) == ["hcl", "hcl2"]
    for name in ("hcl", "hcl2"):
        folder = tmp_path / "run" / "targets" / name
        own = json.loads((folder / "summary.json").read_text())
        assert list(own["isotopologues"]) == ["DCl"]
        assert own["harmonic"]["mae_per_cm"] >= 0
        assert own["labels"]["by_purpose"]["test normal modes"] > 0
        assert (folder / "trajectories" / "member-1-00000.h5").is_file()
        assert (folder / "spectrum-DCl.csv").is_file()
    assert summary["labels"]["count"] == summary["labels"]["by_purpose"]["round 0"]


def test_an_approach_is_picked_by_the_study(tmp_path):
    one = study_of(tmp_path)
    several = study_of(tmp_path, "{structure: hcl.xyz, targets: [hcl2.xyz]}")
    with Opened(tmp_path / "run", one) as context:
        trainer = CommitteeTrainer(context, symmetry_functions(context, one.elements))
        assert isinstance(approach_of(context, one, trainer, LabelStore()), AroundMinimum)
        assert isinstance(approach_of(context, several, trainer, LabelStore()), SeedsAndFragments)


def test_sources_of_several_molecules_explore_by_ring_polymers_too(tmp_path):
    """As many blocks of rings as of trajectories, with own ids; zero-point amplitudes in half of the first labels."""
    kinds = {}
    for nuclei in ("classical", "trpmd"):
        place = tmp_path / nuclei
        place.mkdir()
        text = SMALL.replace("dynamics: {", f"dynamics: {{nuclei: {nuclei}, ").replace(
            "equilibration: 20 fs", "equilibration: 500 fs"
        )
        study = study_of(place, "{structure: hcl.xyz, targets: [hcl2.xyz]}", text)
        with Opened(place / "run", study) as context:
            trainer = CommitteeTrainer(context, symmetry_functions(context, study.elements))
            farm = LabelFarm(context, study.deck.labels, None, LabelStore())
            source = FragmentSource(context, LabelBudget(farm, 40), study, trainer)
            seeds = np.array([item.positions for item in source._thermal_seeds(200, "initial geometries")])
            kinds[nuclei] = source._blocks(), np.linalg.norm(seeds[:, 1] - seeds[:, 0], axis=1).std()
            farm.close()
    plain, blocks = kinds["classical"][0], kinds["trpmd"][0]
    rings = [block for block in blocks if block.ring is not None]
    assert len(rings) == len(plain) == len(blocks) - len(rings)
    assert {block.target for block in rings} == {0, 1}
    ids = np.concatenate([block.ids for block in blocks])
    assert len(set(ids.tolist())) == len(ids)
    assert kinds["trpmd"][1] > 1.5 * kinds["classical"][1]


def test_the_source_of_one_minimum_stays_within_the_budget(tmp_path):
    study = study_of(tmp_path)
    with Opened(tmp_path / "run", study) as context:
        trainer = CommitteeTrainer(context, symmetry_functions(context, study.elements))
        approach = approach_of(context, study, trainer, LabelStore())
        farm, reference = approach.prepare()
        assert reference is not None
        bond = np.linalg.norm(reference.structure.positions[1] - reference.structure.positions[0])
        assert bond == pytest.approx(BOND, abs=1e-3)
        budget = LabelBudget(farm, farm.store.requested.__len__() + 3)
        source = MinimumSource(context, budget, reference, trainer.functions, [])
        first = source.first()
        assert first is not None
        assert len(first) == 3
        assert {item.purpose for item in first} == {"round 0"}


def test_masks_of_learnt_forces_go_from_the_candidate_to_the_label(tmp_path):
    study = study_of(tmp_path)
    moved = [study.structure.moved(study.structure.positions * scale) for scale in (1.0, 1.1)]
    with Opened(tmp_path / "run", study) as context:
        store = LabelStore()
        farm = LabelFarm(context, study.deck.labels, None, store)
        mask = np.array([True, False])
        wanted = candidates(moved, "round 0")
        farm.label([wanted[0], replace(wanted[1], learnt=mask)])
        assert [entry.learnt is None for entry in store.requested] == [True, False]
        farm.label(candidates(moved, "round 1"))
        np.testing.assert_array_equal(store.requested[1].learnt, mask)
        farm.close()


def test_a_target_without_sane_trajectories_ends_the_run_in_words(finished, tmp_path):
    import shutil

    from hpcir.storage.hdf5 import write_h5

    place, study, _ = finished
    shutil.copytree(place / "run", tmp_path / "run")
    path = tmp_path / "run" / "trajectories" / "main-00000.h5"
    arrays, attributes = read_h5(path)
    arrays["sane"] = np.zeros_like(arrays["sane"])
    for name in ("program_version", "format_version"):
        del attributes[name]
    write_h5(path, {name: (value, "", "") for name, value in arrays.items()}, attributes)
    with pytest.raises(RunStopped, match="every trajectory left the region"):
        run(tmp_path / "run", study)
