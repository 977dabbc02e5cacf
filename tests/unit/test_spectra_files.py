"""Spectra and dipole series in files: round trips, units, and errors that say where."""

import json

import numpy as np
import pytest
from matplotlib import pyplot
from scipy import constants

from hpcir.errors import InputError
from hpcir.spectra.bands import Band
from hpcir.spectra.compare import compare, scaled
from hpcir.spectra.files.jcamp import read_jcamp, write_jcamp
from hpcir.spectra.series import read_series
from hpcir.spectra.spectrum import Spectrum
from hpcir.storage.hdf5 import write_h5
from hpcir.study.results.spectrum_files import FORMAT, read_spectrum, write_spectrum
from hpcir.units import ANGSTROM, DEBYE, FS, KELVIN

GRID = np.arange(400.0, 4000.0, 2.0)
CURVE = 3 * np.exp(-0.5 * ((GRID - 1000) / 20) ** 2) + 0.2 * np.exp(-0.5 * ((GRID - 3600) / 30) ** 2)


def make_spectrum() -> Spectrum:
    band = Band(1000, 1, 150, 2, 1000, 0.5, 900, 1100, 2, assignment="C-O stretch <a>")
    terms = CURVE * np.array([[0.9], [1.1]])
    return Spectrum(GRID, CURVE, 0.1 * CURVE, (band,), 300 * KELVIN, terms, CURVE, {"verdict": "fine"})


def test_csv_round_trip(tmp_path):
    path = tmp_path / "spectrum.csv"
    make_spectrum().to_csv(path)
    lines = path.read_text().splitlines()
    header = next(line for line in lines if not line.startswith("#"))
    assert header == "wavenumber_per_cm,absorption_km_per_mol_cm,stderr"
    assert any("km/mol" in line for line in lines if line.startswith("#"))
    read = Spectrum.from_csv(path)
    assert np.allclose(read.absorption, CURVE, rtol=1e-9)
    assert np.allclose(read.stderr, 0.1 * CURVE, rtol=1e-9)
    assert read.temperature == pytest.approx(300 * KELVIN)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wavenumber,absorption\n1,2\n", "not a spectrum file"),
        ("wavenumber_per_cm,absorption_km_per_mol_cm,stderr\n1,2,3\n2,x,3\n", ":3: expected three numbers"),
        ("wavenumber_per_cm,absorption_km_per_mol_cm,stderr\n1,2,3\n", "fewer than two"),
        ("", "no line"),
    ],
)
def test_csv_errors(tmp_path, text, words):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        Spectrum.from_csv(path)


def test_file_round_trip(tmp_path):
    first = make_spectrum()
    _, path = write_spectrum(tmp_path, "spectrum", first)
    second = read_spectrum(path).spectrum
    assert repr(second.bands) == repr(first.bands)  # errors that are not known are nan, which equals nothing
    assert np.array_equal(second.terms, first.terms)
    assert second.metadata == json.loads(json.dumps(first.metadata)) | {"source": str(path)}
    write_h5(path, {"wavenumbers": (GRID, "cm-1", "wavenumber")}, {"format": FORMAT})
    with pytest.raises(InputError, match="complete"):
        read_spectrum(path)


def test_plot_and_html():
    axes = make_spectrum().plot(label="x")
    assert axes.get_xlim() == (GRID[-1], GRID[0])
    page = make_spectrum()._repr_html_()
    assert page.startswith("<svg")
    assert "C-O stretch &lt;a&gt;" in page
    assert axes.figure in [pyplot.figure(number) for number in pyplot.get_fignums()]  # a notebook shows it
    pyplot.close("all")
    page = make_spectrum()._repr_html_()
    assert not pyplot.get_fignums()  # a figure for each cell that shows a spectrum would pile up


def test_a_spectrum_and_a_comparison_print_what_they_are():
    spectrum = make_spectrum()
    text = repr(spectrum)
    assert text.startswith("infrared spectrum, ")
    assert "km/mol" in text
    assert len(text.splitlines()) == 1 + len(spectrum.bands) + bool(spectrum.metadata.get("verdict"))
    found = compare(spectrum, scaled(spectrum, 1.01, 1.5))
    assert repr(found) == found.describe()
    page = found._repr_html_()
    assert "C-O stretch &lt;a&gt;" in page
    assert "<a>" not in page
    assert f"{found.pearson:.4f}" in page


