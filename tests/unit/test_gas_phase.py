"""Contours in `compare`: put on a run without rotation, and on nothing else; what was done is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcir.cli import main
from hpcir.molecules.internal_coordinates import model_hessian
from hpcir.molecules.structures import Structure
from hpcir.spectra.files.jcamp import write_jcamp
from hpcir.spectra.spectrum import Spectrum
from hpcir.storage import layout
from hpcir.storage.hdf5 import write_h5
from hpcir.study.results.contours import gas_phase
from hpcir.study.results.spectrum_files import read_spectrum, write_spectrum
from hpcir.units import ANGSTROM, KELVIN, PER_CM
from hpcir.vibrations.normal_modes import NormalModes, normal_modes

X = np.arange(0.0, 4001.0, 1.0)
PLACE = 2000.0


def monoxide() -> NormalModes:
    structure = Structure(np.array([6, 8]), np.array([[0, 0, 0], [0, 0, 1.13]]) * ANGSTROM)
    dipoles = np.zeros((3, 6))
    dipoles[2, 2], dipoles[2, 5] = -0.5, 0.5
    return normal_modes(structure, model_hessian(structure, 0.0), dipoles)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What `compare` reads of a finished run of carbon monoxide: one narrow band."""
    folder = tmp_path / "co.run"
    (folder / layout.TRAJECTORIES).mkdir(parents=True)
    (folder / "co.xyz").write_text("2\n\nC 0 0 0\nO 0 0 1.13\n")
    curve = 5 * np.exp(-(((X - PLACE) / 6) ** 2))
    contributions = np.array([curve, 0 * curve])
    assigned = {"mode_contributions": (contributions, "km/mol cm", "part,wavenumber")}
    write_spectrum(folder, "spectrum", Spectrum(X, curve, 0 * X, temperature=300 * KELVIN), assigned=assigned)
    modes = monoxide()
    arrays = {name: (np.array([value]), "", "minimum,...") for name, value in modes.to_arrays().items()}
    write_h5(folder / layout.TRAJECTORIES / layout.MINIMA, arrays, {"format": "hpcir minima"})
    _deck(folder, "rotation: remove")
    return folder


def _deck(folder: Path, dynamics: str) -> None:
    text = f"system: {{structure: co.xyz}}\nlabels: {{engine: tblite}}\ndynamics: {{{dynamics}}}\n"
    (folder / layout.DECK).write_text(text)


def experiment(folder: Path, state: str) -> Path:
    path = folder / "experiment.jdx"
    shape = np.exp(-(((X - PLACE - 27) / 12) ** 2)) + np.exp(-(((X - PLACE + 27) / 12) ** 2))
    write_jcamp(Spectrum(X, shape, 0 * X, temperature=296 * KELVIN), path, state=state, resolution="2")
    return path


def test_run_without_rotation_gets_its_branches(run: Path, tmp_path: Path) -> None:
    stored, measured = read_spectrum(run), read_spectrum(experiment(tmp_path, "GAS"))
    made = gas_phase(stored, measured, run).spectrum
    assert made.integral(1700, 2300) == pytest.approx(stored.spectrum.integral(1700, 2300), rel=1e-3)
    branch = X[made.absorption.argmax()]
    moment = monoxide()
    rotational = 0.5 / _moment(moment) / PER_CM
    apart = np.sqrt(8 * rotational * 296 * KELVIN / PER_CM)
    assert 2 * abs(branch - PLACE) == pytest.approx(apart, abs=6)
    assert made.absorption[int(PLACE)] < 0.6 * made.absorption.max()
    assert "rotational contours of a rigid rotor" in made.metadata["notes"][-1]


def _moment(modes: NormalModes) -> float:
    middle = modes.masses @ modes.positions / modes.masses.sum()
    return float((modes.masses[:, None] * (modes.positions - middle) ** 2).sum())


def test_contours_make_the_comparison_better_and_compare_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = experiment(tmp_path, "GAS")
    assert main(["compare", str(run), str(path)]) == 0
    said = capsys.readouterr().out
    assert "rotational contours of a rigid rotor" in said
    with_branches = float(said.split("cosine ")[1].split(",")[0])
    measured = read_spectrum(path).spectrum.absorption
    bare = read_spectrum(run).spectrum.absorption
    without = bare @ measured / np.sqrt((bare @ bare) * (measured @ measured))
    assert without < 0.2
    assert with_branches > 0.8


@pytest.mark.parametrize("nuclei", ["classical", "trpmd"])
def test_rotation_of_its_own_is_left_alone(run: Path, tmp_path: Path, nuclei: str) -> None:
    _deck(run, f"rotation: keep, nuclei: {nuclei}")
    stored = read_spectrum(run)
    made = gas_phase(stored, read_spectrum(experiment(tmp_path, "GAS")), run).spectrum
    np.testing.assert_array_equal(made.absorption, stored.spectrum.absorption)
    assert "contours are their own" in made.metadata["notes"][-1]


def test_trpmd_in_its_still_frame_gets_contours(run: Path, tmp_path: Path) -> None:
    """Its beads turn the molecule; without `rotation: keep` its dipoles are in a frame that does not."""
    _deck(run, "nuclei: trpmd")
    made = gas_phase(read_spectrum(run), read_spectrum(experiment(tmp_path, "GAS")), run).spectrum
    assert "rotational contours of a rigid rotor" in made.metadata["notes"][-1]


def test_condensed_phase_and_spectra_without_a_molecule_are_left_alone(run: Path, tmp_path: Path) -> None:
    stored = read_spectrum(run)
    made = gas_phase(stored, read_spectrum(experiment(tmp_path, "SOLUTION (10% IN CCl4)")), run).spectrum
    np.testing.assert_array_equal(made.absorption, stored.spectrum.absorption)
    assert "condensed phase" in made.metadata["notes"][-1]
    gas = read_spectrum(experiment(tmp_path, "GAS"))
    alone = gas_phase(stored, gas, tmp_path / "somewhere" / "spectrum.h5").spectrum
    assert "no molecule is known" in alone.metadata["notes"][-1]
    # Two computed spectra are compared as they are.
    assert gas_phase(stored, stored, run) is stored
