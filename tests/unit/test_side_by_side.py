"""Bands by every method side by side: whose the error is, on numbers made for it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from hpcir.errors import InputError
from hpcir.spectra.bands import Band
from hpcir.storage.json_result import write_json
from hpcir.storage.records import as_dict
from hpcir.study.results.records import (
    HarmonicFigures,
    LevelFigures,
    LevelRow,
    MdFigures,
    ModeRow,
    Summary,
    read_summary,
)
from hpcir.study.results.side_by_side import read_experiment, side_by_side
from hpcir.vibrations.levels.result import METHODS
from hpcir.vibrations.method_errors import MEASURED, method_error, motion_of

NAN = float("nan")


def band(place: float, intensity: float, words: str, stderr: float = 1.5) -> Band:
    return Band(place, stderr, intensity, 1.0, place, 1.0, place - 60, place + 60, 1.0, assignment=words)


def level(name: str, place: float, remark: str = "") -> LevelRow:
    return LevelRow(name, "", place, 3.0, 10.0, 1.0, place + 20, remark)


@pytest.fixture
def summary() -> Summary:
    """Two stretches in one band by three to one, a bend, a torsion, an overtone."""
    modes = (
        ModeRow("torsion about C-O", 300.0, 280.0, 5.0, contribution_km_per_mol=100.0),
        ModeRow("CH3 rock", 1050.0, 1040.0, 1.0, contribution_km_per_mol=40.0),
        ModeRow("CH3 symmetric stretch", 2990.0, 2900.0, 2.0, contribution_km_per_mol=30.0),
        ModeRow("CH3 antisymmetric stretch", 3070.0, 2940.0, 2.0, contribution_km_per_mol=10.0),
        ModeRow("overtones and combinations", contribution_km_per_mol=5.0),
    )
    bands = (
        band(281.0, 101.0, "torsion about C-O"),
        band(1041.0, 41.0, "CH3 rock"),
        band(2000.0, 5.0, "overtones and combinations"),
        band(2910.0, 40.0, "CH3 symmetric stretch 75 %, CH3 antisymmetric stretch 25 %"),
    )
    levels = LevelFigures(
        METHODS["perturbation"], 11000.0, 5.0,
        (level("v1", 240.0, "a hindered rotor"), level("v2", 1036.0), level("v3", 2850.0), level("v4", 2930.0)),
    )  # fmt: skip
    engine, model = (310.0, 1055.0, 3000.0, 3080.0), (300.0, 1050.0, 2990.0, 3070.0)
    return Summary(
        harmonic=HarmonicFigures(engine_wavenumbers_per_cm=engine, model_wavenumbers_per_cm=model),
        levels=levels, md=MdFigures(64, nuclei="pigs"), bands=bands, modes=modes,
    )  # fmt: skip


def test_every_band_has_what_its_modes_have(summary: Summary) -> None:
    torsion, rock, overtone, stretch = side_by_side(summary)
    assert stretch.modes == ("v3", "v4")
    assert stretch.harmonic_per_cm == pytest.approx(0.75 * 3000 + 0.25 * 3080)
    assert stretch.trajectories.method == "pigs"
    assert stretch.trajectories.method_error_per_cm == MEASURED["pigs"]["stretch with hydrogen"].mean_per_cm
    assert stretch.levels is not None
    assert stretch.levels.wavenumber_per_cm == pytest.approx(0.75 * 2850 + 0.25 * 2930)
    assert stretch.levels.stderr_per_cm == pytest.approx(3.0)
    assert rock.harmonic_per_cm == 1055.0
    assert rock.trajectories.method_scatter_per_cm == MEASURED["pigs"]["bend"].scatter_per_cm
    # A level with a remark stands for nothing, a torsion was not measured, an overtone has no mode.
    assert torsion.levels is None
    assert torsion.trajectories.method_error_per_cm is None
    assert (overtone.modes, overtone.harmonic_per_cm, overtone.levels) == ((), None, None)
    classical = side_by_side(replace(summary, md=MdFigures(64), levels=None))
    assert {row.trajectories.method for row in classical} == {"classical"}
    # Classical nuclei have an error too: nearly all of the anharmonic shift of a stretch of hydrogen.
    errors = [row.trajectories.method_error_per_cm for row in classical]
    known = MEASURED["classical"]
    assert errors == [None, known["bend"].mean_per_cm, None, known["stretch with hydrogen"].mean_per_cm]
    assert 100 < known["stretch with hydrogen"].mean_per_cm < MEASURED["harmonic"]["stretch with hydrogen"].mean_per_cm


def test_what_is_left_is_the_level_of_theorys(summary: Summary) -> None:
    """A surface 12 cm-1 too stiff in a bend, whose method adds exactly what it was measured to add."""
    found = method_error("perturbation", "CH3 rock")
    assert found is not None
    truth = 1036.0 - found.mean_per_cm - 12.0
    known = tuple(replace(one, stderr_per_cm=1.0) for one in summary.levels.fundamentals) if summary.levels else ()
    assert summary.levels is not None
    sharp = replace(summary, levels=replace(summary.levels, fundamentals=known))
    row = side_by_side(sharp, {1041.0: truth})[1]
    assert row.experiment_per_cm == truth
    assert row.level_of_theory_per_cm == pytest.approx(12.0)
    assert row.level_of_theory_stderr_per_cm == pytest.approx(math.hypot(1.0, found.scatter_per_cm))
    # Where the levels' committee disagrees more, the trajectories are the better known.
    vague = tuple(replace(one, stderr_per_cm=40.0) for one in summary.levels.fundamentals)
    row = side_by_side(replace(summary, levels=replace(summary.levels, fundamentals=vague)), {1041.0: truth})[1]
    pigs = MEASURED["pigs"]["bend"]
    assert row.level_of_theory_per_cm == pytest.approx(1041.0 - pigs.mean_per_cm - truth)
    assert row.level_of_theory_stderr_per_cm == pytest.approx(math.hypot(1.5, pigs.scatter_per_cm))
    # Two modes in one band, whose overtones share its intensity: the trajectories alone.
    pigs = MEASURED["pigs"]["stretch with hydrogen"]
    row = side_by_side(sharp, {2910.0: 2880.0})[3]
    assert row.level_of_theory_per_cm == pytest.approx(30.0 - pigs.mean_per_cm)
    # Nothing is said of a torsion, for which no method was measured.
    assert side_by_side(summary, {281.0: 250.0})[0].level_of_theory_per_cm is None


@pytest.mark.parametrize(
    ("words", "motion"),
    [
        ("O-H stretch", "stretch with hydrogen"),
        ("Cl-H stretch", "stretch with hydrogen"),
        ("CH2 antisymmetric stretch", "stretch with hydrogen"),
        ("C-O stretch + CH3 rock", "stretch without hydrogen"),
        ("C-Hg stretch", "stretch without hydrogen"),
        ("CH3 umbrella bend", "bend"),
        ("CH2 scissor", "bend"),
        ("torsion about C-O", None),
        ("relative motion", None),
    ],
)
def test_motions_by_their_words(words: str, motion: str | None) -> None:
    assert motion_of(words) == motion


def test_rows_survive_their_file(summary: Summary, tmp_path: Path) -> None:
    whole = replace(summary, side_by_side=side_by_side(summary, {2910.0: 2870.0}))
    write_json(tmp_path / "summary.json", as_dict(whole))
    assert read_summary(tmp_path / "summary.json").side_by_side == whole.side_by_side


@pytest.mark.parametrize("measured", ["reference", "spectrum"])
def test_experiment_of_a_comparison_on_either_side(tmp_path: Path, measured: str) -> None:
    other = "spectrum" if measured == "reference" else "reference"
    rows = [
        {"trajectories": {"wavenumber_per_cm": 2910.0}, "experiment_per_cm": 2870.0},
        {"trajectories": {"wavenumber_per_cm": 281.0}},
    ]
    path = tmp_path / "comparison.json"
    content = {"experiment": measured, measured: "far/methanol.jdx", other: "run/spectrum.h5", "side_by_side": rows}
    path.write_text(json.dumps(content))
    found = read_experiment(path)
    assert (found.name, dict(found.positions)) == ("methanol.jdx", {2910.0: 2870.0})
    path.write_text(json.dumps({**content, "experiment": None}))
    assert read_experiment(path).positions == {}
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        read_experiment(path)