def test_integral_interpolates():
    assert make_spectrum().integral(901, 1099) == pytest.approx(3 * 20 * np.sqrt(2 * np.pi), rel=1e-3)


def jcamp_text(y: np.ndarray, units: str, x: np.ndarray = GRID, **records: str) -> str:
    head = {
        "TITLE": "made up",
        "JCAMP-DX": "4.24",
        "DATA TYPE": "INFRARED SPECTRUM",
        **{name.upper().replace("__", "_"): value for name, value in records.items()},
        "XUNITS": records.get("xunits", "1/CM"),
        "YUNITS": units,
        "XFACTOR": "1.0",
        "YFACTOR": "1.0",
        "FIRSTX": f"{x[0]}",
        "LASTX": f"{x[-1]}",
        "NPOINTS": f"{len(x)}",
        "XYDATA": "(X++(Y..Y))",
    }
    rows = [f"{x[i]:.6f} " + " ".join(f"{v:.10f}" for v in y[i : i + 5]) for i in range(0, len(x), 5)]
    return "\n".join([*(f"##{k}={v}" for k, v in head.items()), *rows, "##END=", ""])


# 0.05 m of a gas at 2 kPa and 300 K.
PATH, PRESSURE, TEMPERATURE = 0.05, 2000.0, 300.0
PER_ABSORPTION = 10 * PRESSURE * PATH / (constants.R * TEMPERATURE)
RECORDS = {"path length": "5 CM", "partial__pressure": "2 kPa", "temperature": "300 K"}


@pytest.mark.parametrize("form", ["transmittance", "percent", "absorbance", "descending"])
def test_jcamp_to_absolute_intensities(tmp_path, form):
    """Made from a known absorption by Beer and Lambert's law, and read back."""
    thin = 0.2 * CURVE
    transmittance = np.exp(-thin * PER_ABSORPTION)
    x = GRID
    if form == "percent":
        text = jcamp_text(100 * transmittance, "% TRANSMITTANCE", **RECORDS)
    elif form == "absorbance":
        text = jcamp_text(-np.log10(transmittance), "ABSORBANCE", **RECORDS)
    elif form == "descending":
        text = jcamp_text(transmittance[::-1], "TRANSMITTANCE", x[::-1], **RECORDS)
    else:
        text = jcamp_text(transmittance, "TRANSMITTANCE", **RECORDS)
    path = tmp_path / "gas.jdx"
    path.write_text(text)
    spectrum = read_jcamp(path)
    assert spectrum.metadata["absolute"]
    assert np.allclose(spectrum.wavenumbers, GRID)
    assert np.allclose(spectrum.absorption, thin, atol=2e-6)
    assert spectrum.temperature == pytest.approx(300 * KELVIN)
    assert spectrum.bands[0].position_per_cm == pytest.approx(1000, abs=1)
    assert spectrum.bands[0].intensity_km_per_mol == pytest.approx(0.6 * 20 * np.sqrt(2 * np.pi), rel=0.02)


def test_jcamp_masks_saturation_and_says_so(tmp_path):
    path = tmp_path / "thick.jdx"
    path.write_text(jcamp_text(np.exp(-2 * CURVE), "TRANSMITTANCE", **RECORDS))
    spectrum = read_jcamp(path)
    masked = np.isnan(spectrum.absorption)
    assert np.array_equal(masked, np.exp(-2 * CURVE) < 0.05)
    assert any("masked" in note for note in spectrum.metadata["notes"])
    assert not np.isnan(read_jcamp(path, saturation=1e-4).absorption).any()


