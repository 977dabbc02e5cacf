"""Estimators: fast forms against plain twins, unbiasedness, honest error bars, verdicts."""

import numpy as np
import pytest

from hpcir.deck.sections import SpectrumSettings
from hpcir.errors import InputError
from hpcir.spectra.band_limits import band_limits, leaked_part, maxima_apart, prominences
from hpcir.spectra.bands import (
    Band,
    Committee,
    OtherErrors,
    Populations,
    band_functionals,
    fit_to_band,
    integration_weights,
    unseen_crossings,
)
from hpcir.spectra.controls import (
    MAX_CONTROLS,
    SECOND,
    Controls,
    ModeMoments,
    Prior,
    local_controls,
    mode_controls,
    mode_moments,
    moment_controls,
)
from hpcir.spectra.estimate import combine, trajectories_needed
from hpcir.spectra.estimators import (
    ControlVariates,
    Regression,
    sparse_regression,
    standard_error,
    stated_error,
    terms_reference,
)
from hpcir.spectra.intensities import kinetic_means, wavenumber_grid
from hpcir.spectra.sparse import posterior, relevance
from hpcir.units import FS, KELVIN, PER_CM, PS

KT = 300 * KELVIN
MODES = np.array([600.0, 1100.0, 1150.0, 3400.0])


def generator(seed: int, repeat: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, repeat]))


def harmonic_moments(energies: np.ndarray) -> ModeMoments:
    """Exact time averages of harmonic modes with these energies (R, M) in kT: velocities s = sqrt(2 e kT) cos."""
    mean = energies * KT
    fourth = mean[:, :, None] * mean[:, None, :]
    diagonal = np.arange(energies.shape[1])
    fourth[:, diagonal, diagonal] *= 1.5
    second = np.zeros_like(fourth)
    second[:, diagonal, diagonal] = mean
    return ModeMoments(second, fourth, np.ones((len(energies), 1)), mean[:, None, :])


