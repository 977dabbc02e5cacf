"""Comparison of spectra: overlap, matched bands, noise, pairing, and scaling that is never silent."""

import numpy as np
import pytest

from hpcir.errors import InputError
from hpcir.spectra.bands import Band, curve_bands
from hpcir.spectra.compare import compare, match_bands, overlap, scaled
from hpcir.spectra.spectrum import Spectrum

GRID = np.arange(0.0, 4000.0, 2.5)


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 0]))


def curve(lines, grid=GRID, width=15.0):
    shapes = [
        height * np.exp(-0.5 * ((grid - place) / width) ** 2) / (width * np.sqrt(2 * np.pi)) for place, height in lines
    ]
    return np.sum(shapes, axis=0)


def make(lines, errors=(1.0, 0.5), grid=GRID):
    bands = tuple(
        Band(place, errors[1], height, errors[0], place, errors[1], place - 60, place + 60, errors[0])
        for place, height in lines
    )
    values = curve(lines, grid)
    return Spectrum(grid, values, 0.02 * values, bands)


LINES = [(600.0, 40.0), (1000.0, 100.0), (1450.0, 10.0), (3600.0, 25.0)]


def test_a_spectrum_is_like_itself():
    result = compare(make(LINES), make(LINES))
    assert (result.pearson, result.cosine, result.information) == pytest.approx((1, 1, 1))
    assert len(result.matches) == 4
    assert result.mean_absolute_shift == 0
    assert not any(match.position_differs or match.intensity_differs for match in result.matches)
    assert result.area_first == pytest.approx(175, rel=1e-3)
    assert result.notes == ()


def test_differences_beyond_the_noise_are_named():
    other = [(601.0, 41.0), (1003.0, 100.0), (1450.0, 15.0), (3600.0, 25.0)]
    result = compare(make(LINES), make(other))
    assert [match.position_differs for match in result.matches] == [False, True, False, False]
    assert [match.intensity_differs for match in result.matches] == [False, False, True, False]
    assert [match.shift_per_cm for match in result.matches] == pytest.approx([-1, -3, 0, 0])
    assert result.matches[2].intensity_ratio == pytest.approx(10 / 15)
    assert result.matches[0].shift_stderr == pytest.approx(np.hypot(0.5, 0.5))
    assert "(differs)" in result.describe()


def test_overlap_of_curves():
    a = curve([(1000, 1.0)])
    assert overlap(a, 7 * a) == pytest.approx((1, 1, 1))
    pearson, cosine, information = overlap(a, curve([(3000, 1.0)]))
    assert pearson < 0
    assert cosine == pytest.approx(0, abs=1e-6)
    assert information < 0.2
    # Two Gaussians shifted by d overlap with a cosine of exp(-d^2 / (4 width^2)).
    assert overlap(a, curve([(1012, 1.0)]))[1] == pytest.approx(np.exp(-(12**2) / (4 * 15**2)), rel=1e-4)
    masked = a.copy()
    masked[380:390] = np.nan
    assert overlap(masked, a)[1] == pytest.approx(1)
    with pytest.raises(InputError, match="empty"):
        overlap(0 * a, a)


def test_information_similarity_is_the_symmetric_divergence():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    divergence = np.sum(p * np.log(p / q)) + np.sum(q * np.log(q / p))
    assert overlap(p, q)[2] == pytest.approx(1 / (1 + divergence))


def test_matching_is_one_to_one_and_prefers_equal_strength():
    first = make([(1000.0, 100.0), (1030.0, 2.0)]).bands
    second = make([(1012.0, 3.0), (1020.0, 90.0), (2000.0, 5.0)]).bands
    assert sorted(match_bands(first, second)) == [(0, 1), (1, 0)]
    result = compare(make([(1000.0, 100.0), (1030.0, 2.0)]), make([(1012.0, 3.0), (1020.0, 90.0), (2000.0, 5.0)]))
    assert [band.position_per_cm for band in result.only_second] == [2000]
    assert match_bands((), second) == []


def test_scaling_is_explicit_and_noted():
    first = make([(place / 0.97, height) for place, height in LINES])
    bare = compare(first, make(LINES))
    result = compare(first, make(LINES), position_scale=0.97, intensity_scale=2.0)
    assert bare.mean_absolute_shift > 20
    assert result.mean_absolute_shift == pytest.approx(0, abs=1e-9)
    assert result.matches[1].intensity_ratio == pytest.approx(2)
    assert "0.97" in result.notes[0]
    assert "2" in result.notes[0]
    by_area = compare(scaled(make(LINES), 1.0, 5.0), make(LINES), intensity_scale=None)
    assert by_area.matches[0].intensity_ratio == pytest.approx(1, rel=1e-6)
    assert "scaled" in by_area.notes[0]
    with pytest.raises(InputError, match="positive"):
        scaled(first, -1.0)


def test_scaling_positions_keeps_integrals():
    spectrum = scaled(make(LINES), 0.95)
    assert np.trapezoid(spectrum.absorption, spectrum.wavenumbers) == pytest.approx(175, rel=1e-3)


def test_different_grids():
    fine = np.arange(400.0, 3900.0, 0.5)
    result = compare(make(LINES), make(LINES, grid=fine))
    assert result.cosine == pytest.approx(1, abs=1e-4)
    assert result.lower >= 400
    assert result.upper <= 3900
    with pytest.raises(InputError, match="in common"):
        compare(make(LINES), make(LINES, grid=np.arange(5000.0, 6000.0, 1.0)))
    narrowed = compare(make(LINES), make(LINES), lower=800, upper=1600)
    assert len(narrowed.matches) == 2


def test_measured_curves_get_bands_without_error_bars():
    bands = curve_bands(GRID, curve(LINES), 40.0)
    assert [round(band.position_per_cm) for band in bands] == [600, 1000, 1450, 3600]
    assert bands[1].intensity_km_per_mol == pytest.approx(100, rel=0.02)
    assert np.isnan(bands[0].stderr_km_per_mol)
    measured = Spectrum(GRID, curve(LINES), np.full(len(GRID), np.nan), bands)
    result = compare(make(LINES), measured)
    assert all(match.intensity_differs is None for match in result.matches)
    assert "error unknown" in result.describe()


def test_pairing_removes_the_common_noise():
    """The same trajectories by two methods: intensities that differ by 3 %, under noise of 20 % that both share."""
    energies = generator(1).exponential(size=(40, 1))
    shape = curve([(1000, 100.0)])
    noise = generator(2).normal(size=(2, 40, 1)) * 0.01
    spectra = []
    for factor, extra in ((1.03, noise[0]), (1.0, noise[1])):
        terms = (factor * energies + extra) * shape
        error = terms.sum(axis=1).std(ddof=1) * 2.5 / np.sqrt(40)
        band = Band(1000, 1, terms.sum(axis=1).mean() * 2.5, error, 1000, 1, 940, 1060, error)
        spectra.append(Spectrum(GRID, terms.mean(axis=0), terms.std(axis=0), (band,), terms=terms))
    apart = compare(*spectra).matches[0]
    together = compare(*spectra, paired=True).matches[0]
    assert apart.intensity_differs is False
    assert together.intensity_differs is True
    assert together.intensity_stderr < 0.1 * apart.intensity_stderr
    assert together.intensity_difference == pytest.approx(3 * energies.mean(), abs=3 * together.intensity_stderr)
    with pytest.raises(InputError, match="same trajectories"):
        compare(make(LINES), make(LINES), paired=True)