def test_jcamp_without_pressure_is_relative_until_told(tmp_path):
    path = tmp_path / "relative.jdx"
    path.write_text(jcamp_text(np.exp(-0.5 * CURVE), "TRANSMITTANCE", **{"path length": "5 CM"}))
    spectrum = read_jcamp(path)
    assert not spectrum.metadata["absolute"]
    assert np.allclose(spectrum.absorption, 0.5 * CURVE, atol=1e-6)
    notes = " ".join(spectrum.metadata["notes"])
    assert "no pressure" in notes
    assert "296.15 K assumed" in notes
    told = read_jcamp(path, pressure=PRESSURE, temperature=TEMPERATURE)
    assert told.metadata["absolute"]
    assert np.allclose(told.absorption, 0.5 * CURVE / PER_ABSORPTION, atol=1e-5)


def test_jcamp_quantitative_units(tmp_path):
    """Absorbance to base 10 per micromol/mol and metre, at 101.3 kPa and 23 C: epsilon = a ln 10 / (1e-6 p/RT)."""
    path = tmp_path / "quantitative.jdx"
    records = {"pressure": "101.3 kPa", "temperature": "23 C"}
    path.write_text(jcamp_text(1e-3 * CURVE, "(micromol/mol)-1m-1 (base 10)", **records))
    density = 1e-6 * 101.3e3 / (constants.R * 296.15)
    assert np.allclose(read_jcamp(path).absorption, 0.1 * 1e-3 * CURVE * np.log(10) / density, atol=1e-4)


def test_jcamp_wavelengths(tmp_path):
    wavelengths = np.linspace(2.6, 20, 4000)
    curve = 0.3 * np.exp(-0.5 * ((1e4 / wavelengths - 1000) / 20) ** 2)
    path = tmp_path / "micrometres.jdx"
    path.write_text(jcamp_text(np.exp(-curve), "TRANSMITTANCE", wavelengths, xunits="MICROMETERS"))
    spectrum = read_jcamp(path)
    assert np.ptp(np.diff(spectrum.wavenumbers)) < 1e-6
    assert spectrum.wavenumbers[np.argmax(spectrum.absorption)] == pytest.approx(1000, abs=3)