def band_values(energies: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Something like the integral of a band near 1100 cm-1, nonlinear in the energies; its mean is known."""
    return 50 * energies[:, 1] + 20 * energies[:, 2] + 3 * energies[:, 1] * energies[:, 0] + energies[:, 1] ** 2 + noise


BAND_MEAN = 50 + 20 + 3 + 2


@pytest.mark.parametrize(("count", "controls"), [(30, 5), (12, 40)])
def test_all_left_out_regressions_at_once(count, controls):
    random = generator(1)
    values, deviations = random.normal(size=(count, 3)), random.normal(size=(count, controls)) + 0.3
    weights = random.uniform(0.1, 2, controls)
    for strength in (1e-2, 1.0):
        fast = Regression.of(deviations, weights).terms(values, [0.1, strength])[1]
        assert np.allclose(fast, terms_reference(values, deviations, weights, strength), rtol=1e-9, atol=1e-9)


def test_the_choice_is_linear_in_the_values():
    random = generator(2)
    energies = random.exponential(size=(40, 4))
    controls = moment_controls(harmonic_moments(energies), MODES, KT)
    values = np.c_[band_values(energies, random.normal(size=40)), energies[:, 1]]
    estimator = ControlVariates(controls)
    choice = estimator.choose(values[:, :1], 1100.0)
    mix = np.array([[2.0], [-3.0]])
    assert np.allclose(choice.terms(values @ mix), choice.terms(values) @ mix)
    # Nothing of a trajectory's own fold enters what is subtracted from it.
    for fold in estimator.folds:
        assert not np.any(choice.matrix[np.ix_(fold, fold)])
        assert np.any(choice.matrix[np.ix_(fold, ~fold)])


def test_predictor_is_the_ridge_regression():
    random = generator(12)
    values, deviations, others = random.normal(size=30), random.normal(size=(30, 5)), random.normal(size=(4, 5))
    weights = random.uniform(0.5, 2, 5)
    design = np.c_[np.ones(30), deviations]
    penalty = np.diag(np.r_[0.0, 0.1 * 30 / weights])
    coefficients = np.linalg.solve(design.T @ design + penalty, design.T @ values)
    regression = Regression.of(deviations, weights)
    assert np.allclose(regression.predictor(others, 0.1) @ values, others @ coefficients[1:])
    hat = design @ np.linalg.solve(design.T @ design + penalty, design.T)
    assert regression.freedom([0.1])[0] == pytest.approx(np.trace(hat) - 1)


def test_moments_of_time_series():
    random = generator(3)
    series = random.normal(size=(50, 3, 4))
    kinds = random.integers(0, 2, size=(50, 4))
    moments = mode_moments(series, kinds, 2)
    one = series[:, :, 1]
    assert np.allclose(moments.second[1], one.T @ one / 50)
    assert np.allclose(moments.fourth[1, 0, 2], np.mean(one[:, 0] ** 2 * one[:, 2] ** 2))
    assert np.allclose(moments.conformer[1, 1, 2], np.mean(one[:, 2] ** 2 * (kinds[:, 1] == 1)))
    halves = [mode_moments(series[part], kinds[part], 2) for part in (slice(0, 25), slice(25, 50))]
    assert np.allclose(ModeMoments.over_time(halves).fourth, moments.fourth)
    blocks = [mode_moments(series[:, :, part], kinds[:, part], 2) for part in (slice(0, 1), slice(1, 4))]
    assert np.allclose(ModeMoments.over_trajectories(blocks).conformer, moments.conformer)


def test_controls_have_mean_zero_in_the_canonical_ensemble():
    """Normal velocities of variance kT, correlated in time, in two conformers: every control averages to zero."""
    random = generator(4)
    count, modes, length = 4000, 3, 6
    s = np.sqrt(KT) * random.normal(size=(length, modes, count))
    s[1::2] = 0.8 * s[::2] + 0.6 * s[1::2]
    kinds = np.broadcast_to(random.integers(0, 2, size=count), (length, count))
    controls = moment_controls(mode_moments(s, kinds, 2), np.tile(MODES[:modes], (2, 1)), KT)
    score = controls.deviations.mean(axis=0) / standard_error(controls.deviations)
    assert controls.deviations.shape[1] == modes + modes * (modes - 1) // 2 + modes * (modes + 1) // 2 + 2 * modes
    assert np.abs(score).max() < 4
    assert 0.5 < np.mean(score**2) < 1.8


def test_second_order_controls_are_uncorrelated_and_of_unit_variance_for_harmonic_modes():
    controls = moment_controls(harmonic_moments(generator(5).exponential(size=(200_000, 3))), MODES[:3], KT)
    used = controls.deviations[:, controls.deviations.var(axis=0) > 0]
    assert np.allclose(np.cov(used.T), np.eye(used.shape[1]), atol=0.15)


def test_kinetic_means_of_velocity_verlet_after_baoab():
    """BAOAB itself, then velocity Verlet, on a harmonic mode: positions exact, full-step velocities short by (w
    dt/2)^2."""
    random = generator(6)
    step, omega, count = 0.5 * FS, 3600 * PER_CM, 20_000
    x, v = np.sqrt(KT) / omega * random.normal(size=count), np.sqrt(KT) * random.normal(size=count)
    keep = np.exp(-step / (20 * FS))
    for _ in range(300):
        v -= 0.5 * step * omega**2 * x
        x += 0.5 * step * v
        v = keep * v + np.sqrt((1 - keep**2) * KT) * random.normal(size=count)
        x += 0.5 * step * v
        v -= 0.5 * step * omega**2 * x
    full, half = np.zeros(count), np.zeros(count)
    for _ in range(200):
        v -= 0.5 * step * omega**2 * x
        half += 0.5 * v**2 / 200
        x += step * v
        v -= 0.5 * step * omega**2 * x
        full += 0.5 * v**2 / 200
    expected = kinetic_means(np.array([3600.0]), step, KT)[0]
    assert full.mean() == pytest.approx(expected, abs=3 * standard_error(full[:, None])[0])
    # The two differ trajectory by trajectory, so their ratio is sharp: it proves the correction, 2.9 %.
    assert full.mean() / half.mean() == pytest.approx(
        expected / kinetic_means(np.array([3600.0]), None, KT)[0], rel=2e-4
    )


def test_distant_controls_weigh_less_and_large_sets_are_pruned():
    controls = mode_controls(np.ones((10, 4)) * KT / 2, MODES, KT)
    energies, everything = Prior((1.0, 0, 0, 0, 0)), Prior((1.0, 1.0, 1.0, 1.0, 1.0))
    weights = controls.weights(1100.0, energies)
    assert weights[1] == 1
    assert weights[1] > weights[2] > weights[0] > 0
    assert np.all(controls.deviations == 0)
    many = moment_controls(harmonic_moments(np.ones((2, 40))), np.linspace(100, 3000, 40), KT)
    assert np.count_nonzero(many.weights(1000.0, everything)) == MAX_CONTROLS
    assert np.all(many.weights(1000.0, energies)[many.family == SECOND] == 0)


def test_families_join():
    energies = generator(13).exponential(size=(10, 4))
    modes = mode_controls(energies * KT / 2, MODES, KT)
    bonds = local_controls(energies[:, :2] * KT, np.array([1000.0, 3400.0]), KT)
    assert np.allclose(bonds.deviations, energies[:, :2] - 1)
    both = Controls.join(modes, bonds)
    assert both.deviations.shape == (10, 6)
    assert np.array_equal(both.subset(np.arange(3)).deviations, both.deviations[:3])


def test_products_of_modes_are_near_their_combination_bands():
    """At the sum and at the difference of two modes their product counts as a mode there would."""
    controls = moment_controls(harmonic_moments(np.ones((2, 4))), MODES, KT)
    wanted = (controls.family == SECOND) & np.all(controls.wavenumbers == [600, 1100], axis=1)
    plain, combined, _ = controls.starts(1700.0)
    assert combined[wanted] == pytest.approx(0.3)
    assert combined[wanted] > 20 * plain[wanted]
    assert controls.starts(500.0)[1][wanted] == pytest.approx(0.3)


@pytest.mark.parametrize(("count", "controls"), [(30, 5), (12, 40)])
def test_posterior_is_that_of_the_bayesian_linear_model(count, controls):
    random = generator(14)
    centred, targets = random.normal(size=(count, controls)), random.normal(size=(count, 2))
    variances = random.uniform(0.1, 2, controls)
    covariance = np.linalg.inv(centred.T @ centred / 0.3 + np.diag(1 / variances))
    means, gammas = posterior(centred, targets, variances, 0.3)
    assert np.allclose(means, covariance @ centred.T @ targets / 0.3)
    assert np.allclose(gammas, 1 - np.diag(covariance) / variances)


def test_the_controls_that_matter_are_found():
    """Three of 150 controls make the values; 56 trajectories suffice to say which."""
    random = generator(15)
    deviations = random.normal(size=(56, 150))
    values = deviations[:, [3, 70, 120]] @ np.array([[1.0], [0.5], [-0.4]]) + 0.1 * random.normal(size=(56, 1))
    used, variances, freedom = relevance(deviations, values, np.ones(150), 20.0)
    assert set(used[np.argsort(-variances)[:3]]) == {3, 70, 120}
    assert 3 < freedom < 20
    regression = sparse_regression(deviations, values, np.ones(150))
    fresh = random.normal(size=(1000, 150))
    exact = fresh[:, [3, 70, 120]] @ [1.0, 0.5, -0.4]
    errors = regression.predictor(fresh, 1 / 56) @ values[:, 0] - exact
    # Within the noise of one value, where the best ridge regression on all controls is far from it.
    dense = Regression.of(deviations, np.ones(150))
    ridge = min((dense.predictor(fresh, k) @ values[:, 0] - exact).std() for k in (1e-3, 1e-2, 0.1, 1.0))
    assert errors.std() < 0.1 < ridge / 3
    assert sparse_regression(deviations, np.ones((56, 1)), np.ones(150)) is None


def repeated_estimates(count: int, repeats: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Deviations from the known answer, scores with and without control variates, and variance gains."""
    rows = []
    for repeat in range(repeats):
        random = generator(7 + count, repeat)
        energies = random.exponential(size=(count, 4))
        values = band_values(energies, random.normal(size=count))[:, None]
        estimator = ControlVariates(moment_controls(harmonic_moments(energies), MODES, KT))
        terms = estimator.choose(values, 1100.0).terms(values)
        error, plain = standard_error(terms)[0], standard_error(values)[0]
        deviation = terms.mean() - BAND_MEAN
        rows.append((deviation, deviation / error, (values.mean() - BAND_MEAN) / plain, (plain / error) ** 2))
    return tuple(np.array(rows).T)


@pytest.mark.parametrize("count", [12, 32])
def test_unbiased_with_honest_error_bars_in_few_repeats(count):
    deviations, scores, _, gains = repeated_estimates(count, 40)
    assert abs(np.mean(deviations)) < 3 * np.std(deviations) / np.sqrt(40)
    assert np.mean(np.abs(scores) < 2) > 0.8
    assert np.median(gains) > 20


@pytest.mark.long
@pytest.mark.parametrize("count", [12, 32, 64])
def test_unbiased_with_honest_error_bars(count):
    """200 repeats of an estimate with a known answer: mean deviation within its error, error bars that cover it."""
    deviations, scores, others, gains = repeated_estimates(count, 200)
    assert abs(np.mean(deviations)) < 3 * np.std(deviations) / np.sqrt(200)
    # 95 % for normal deviates; exponential energies and their squares are skewed, and the plain mean has 90 % too.
    inside, plain = np.mean(np.abs(scores) < 2), np.mean(np.abs(others) < 2)
    assert plain - 0.06 < inside < 0.995
    assert inside > 0.85
    assert np.median(gains) > 20


def test_useless_controls_do_no_harm():
    """Controls that have nothing to do with the values: the error grows by little."""
    loss = []
    for repeat in range(50):
        random = generator(8, repeat)
        controls = moment_controls(harmonic_moments(random.exponential(size=(16, 4))), MODES, KT)
        values = random.exponential(size=(16, 1))
        estimator = ControlVariates(controls)
        terms = estimator.choose(values, 1100.0).terms(values)
        loss.append((terms.mean() - 1) ** 2 / max(1e-12, np.var(values) / 16))
    assert np.mean(loss) < 1.8


def test_the_curve_is_no_rougher_than_the_spectra():
    """Two modes make one band, and its position moves with a third: what is regressed window by window leaves no
    steps, and the weights of the trajectories give the same curve."""
    random = generator(16)
    grid = np.arange(800.0, 1400.0, 2.5)
    energies = random.exponential(size=(48, 4))
    moved = grid - 1100 + 8 * energies[:, :1]
    spectra = energies[:, 1:2] * np.exp(-0.5 * (moved / 30) ** 2) + energies[:, 2:3] * np.exp(-0.5 * (moved / 50) ** 2)
    estimator = ControlVariates(moment_controls(harmonic_moments(energies), MODES, KT))
    terms, weights, freedom = estimator.curve(spectra, grid)
    assert freedom.min() >= 0
    assert np.allclose((weights * spectra).sum(axis=0), terms.mean(axis=0))
    rough = [np.std(np.diff(curve.mean(axis=0), 2)) for curve in (terms, spectra)]
    assert rough[0] < 1.2 * rough[1]
    inside = spectra.mean(axis=0) > 0.05 * spectra.mean(axis=0).max()
    gain = (standard_error(spectra) / standard_error(terms))[inside]
    assert np.median(gain) > 2
    assert gain.min() > 0.8


def make_spectra(count: int, seed: int = 9) -> tuple[np.ndarray, Controls, SpectrumSettings]:
    """Spectra of trajectories with two bands whose intensity is proportional to the energy of their mode."""
    settings = SpectrumSettings(last="2000 cm-1")
    grid = wavenumber_grid(settings)
    energies = generator(seed).exponential(size=(count, 2))
    shapes = np.array([np.exp(-0.5 * ((grid - place) / 12) ** 2) / (12 * np.sqrt(2 * np.pi)) for place in (600, 1500)])
    spectra = energies @ (np.array([[80.0], [30.0]]) * shapes)
    return spectra, mode_controls(energies * KT / 2, np.array([600.0, 1500.0]), KT), settings


def test_combine_finds_bands_and_agrees_with_its_curve():
    spectra, controls, settings = make_spectra(24)
    spectrum = combine(spectra, settings, KT, controls)
    assert [round(band.position_per_cm) for band in spectrum.bands] == [600, 1500]
    for band, intensity in zip(spectrum.bands, (80, 30), strict=True):
        assert band.intensity_km_per_mol == pytest.approx(intensity, rel=2e-3)
        assert spectrum.integral(band.lower_per_cm, band.upper_per_cm) == pytest.approx(band.intensity_km_per_mol)
        assert band.stderr_km_per_mol < 0.01 * band.plain_stderr_km_per_mol
    assert np.allclose(spectrum.terms.mean(axis=0), spectrum.absorption)
    assert "Converged" in spectrum.metadata["verdict"]
    plain = combine(spectra, settings.model_copy(update={"estimator": "plain"}), KT, controls)
    assert np.allclose(plain.absorption, spectra.mean(axis=0))
    assert plain.metadata["estimator"] == "plain"
    assert "more trajectories" in plain.metadata["verdict"]


def test_a_curve_is_fitted_to_its_bands():
    """Two bands that touch: each integrates to its own regression, trajectory by trajectory, and the weights follow."""
    random = generator(17)
    grid = np.arange(0.0, 100.0, 2.5)
    spectra = 1 + random.exponential(size=(12, len(grid)))
    weights = np.full_like(spectra, 1 / 12)
    terms = spectra.copy()
    bands = [(0, 18), (18, 35)]
    areas = [100 + random.normal(size=12), 170 + random.normal(size=12)]
    for limits, area in zip(bands, areas, strict=True):
        fit_to_band(terms, weights, integration_weights(grid, *limits), area)
    for limits, area in zip(bands, areas, strict=True):
        assert np.allclose(terms @ integration_weights(grid, *limits), area)
    assert np.allclose((weights * spectra).sum(axis=0), terms.mean(axis=0))
    assert np.array_equal(terms[:, 36:], spectra[:, 36:])


def test_members_add_their_calibrated_spread():
    """Members whose spectra are those of the committee times a factor, from the same trajectories."""
    spectra, controls, settings = make_spectra(24)
    members = Committee(spectra * np.array([0.9, 1.0, 1.1])[:, None, None], (2.0, 3.0))
    plain = settings.model_copy(update={"estimator": "plain"})
    spectrum = combine(spectra, plain, KT, controls, OtherErrors(members))
    band = spectrum.bands[0]
    # 0.1 of the intensity, less the part that the scatter of 24 exponential energies makes, times the calibration.
    expected = 2 * 0.1 * band.intensity_km_per_mol
    assert 0.9 * expected < band.committee_stderr_km_per_mol < expected
    assert band.committee_stderr_per_cm == pytest.approx(0, abs=0.05)
    assert band.stderr_km_per_mol == pytest.approx(
        np.hypot(band.sampling_stderr_km_per_mol, band.committee_stderr_km_per_mol), rel=1e-3
    )
    assert np.isnan(band.population_stderr_km_per_mol)
    assert "labels" in spectrum.metadata["verdict"]


def test_members_that_differ_by_chance_alone_have_no_spread():
    """Chaotic trajectories of equal members: the scatter between their means is the sampling's, not the model's."""
    random, found = generator(20), []
    for _ in range(60):
        terms = 100 + 20 * random.normal(size=(4, 16, 1))
        found.append(Committee(terms).spread(terms)[0] ** 2)
    # 20 / sqrt(16) = 5 would be the spread of the means.
    assert np.mean(found) < 0.6 * 5**2
    assert np.median(found) < 0.2 * 5**2
    shifted = 100 + np.array([-8.0, 0.0, 0.0, 8.0])[:, None, None] + 0.2 * random.normal(size=(4, 16, 1))
    assert Committee(shifted).spread(shifted)[0] == pytest.approx(np.sqrt(128 / 3), rel=0.02)


def test_members_shift_positions():
    """A band that members have at other places, by their own spread and calibration."""
    grid = np.arange(0.0, 200.0, 2.5)
    places = np.array([-2.0, 0.0, 2.0])
    terms = np.exp(-0.5 * ((grid - 100 - places[:, None]) / 10) ** 2)[:, None] * np.ones((3, 5, 1))
    intensity, position = Committee(terms, (1.0, 1.5)).band_errors(band_functionals(grid, (10, 40, 70)))
    assert position == pytest.approx(1.5 * 2, rel=0.01)
    assert intensity < 1e-2 * terms[0, 0].sum() * 2.5


def test_the_error_of_populations_is_what_conformers_differ_by():
    """Two conformers with intensities of 10 and 30 and a population known to 5 %: 1 km/mol."""
    kind = np.repeat([0, 1], [30, 10])
    terms = np.where(kind == 0, 10.0, 30.0)[:, None]
    covariance = 0.05**2 * np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert Populations(kind, covariance).error(terms)[0] == pytest.approx(1.0)
    # One conformer of certain population makes none.
    assert Populations(0 * kind, np.zeros((1, 1))).error(terms)[0] == 0


def test_lines_beyond_a_common_limit_that_no_trajectory_shows():
    """Two bands of 80 and 40 km/mol that overlap: two errors are three thirtieths of the stronger one's intensity for
    each; none where they are apart."""
    grid = np.arange(0.0, 400.0, 2.5)
    line = lambda place, area: area * np.exp(-0.5 * ((grid - place) / 15) ** 2) / (15 * np.sqrt(2 * np.pi))  # noqa: E731
    near = np.tile(line(150, 80) + line(210, 40), (30, 1))
    found = unseen_crossings(grid, near, [(40, 60, 74), (74, 84, 120)])
    assert found == pytest.approx([1.5 * 80 / 30] * 2, rel=0.03)
    far = np.tile(line(100, 80) + line(300, 40), (30, 1))
    assert unseen_crossings(grid, far, [(10, 40, 80), (80, 120, 150)]) == [0, 0]
    # A weak band beside a strong one whose flank is low there: its own lines may cross, the strong one's do not.
    beside = np.tile(line(100, 130) + line(160, 2), (30, 1))
    assert unseen_crossings(grid, beside, [(10, 40, 58), (58, 64, 100)]) == pytest.approx([1.5 * 2 / 30] * 2, rel=0.1)


def test_stated_errors_of_few_values_cover():
    """Normal and exponential values, 8 to 24: 95 % within two stated errors, and none of the standard errors do it."""
    random = generator(21)
    for count in (8, 12, 24):
        normal = 10 + random.normal(size=(count, 20_000))
        energies = random.exponential(size=(count, 20_000))
        inside = np.abs(normal.mean(axis=0) - 10) < 2 * stated_error(normal)
        skewed = np.abs(energies.mean(axis=0) - 1) < 2 * stated_error(energies, positive=True)
        plain = np.abs(energies.mean(axis=0) - 1) < 2 * standard_error(energies)
        assert inside.mean() == pytest.approx(0.954, abs=0.006)
        assert 0.935 < skewed.mean() < 0.965
        assert plain.mean() < 0.925


@pytest.mark.parametrize("count", [1, 2, 7])
def test_few_trajectories_get_the_plain_mean(count):
    spectra, controls, settings = make_spectra(count)
    spectrum = combine(spectra, settings, KT, controls)
    assert np.allclose(spectrum.absorption, spectra.mean(axis=0))
    assert "plain" in spectrum.metadata["estimator"]
    assert np.isnan(spectrum.stderr).all() == (count == 1)


def test_bad_trajectories_are_named():
    spectra, controls, settings = make_spectra(10)
    spectra[3, 5] = np.nan
    with pytest.raises(InputError, match="trajectories 4"):
        combine(spectra, settings, KT, controls)
    with pytest.raises(InputError, match="another number"):
        combine(spectra[:3], settings, KT, controls)
    with pytest.raises(InputError, match="at least one"):
        combine(spectra[:0], settings, KT)


def test_maxima_and_prominences_are_scipys():
    """Of rough curves and of curves with steps, whose maxima are flat and alike."""
    signal = pytest.importorskip("scipy.signal")
    random = np.random.default_rng(3)
    for number in range(200):
        size, distance = int(random.integers(1, 120)), int(random.integers(1, 15))
        curve = random.normal(size=size) if number % 2 else random.integers(0, 6, size).astype(float)
        peaks = maxima_apart(curve, distance)
        np.testing.assert_array_equal(peaks, signal.find_peaks(curve, distance=distance)[0])
        for own, theirs in zip(prominences(curve, peaks), signal.peak_prominences(curve, peaks), strict=True):
            np.testing.assert_array_equal(own, theirs)


def test_side_lobes_of_the_window_are_no_bands():
    """A sharp line through a Hann window has side lobes of 2.7 %: one band; a true band of 10 % beside it: two."""
    from hpcir.spectra.correlation import cosine_transform, window

    settings = SpectrumSettings()
    grid = wavenumber_grid(settings)
    lags = np.arange(750) * 2 * FS

    def curve(*lines):
        correlation = sum(height * np.cos(place * PER_CM * lags) for place, height in lines)
        return cosine_transform(correlation, window("hann", 750), grid * PER_CM, 2 * FS)

    one = band_limits(grid, curve((1500, 1.0)), "hann", 1.5 * PS)
    two = band_limits(grid, curve((1500, 1.0), (1580, 0.1)), "hann", 1.5 * PS)
    assert [grid[peak] for _, peak, _ in one] == [1500]
    assert [grid[peak] for _, peak, _ in two] == [1500, 1580]
    assert two[0][2] <= two[1][0]
    # Within its limits the line has its whole intensity (1 over all frequencies, times pi for one side), to 0.1 %.
    first, _, last = one[0]
    inside = curve((1500, 1.0))[first : last + 1].sum() * (grid[1] - grid[0]) * PER_CM / np.pi
    assert inside == pytest.approx(1, abs=1e-3)
    assert 1 - inside == pytest.approx(leaked_part(grid, one[0], "hann", 1.5 * PS), abs=3e-4)


def make_band(intensity: float, error: float, committee: float = 0.0) -> Band:
    return Band(1000, 1, intensity, error, 1000, 1, 950, 1050, error, committee)


def test_verdict_counts_trajectories():
    bands = (make_band(100, 4), make_band(10, 0.1), make_band(1, 0.9))
    verdict = trajectories_needed(bands, 64)
    # (4 % / 2 %)^2 times as many in all, less what Student's t of 64 adds: 184 more, in two digits.
    assert verdict.more == 190
    assert "about 190 more" in verdict.text
    assert trajectories_needed((make_band(100, 1),), 64).more == 0
    assert trajectories_needed((make_band(1, 1),), 64).more is None
    assert trajectories_needed((make_band(100, np.nan),), 1).more is None
    assert "members differ" in trajectories_needed((make_band(100, 1, 9.0),), 64).text
