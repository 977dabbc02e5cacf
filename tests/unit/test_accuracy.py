"""The accuracy of the spectrum that sampling works for: the model error's share, and the end of sampling by it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from hpcir.deck.sections import AccuracySettings
from hpcir.labels import Label
from hpcir.molecules.structures import Structure
from hpcir.study.learning.accuracy import model_share
from hpcir.study.learning.committee import LearntLabel
from tests.unit.test_road import BOND, SMALL, run, study_of

STIFFNESS, CHARGE = 0.3, 0.2


def spring(positions, stiffness=STIFFNESS, charge=CHARGE, noise=0.0):
    """Forces and dipole of a harmonic bond with fixed charges; noise: of the dipole."""
    apart = positions[1] - positions[0]
    length = np.linalg.norm(apart)
    force = stiffness * (length - BOND) * apart / length
    return SimpleNamespace(forces=np.array([force, -force]), dipole=charge * apart + noise, energy=0.0)


def molecule(positions) -> Structure:
    return Structure(np.array([17, 1]), positions, 0, 1)


def held_out(count=16) -> list[LearntLabel]:
    items = []
    for stretch in np.linspace(-0.2, 0.2, count):
        positions = np.array([[0.0, 0, 0], [0.0, 0, BOND + stretch]])
        truth = spring(positions)
        items.append(LearntLabel(molecule(positions), Label(0.0, truth.forces, truth.dipole)))
    return items


def model(**changes):
    return SimpleNamespace(charge={1: True}, evaluate=lambda _, positions, __: spring(positions, **changes))


def test_a_stiffer_bond_shifts_by_the_root_of_the_stiffness():
    items = held_out()
    share = model_share(model(stiffness=1.01 * STIFFNESS), items[0].structure, items)
    exact = np.sqrt(STIFFNESS / items[0].structure.masses.prod() * items[0].structure.masses.sum()) * 219474.63
    assert share.wavenumber == pytest.approx(exact * (np.sqrt(1.01) - 1), rel=1e-3)
    assert "stretch" in share.motion
    assert not share.meets(AccuracySettings())


def test_intensities_go_by_the_square_of_the_dipole():
    items = held_out()
    share = model_share(model(charge=1.03 * CHARGE), items[0].structure, items)
    # Charges that are 3 % too large make intensities 6 % too large.
    assert share.intensity == pytest.approx(0.06, rel=1e-6)
    assert share.meets(AccuracySettings(intensity=0.07))
    assert not share.meets(AccuracySettings(intensity=0.05))


def test_an_offset_of_the_dipole_changes_no_intensity():
    items = held_out()
    assert model_share(model(noise=0.3), items[0].structure, items).intensity == pytest.approx(0.0, abs=1e-12)


def test_few_labels_say_nothing():
    items = held_out(7)
    assert model_share(model(), items[0].structure, items) is None
    fragments = [LearntLabel(i.structure, i.label, np.array([True, False])) for i in held_out()]
    assert model_share(model(), items[0].structure, fragments) is None


# Enough labels for eight that no member learns, and an accuracy that a poor model meets.
DECK = (
    SMALL.replace("max_labels: 40, initial_labels: 20", "max_labels: 60, initial_labels: 36")
    .replace("steps: 150, final", "steps: 150, validation: 0.6, final")
    .replace("rounds: 1", "rounds: 3")
)


def test_sampling_ends_where_the_accuracy_is_met_and_goes_on_with_a_tighter_one(tmp_path):
    run(tmp_path / "run", study_of(tmp_path, text=DECK + "accuracy: {wavenumber: 20000 cm-1, intensity: 200 %}\n"))
    curve = json.loads((tmp_path / "run" / "models" / "learning_curve.json").read_text())
    assert curve["stopped"] == "accuracy"
    # The first model is never trusted before it has explored.
    assert len(curve["rounds"]) == 2
    assert not (tmp_path / "run" / "models" / "final.h5").exists()
    engine = run(tmp_path / "run", study_of(tmp_path, text=DECK + "accuracy: {wavenumber: 1e-3 cm-1}\n"))
    further = json.loads((tmp_path / "run" / "models" / "learning_curve.json").read_text())
    assert further["stopped"] != "accuracy"
    assert [r["data"] for r in further["rounds"][:2]] == [r["data"] for r in curve["rounds"]]
    assert (tmp_path / "run" / "models" / "final.h5").exists()
    assert len(engine.labelled) < 30


def test_an_accurate_model_is_final_whatever_ended_the_rounds(tmp_path):
    """Here the first round's exploration, which took no geometry that is new."""
    loose = "accuracy: {wavenumber: 20000 cm-1, intensity: 200 %}\n"
    quiet = DECK.replace("max_labels: 60,", "max_labels: 60, goal: 0.0001 ps,")
    assert quiet != DECK
    run(tmp_path / "run", study_of(tmp_path, text=quiet + loose))
    curve = json.loads((tmp_path / "run" / "models" / "learning_curve.json").read_text())
    assert (curve["stopped"], len(curve["rounds"])) == ("goal", 1)
    assert not (tmp_path / "run" / "models" / "final.h5").exists()
    ends = {end["stage"]: end for end in json.loads((tmp_path / "run" / "summary.json").read_text())["ends"]}
    assert "final without the longer training" in ends["trainings"]["sentence"]
