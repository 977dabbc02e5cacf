"""Correlation, windows, transforms and axes on signals with known answers."""

import numpy as np
import pytest

from hpcir.deck.sections import SpectrumSettings
from hpcir.errors import InputError
from hpcir.spectra.correlation import (
    WINDOWS,
    autocorrelation,
    autocorrelation_reference,
    cosine_transform,
    crosscorrelation,
    difference_response,
    differences,
    window,
)
from hpcir.spectra.intensities import (
    QUANTUM_CORRECTIONS,
    observed_frequency,
    quantum_correction,
    trajectory_spectra,
    wavenumber_grid,
)
from hpcir.units import FS, KELVIN, PER_CM, PS

KT = 300 * KELVIN


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 11]))


def line(wavenumber: float, between: float, length: float, phase: float = 0.3) -> np.ndarray:
    """A dipole (T, 3, 1) that oscillates along x at one true frequency."""
    times = np.arange(0, length, between)
    dipole = np.zeros((len(times), 3, 1))
    dipole[:, 0, 0] = np.cos(wavenumber * PER_CM * times + phase)
    return dipole


def test_autocorrelation_is_the_direct_sum():
    series = generator(1).normal(size=(57, 3, 5))
    assert np.allclose(autocorrelation(series, 40), autocorrelation_reference(series, 40), rtol=0, atol=1e-13)


def test_crosscorrelation_is_bilinear_and_symmetric():
    a, b = generator(2).normal(size=(2, 64, 3, 4))
    assert np.allclose(crosscorrelation(a, a, 30), autocorrelation(a, 30), atol=1e-13)
    whole = autocorrelation(a + b, 30)
    assert np.allclose(crosscorrelation(a, a + b, 30) + crosscorrelation(b, a + b, 30), whole, atol=1e-13)
    direct = [0.5 * ((a[: 64 - k] * b[k:]) + (b[: 64 - k] * a[k:])).sum(axis=(0, 1)) / (64 - k) for k in range(30)]
    assert np.allclose(crosscorrelation(a, b, 30), direct, atol=1e-13)


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_begin_at_one_and_keep_the_integral(name):
    weights = window(name, 200)
    assert weights[0] == pytest.approx(1, abs=1e-12)
    assert np.all(np.diff(weights) <= 1e-15)
    # The transform at all frequencies up to Nyquist integrates back to the correlation at lag zero.
    correlation = autocorrelation(generator(3).normal(size=(400, 3, 1)), 200)
    omega = np.pi * (np.arange(4000) + 0.5) / 4000
    transform = cosine_transform(correlation, weights, omega, 1.0)
    assert transform.sum() / 4000 == pytest.approx(correlation[0, 0], rel=1e-10)


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(InputError, match="hann, gaussian, blackman, none"):
        window("hamming", 5)
    with pytest.raises(InputError, match="harmonic, none, standard, schofield"):
        quantum_correction("egelstaff", np.ones(2), KT)


def test_hann_window_gives_a_line_its_width():
    """The transform of a Hann window of depth D has a full width at half maximum of 1/D."""
    settings = SpectrumSettings(depth="2 ps", zero_padding=40)
    spectrum = trajectory_spectra(line(1500, 1 * FS, 40 * PS), 1 * FS, None, KT, settings)[0]
    grid = wavenumber_grid(settings)
    above = grid[spectrum > spectrum.max() / 2]
    assert np.ptp(above) == pytest.approx(2 * np.pi / (2 * PS * PER_CM), abs=3 * (grid[1] - grid[0]))


def test_zero_padding_refines_the_grid_and_changes_nothing_else():
    dipoles = line(1510, 2 * FS, 10 * PS)
    coarse, fine = (SpectrumSettings(zero_padding=n) for n in (4, 16))
    few, many = (trajectory_spectra(dipoles, 2 * FS, None, KT, s)[0] for s in (coarse, fine))
    grids = wavenumber_grid(coarse), wavenumber_grid(fine)
    step = round((grids[0][1] - grids[0][0]) / (grids[1][1] - grids[1][0]))
    assert step > 1
    assert np.allclose(grids[1][::step], grids[0])
    assert np.allclose(many[::step], few, rtol=1e-12, atol=1e-12 * few.max())