def test_jcamp_round_trip(tmp_path):
    path = tmp_path / "ours.jdx"
    write_jcamp(make_spectrum(), path, "methanol", molform="C H4 O")
    read = read_jcamp(path)
    assert np.allclose(read.absorption, CURVE, atol=1e-8)
    assert np.allclose(read.wavenumbers, GRID)
    assert read.metadata["absolute"]
    assert read.temperature == pytest.approx(300 * KELVIN)
    assert "##MOLFORM=C H4 O" in path.read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello\n", "not a JCAMP"),
        (jcamp_text(CURVE, "TRANSMITTANCE").replace("INFRARED SPECTRUM", "NMR SPECTRUM"), "not an infrared"),
        (jcamp_text(CURVE, "COUNTS"), "units of the ordinate"),
        (jcamp_text(0 * CURVE + 0.5, "TRANSMITTANCE", xunits="EV"), "units of the abscissa"),
        (jcamp_text(200 * np.exp(-CURVE), "TRANSMITTANCE"), "exceeds 1"),
        (jcamp_text(0 * CURVE, "TRANSMITTANCE"), "saturated"),
        (jcamp_text(CURVE, "TRANSMITTANCE").replace("NPOINTS=1800", "NPOINTS=1700"), "no complete spectrum"),
    ],
)
def test_jcamp_errors(tmp_path, text, words):
    path = tmp_path / "bad.jdx"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_jcamp(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_jcamp(tmp_path / "missing.jdx")


DIPOLES = np.random.Generator(np.random.Philox(5)).normal(size=(20, 3))


def csv_text(header: str, times: np.ndarray | None = None) -> str:
    rows = [",".join(f"{v:.12g}" for v in row) for row in DIPOLES]
    if times is not None:
        rows = [f"{t:.12g},{row}" for t, row in zip(times, rows, strict=True)]
    return "# a comment\n" + "\n".join([header, *rows]) + "\n"


def test_series_from_csv(tmp_path):
    path = tmp_path / "series.csv"
    path.write_text(csv_text("time_fs,dipole_x_D,dipole_y_D,dipole_z_D", 0.5 * np.arange(20)))
    series = read_series(path)
    assert np.allclose(series.dipoles[:, :, 0], DIPOLES * DEBYE)
    assert series.time_between == pytest.approx(0.5 * FS)
    path.write_text(csv_text("mu_x,mu_y,mu_z"))
    series = read_series(path, "e*A", 2 * FS)
    assert np.allclose(series.dipoles[:, :, 0], DIPOLES * ANGSTROM)
    assert series.time_between == pytest.approx(2 * FS)


@pytest.mark.parametrize(
    ("text", "unit", "between", "words"),
    [
        (csv_text("x,y,z"), "D", 1.0, "name the three components"),
        (csv_text("dipole_x,dipole_y,dipole_z"), None, 1.0, "unit of the dipoles is not declared"),
        (csv_text("dipole_x_D,dipole_y_D,dipole_z_D"), "e*A", 1.0, "declares dipoles in D"),
        (csv_text("dipole_x_D,dipole_y_D,dipole_z_D"), None, None, "time between dipoles is not declared"),
        (csv_text("dipole_x_Cm,dipole_y_Cm,dipole_z_Cm"), None, 1.0, "unknown unit"),
        (csv_text("time,dipole_x_D,dipole_y_D,dipole_z_D", np.arange(20)), None, None, "declare its unit"),
        (csv_text("time_fs,dipole_x_D,dipole_y_D,dipole_z_D", np.arange(20.0) ** 2), None, None, "evenly"),
        (csv_text("time_fs,dipole_x_D,dipole_y_D,dipole_z_D", np.arange(20)), None, 2 * FS, "1 fs apart"),
        (csv_text("dipole_x_D,dipole_y_D,dipole_z_D") + "1,2\n", None, 1.0, r":23: expected 3 numbers"),
        (csv_text("dipole_x_D,dipole_y_D,dipole_z_D") + "1,2,nan\n", None, 1.0, r":23: a value is not finite"),
        ("dipole_x_D,dipole_y_D,dipole_z_D\n" + "0,0,0\n" * 9, None, 1.0, "never changes"),
        ("1,2,3\n2,3,4\n", "D", 1.0, "must name the columns"),
        ("", "D", 1.0, "no line"),
    ],
)
def test_series_errors(tmp_path, text, unit, between, words):
    path = tmp_path / "series.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_series(path, unit, between)


def test_series_from_npz(tmp_path):
    path = tmp_path / "series.npz"
    np.savez(path, dipoles=np.stack([DIPOLES, 2 * DIPOLES], axis=2), dipole_unit="D", time_between_fs=1.5)
    series = read_series(path)
    assert series.dipoles.shape == (20, 3, 2)
    assert np.allclose(series.dipoles[:, :, 1], 2 * DIPOLES * DEBYE)
    assert series.time_between == pytest.approx(1.5 * FS)
    np.savez(path, dipoles=DIPOLES.T, dipole_unit="D", time_between_fs=1.5)
    with pytest.raises(InputError, match=r"\(times, 3\)"):
        read_series(path)
    np.savez(path, mu=DIPOLES)
    with pytest.raises(InputError, match="no array 'dipoles'"):
        read_series(path)


def frames(dipoles: list[str]) -> str:
    return "".join(f"1\nProperties=species:S:1:pos:R:3 {d}\nHe 0 0 0\n" for d in dipoles)


def test_series_from_extxyz(tmp_path):
    path = tmp_path / "series.xyz"
    lines = [
        f'dipole="{x:.12g} {y:.12g} {z:.12g}" dipole_unit=D time_fs={2.0 * i}' for i, (x, y, z) in enumerate(DIPOLES)
    ]
    path.write_text(frames(lines))
    series = read_series(path)
    assert np.allclose(series.dipoles[:, :, 0], DIPOLES * DEBYE)
    assert series.time_between == pytest.approx(2 * FS)
    path.write_text(frames([*lines[:4], "", *lines[5:]]))
    with pytest.raises(InputError, match="frame 5: no dipole"):
        read_series(path)
    with pytest.raises(InputError, match="no such file"):
        read_series(tmp_path / "none.csv")
    (tmp_path / "series.dcd").write_text("")
    with pytest.raises(InputError, match=r"\.csv"):
        read_series(tmp_path / "series.dcd")
