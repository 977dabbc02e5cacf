"""`hpcir spectrum` and `compare`: of own trajectories, of dipoles in a table, of curves from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hpcir.spectra.files.jcamp import write_jcamp
from hpcir.spectra.spectrum import Spectrum
from hpcir.study.results.spectrum_files import read_spectrum
from hpcir.units import FS, KELVIN, KM_PER_MOL_PER_E2_ME, PER_CM
from tests.commands.conftest import Command, done, refused


def test_compare_is_paired(by_model: Path, by_labels: Path, tmp_path: Path, command: Command) -> None:
    out = done(command("compare", by_model, by_labels, "-o", tmp_path))
    assert "trajectory by trajectory" in out
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["paired"] is True
    assert found["verdict"] in out
    assert (tmp_path / "comparison.png").stat().st_size > 5000


def test_spectrum_of_own_trajectories_is_that_of_md(
    by_labels: Path, place: Path, tmp_path: Path, command: Command
) -> None:
    series = sorted((by_labels / "trajectories").glob("main-*.h5"))
    out = done(command("spectrum", *series, "--deck", place / "deck.yaml", "-o", tmp_path / "out"))
    assert "km/mol" in out
    own, again = read_spectrum(by_labels), read_spectrum(tmp_path / "out")
    assert np.allclose(own.spectrum.absorption, again.spectrum.absorption, rtol=1e-10)
    assert again.starts == own.starts
    assert again.trajectories is not None
    assert again.trajectories.tolist() == [0, 1, 2]
    refused(
        command(
            "spectrum",
            *series,
            "--deck",
            place / "deck.yaml",
            "--temperature",
            "500 K",
            "-o",
            tmp_path / "other",
        ),
        "temperature is 300 K",
        "500 K",
    )


def cosine_series(path: Path, wavenumber: float, amplitude: float, step: float, header: str = "D") -> Path:
    """A dipole that swings at one wavenumber (cm-1) with an amplitude in debye, every `step` fs for 5 ps."""
    times = np.arange(0, 5000, step)
    x = amplitude * np.cos(wavenumber * PER_CM * times * FS)
    rows = [f"{t},{value:.10f},0,0" for t, value in zip(times, x, strict=True)]
    path.write_text("\n".join([f"time_fs,dipole_x_{header},dipole_y_{header},dipole_z_{header}", *rows]))
    return path


def test_intensity_of_a_cosine(tmp_path: Path, command: Command) -> None:
    """The spectrum integrates to K <mudot^2> / kT with K = N_A/(12 eps0 c^2): the known answer of one oscillator."""
    series = cosine_series(tmp_path / "series.csv", 1500, 0.1, 2.0)
    arguments = ["spectrum", series, "--temperature", "300 K", "-o", tmp_path / "out"]
    done(command(*arguments))
    found = read_spectrum(tmp_path / "out").spectrum
    from hpcir.units import DEBYE

    velocity = 1500 * PER_CM * 0.1 * DEBYE
    expected = KM_PER_MOL_PER_E2_ME * 0.5 * velocity**2 / (300 * KELVIN)
    assert found.integral(1300, 1700) == pytest.approx(expected, rel=0.01)
    assert found.wavenumbers[np.argmax(found.absorption)] == pytest.approx(1500, abs=3)
    refused(command(*arguments), "exists already")


@pytest.mark.parametrize(
    ("header", "options", "words"),
    [
        ("D", [], ["temperature is not declared", "--temperature"]),
        ("furlong", ["--temperature", "300 K"], ["unknown unit", "furlong"]),
        ("D", ["--temperature", "300 K", "--unit", "e*A"], ["declares dipoles in D"]),
        ("D", ["--temperature", "300 K", "--step", "1 fs"], ["5 fs apart", "1 fs"]),
        ("D", ["--temperature", "-300 K"], ["more than 0"]),
        ("D", ["--temperature", "300 K"], ["dynamics.dipole_every"]),
    ],
)
def test_spectrum_takes_nothing_for_granted(
    tmp_path: Path, command: Command, header: str, options: list[str], words: list[str]
) -> None:
    series = cosine_series(tmp_path / "series.csv", 500, 0.1, 5.0, header)
    refused(command("spectrum", series, *options, "-o", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def gaussians(*places: tuple[float, float]) -> Spectrum:
    grid = np.arange(400.0, 4000.0, 2.0)
    bands = [height * np.exp(-0.5 * ((grid - place) / 15) ** 2) for place, height in places]
    return Spectrum(grid, np.sum(bands, axis=0), np.full(len(grid), np.nan), temperature=300 * KELVIN)


def test_compare_finds_the_shift(tmp_path: Path, command: Command) -> None:
    first, second = gaussians((1010, 2.0), (3000, 1.0)), gaussians((1000, 1.0), (3000, 1.0))
    first.to_csv(tmp_path / "first.csv")
    write_jcamp(second, tmp_path / "second.jdx")
    out = done(command("compare", tmp_path / "first.csv", tmp_path / "second.jdx", "-o", tmp_path / "out"))
    assert "errors are unknown" in out
    found = json.loads((tmp_path / "out/comparison.json").read_text())
    assert [band["shift_per_cm"] for band in found["bands"]] == pytest.approx([10, 0], abs=0.3)
    assert [band["intensity_ratio"] for band in found["bands"]] == pytest.approx([2, 1], rel=0.01)
    same = done(command("compare", tmp_path / "first.csv", tmp_path / "first.csv"))
    assert "Pearson 1.0000, cosine 1.0000, spectral information similarity 1.0000" in same


def test_terms_of_trajectories_survive_the_file(tmp_path: Path) -> None:
    from hpcir.study.results.spectrum_files import paired, write_spectrum

    one = gaussians((1000, 1.0))
    terms = np.outer([0.5, 1.0, 1.5], one.absorption)
    full = Spectrum(one.wavenumbers, one.absorption, one.stderr, terms=terms, temperature=one.temperature)
    write_spectrum(tmp_path, "a", full, [0, 1, 2], "same")
    write_spectrum(
        tmp_path,
        "b",
        Spectrum(one.wavenumbers, one.absorption, one.stderr, terms=terms[::-1]),
        [5, 2, 1],
        "same",
    )
    write_spectrum(tmp_path, "c", full, [0, 1, 2], "other")
    a, b, c = (read_spectrum(tmp_path / f"{name}.h5") for name in "abc")
    pair = paired(a, b)
    assert pair is not None
    assert np.array_equal(pair[0].terms, terms[[1, 2]])
    # The second file's rows are trajectories 5, 2 and 1: the two that both have, in the order of their numbers.
    assert np.array_equal(pair[1].terms, terms[[0, 1]])
    assert paired(a, c) is None