def test_difference_response_is_exact():
    """Differences of cos(omega t) are a sine at half steps with the stated amplitude."""
    omega, between = 0.9, 1.7
    times = between * np.arange(50)
    expected = -difference_response(np.array(omega), between) * np.sin(omega * (times[:-1] + between / 2))
    assert np.allclose(differences(np.cos(omega * times), between), expected, atol=1e-14)


@pytest.mark.parametrize("between", [0.5, 1.0, 2.0, 4.0])
def test_sampling_interval_does_not_change_intensities(between):
    """A line at 3600 cm-1, however coarsely sampled: integral of the squared amplitude times omega^2 / 2."""
    settings = SpectrumSettings(window="gaussian", last="4000 cm-1")
    dipoles = line(3600, between * FS, 30 * PS)
    spectrum = trajectory_spectra(dipoles, between * FS, None, KT, settings)[0]
    grid = wavenumber_grid(settings)
    finest = trajectory_spectra(line(3600, 0.25 * FS, 30 * PS), 0.25 * FS, None, KT, settings)[0]
    near = np.abs(grid - 3600) < 150
    assert spectrum[near].sum() == pytest.approx(finest[near].sum(), rel=3e-4)
    assert grid[np.argmax(spectrum)] == 3600


@pytest.mark.parametrize("timestep", [0.5, 1.0])
def test_timestep_correction_undoes_velocity_verlet(timestep):
    """An oscillator integrated by velocity Verlet: true position and thermal intensity of its exact trajectory."""
    step, true = timestep * FS, 3600 * PER_CM
    count = int(20 * PS / step)
    x, v = 1.0, 0.0
    positions = np.zeros((count, 3, 1))
    for i in range(count):
        positions[i, 0, 0] = x
        v -= 0.5 * step * true**2 * x
        x += step * v
        v -= 0.5 * step * true**2 * x
    between = 2 if timestep == 0.5 else 1
    settings = SpectrumSettings(window="gaussian", zero_padding=20)
    off = settings.model_copy(update={"timestep_correction": False})
    grid = wavenumber_grid(settings)
    corrected, raw = (trajectory_spectra(positions[::between], between * step, step, KT, s)[0] for s in (settings, off))
    exact = trajectory_spectra(line(3600, step, 20 * PS), step, None, KT, settings)[0]
    assert abs(grid[np.argmax(corrected)] - 3600) <= grid[1] - grid[0]
    shift = observed_frequency(np.array([true]), step)[0] / PER_CM
    assert shift - 3600 > 15
    assert abs(grid[np.argmax(raw)] - shift) <= grid[1] - grid[0]
    assert corrected.sum() == pytest.approx(exact.sum(), rel=1e-3)


def test_axis_errors_name_the_limit():
    dipoles = line(1000, 5 * FS, 10 * PS)
    with pytest.raises(InputError, match="3336 cm-1"):
        trajectory_spectra(dipoles, 5 * FS, None, KT, SpectrumSettings())
    with pytest.raises(InputError, match="shorter"):
        trajectory_spectra(dipoles[:100], 5 * FS, None, KT, SpectrumSettings(last="3000 cm-1"))
    with pytest.raises(InputError, match="timestep"):
        trajectory_spectra(dipoles, 5 * FS, 5 * FS, KT, SpectrumSettings(last="3000 cm-1"))
    with pytest.raises(InputError, match="shape"):
        trajectory_spectra(dipoles[:, :2], 5 * FS, None, KT, SpectrumSettings())
    with pytest.raises(InputError, match="last"):
        wavenumber_grid(SpectrumSettings(first="2000 cm-1", last="1000 cm-1"))


@pytest.mark.parametrize("name", QUANTUM_CORRECTIONS)
def test_quantum_corrections_against_their_definition(name):
    """Absorption is omega (1 - exp(-x)) Q C_classical; the harmonic one has Q = x / (1 - exp(-x))."""
    wavenumbers = np.array([10.0, 500, 1500, 3600])
    x = wavenumbers * PER_CM / KT
    q = {"harmonic": x / (1 - np.exp(-x)), "none": 1, "standard": 2 / (1 + np.exp(-x)), "schofield": np.exp(x / 2)}
    expected = (1 - np.exp(-x)) * q[name] / x
    assert np.allclose(quantum_correction(name, wavenumbers, KT), expected, rtol=1e-12)
    assert quantum_correction(name, np.zeros(1), KT)[0] == pytest.approx(1, abs=1e-6)
