"""Absolute intensities and positions of systems with analytic answers, and error bars that are right about them."""

from dataclasses import replace

import numpy as np
import pytest

from hpcir.deck.sections import SpectrumSettings
from hpcir.molecules.internal_coordinates import model_hessian
from hpcir.molecules.structures import Structure
from hpcir.spectra.assignment import Contributions, assign, mode_parts, mode_positions, mode_spectra, part_spectra
from hpcir.spectra.band_limits import branch_distance
from hpcir.spectra.bands import Band
from hpcir.spectra.basins import Basin
from hpcir.spectra.controls import ModeMoments, local_controls, mode_controls, mode_moments, moment_controls
from hpcir.spectra.correlation import differences
from hpcir.spectra.estimate import combine, estimate_spectrum
from hpcir.spectra.estimators import ControlVariates, standard_error
from hpcir.spectra.intensities import trajectory_spectra, wavenumber_grid
from hpcir.spectra.projection import (
    Projection,
    bond_velocities,
    bond_wavenumbers,
    rigid_directions,
    rotation_velocities,
    rotation_wavenumbers,
)
from hpcir.units import AMU, ANGSTROM, FS, KELVIN, KM_PER_MOL_PER_E2_AMU, KM_PER_MOL_PER_E2_ME, PER_CM, PS
from hpcir.vibrations.normal_modes import normal_modes
from tests.basins import generator, methanol, random_basin

KT = 300 * KELVIN
BETWEEN = 2 * FS
SETTINGS = SpectrumSettings(depth="1 ps")


class HarmonicModes:
    """Thermal trajectories of harmonic modes with fixed dipole derivatives, each trajectory in another orientation."""

    def __init__(self, random, count, wavenumbers=(600.0, 1100.0, 1720.0), length=3 * PS):
        self.wavenumbers = np.array(wavenumbers)
        modes = len(self.wavenumbers)
        # In e per sqrt(electron mass); intensities of some tens of km/mol.
        self.dipoles = np.array([[0.15, 0.1, 0], [0.3, -0.1, 0.1], [0, 0.2, 0.4]])[:modes] / np.sqrt(AMU)
        self.intensities = KM_PER_MOL_PER_E2_ME * (self.dipoles**2).sum(axis=1)
        times = np.arange(0, length, BETWEEN)
        omega = self.wavenumbers * PER_CM
        amplitude = np.sqrt(2 * KT * random.exponential(size=(modes, count))) / omega[:, None]
        phase = omega * times[:, None]
        phase = phase[:, :, None] + random.uniform(0, 2 * np.pi, size=(modes, count))
        self.coordinates = amplitude * np.cos(phase)
        self.velocities = -amplitude * omega[:, None] * np.sin(phase)
        self.rotations, _ = np.linalg.qr(random.normal(size=(count, 3, 3)))
        self.rotations *= np.linalg.det(self.rotations)[:, None, None]
        body = np.einsum("tmr,ma->tar", self.coordinates, self.dipoles)
        self.series = np.einsum("rba,tbr->tar", self.rotations, body)


def test_unit_of_intensity():
    """One harmonic mode integrates to 974.9 km/mol per e^2/amu (N_A / (12 eps0 c^2))."""
    assert abs(KM_PER_MOL_PER_E2_AMU - 974.88) < 0.02


def test_harmonic_modes_have_their_analytic_intensities():
    modes = HarmonicModes(generator(1), 64)
    controls = moment_controls(mode_moments(modes.velocities), modes.wavenumbers, KT)
    spectrum = estimate_spectrum(modes.series, BETWEEN, None, KT, SETTINGS, controls)
    assert len(spectrum.bands) == 3
    for band, place, intensity in zip(spectrum.bands, modes.wavenumbers, modes.intensities, strict=True):
        assert abs(band.position_per_cm - place) < 3 * band.stderr_per_cm + 0.3
        assert abs(band.intensity_km_per_mol - intensity) < 3 * band.stderr_km_per_mol
        assert band.stderr_km_per_mol < 0.01 * intensity < band.plain_stderr_km_per_mol
    plain = estimate_spectrum(modes.series, BETWEEN, None, KT, SETTINGS)
    for band, intensity in zip(plain.bands, modes.intensities, strict=True):
        assert abs(band.intensity_km_per_mol - intensity) < 3 * band.stderr_km_per_mol


def test_blocks_stream():
    modes = HarmonicModes(generator(2), 10)
    whole = estimate_spectrum(modes.series, BETWEEN, None, KT, SETTINGS)
    parts = estimate_spectrum((modes.series[:, :, p] for p in (slice(0, 3), slice(3, 10))), BETWEEN, None, KT, SETTINGS)
    assert np.allclose(whole.absorption, parts.absorption, rtol=1e-12)


def coverage(repeats: int, count: int) -> tuple[float, float, float]:
    """Parts of band intensities within one and two sampling errors of the analytic answer, and the mean score.

    The total error has the systematic 0.1 % in it, which outweighs the sampling error of harmonic modes here.
    """
    settings = SpectrumSettings(depth="0.5 ps", last="2000 cm-1", window="gaussian")
    scores = []
    for repeat in range(repeats):
        modes = HarmonicModes(generator(30 + count, repeat), count, length=1.2 * PS)
        controls = moment_controls(mode_moments(modes.velocities), modes.wavenumbers, KT)
        spectrum = estimate_spectrum(modes.series, BETWEEN, None, KT, settings, controls)
        assert len(spectrum.bands) == 3
        for band, intensity in zip(spectrum.bands, modes.intensities, strict=True):
            scores.append((band.intensity_km_per_mol - intensity) / band.sampling_stderr_km_per_mol)
            assert band.stderr_km_per_mol > band.sampling_stderr_km_per_mol
    return np.mean(np.abs(scores) < 1), np.mean(np.abs(scores) < 2), np.mean(scores)


def test_error_bars_of_bands_cover_few_repeats():
    _, two, mean = coverage(6, 16)
    assert two > 0.8
    assert abs(mean) < 0.8


@pytest.mark.long
@pytest.mark.parametrize("count", [16, 32])
def test_error_bars_of_bands_cover(count):
    one, two, mean = coverage(200, count)
    assert 0.58 < one < 0.85
    assert 0.90 < two < 0.99
    assert abs(mean) < 0.15


class Morse:
    """A Morse oscillator with dipole a x + b x^2, its exact orbits, and their canonical averages.

    x(t) = ln[(1 - sqrt(e) cos(w t)) / (1 - e)] / alpha with e = E/D, w = w0 sqrt(1 - e): the classical orbit.
    """

    def __init__(self, temperature=KT, wavenumber=3000.0, well=0.12, mass=1.0 * AMU):
        self.omega, self.well, self.mass, self.kt = wavenumber * PER_CM, well, mass, temperature
        self.alpha = self.omega * np.sqrt(mass / (2 * well))
        self.slope, self.curvature = 0.4, 0.15
        fraction = (np.arange(4000) + 0.5) / 4000 * min(0.9, 25 * temperature / well)
        # Phase space volume of an energy is the period: p(E) ~ exp(-E/kT) / w(E).
        weight = np.exp(-fraction * well / temperature) / np.sqrt(1 - fraction)
        self.fractions, self.weights = fraction, weight / weight.sum()

    def orbit(self, fraction, phase):
        x = np.log((1 - np.sqrt(fraction) * np.cos(phase)) / (1 - fraction)) / self.alpha
        return x, self.slope * x + self.curvature * x**2

    def bands(self):
        """Intensity (km/mol) and centroid (cm-1) of the fundamental, and the intensity of the whole spectrum."""
        phase = 2 * np.pi * np.arange(256) / 256
        _, dipole = self.orbit(self.fractions[:, None], phase)
        amplitude = 2 * np.abs(np.fft.rfft(dipole, axis=1)) / 256
        frequency = self.omega * np.sqrt(1 - self.fractions)[:, None] * np.arange(129)
        power = KM_PER_MOL_PER_E2_ME / self.kt * 0.5 * (amplitude * frequency) ** 2 * self.weights[:, None]
        centroid = (power[:, 1] * frequency[:, 1]).sum() / power[:, 1].sum() / PER_CM
        return power[:, 1].sum(), centroid, power[:, 1:].sum()

    def configuration_average(self):
        """The whole intensity another way: K <(dmu/dx)^2> / m over exp(-V/kT) (the velocities average exactly)."""
        x = np.linspace(-0.6 / self.alpha, 1.2 / self.alpha, 20001)
        boltzmann = np.exp(-self.well * (1 - np.exp(-self.alpha * x)) ** 2 / self.kt)
        slope = self.slope + 2 * self.curvature * x
        return KM_PER_MOL_PER_E2_ME / self.mass * (slope**2 * boltzmann).sum() / boltzmann.sum()

    def simulate(self, random, count, timestep, length):
        """Velocity Verlet from exact canonical starts: dipoles (T, 3, R) every 2 fs, moments of half-step
        velocities."""
        start = random.choice(self.fractions, p=self.weights, size=count)
        phase = random.uniform(0, 2 * np.pi, count)
        x, _ = self.orbit(start, phase)
        speed = np.sqrt(2 / self.mass * np.maximum(start * self.well - self.potential(x), 0))
        v = np.sign(np.sin(phase)) * speed
        every = round(BETWEEN / timestep)
        series, second, fourth = [], np.zeros(count), np.zeros(count)
        for step in range(int(length / timestep)):
            if step % every == 0:
                series.append(self.slope * x + self.curvature * x**2)
            v = v + 0.5 * timestep * self.force(x) / self.mass
            square = self.mass * v**2
            second, fourth = second + square, fourth + square**2
            x = x + timestep * v
            v = v + 0.5 * timestep * self.force(x) / self.mass
        dipoles = np.zeros((len(series), 3, count))
        dipoles[:, 2] = series
        second, fourth = (part[:, None, None] / int(length / timestep) for part in (second, fourth))
        return dipoles, ModeMoments(second, fourth, np.ones((count, 1)), second)

    def exact(self, random, count, length):
        """The same without an integrator: exact orbits, moments of exact velocities."""
        start = random.choice(self.fractions, p=self.weights, size=count)
        rate = self.omega * np.sqrt(1 - start)
        phase = rate * np.arange(0, length, BETWEEN)[:, None] + random.uniform(0, 2 * np.pi, count)
        _, dipole = self.orbit(start, phase)
        root = np.sqrt(start)
        speed = root * np.sin(phase) * rate / (self.alpha * (1 - root * np.cos(phase)))
        dipoles = np.zeros((len(phase), 3, count))
        dipoles[:, 2] = dipole
        return dipoles, mode_moments(np.sqrt(self.mass) * speed[:, None, :])

    def potential(self, x):
        return self.well * (1 - np.exp(-self.alpha * x)) ** 2

    def force(self, x):
        e = np.exp(-self.alpha * x)
        return -2 * self.well * self.alpha * e * (1 - e)


def test_morse_averages_agree_with_each_other():
    morse = Morse()
    assert morse.bands()[2] == pytest.approx(morse.configuration_average(), rel=2e-3)


def test_morse_oscillator_position_and_intensity():
    """Against the numerically exact classical average over energies; anharmonic: below 3000 cm-1."""
    morse = Morse()
    intensity, centroid, whole = morse.bands()
    dipoles, moments = morse.simulate(generator(4), 128, 0.5 * FS, 3 * PS)
    controls = moment_controls(moments, np.array([3000.0]), KT)
    spectrum = estimate_spectrum(dipoles, BETWEEN, 0.5 * FS, KT, SETTINGS, controls)
    band = max(spectrum.bands, key=lambda b: b.intensity_km_per_mol)
    assert 3000 - centroid > 20
    assert abs(band.intensity_km_per_mol - intensity) < 3 * band.stderr_km_per_mol
    # The timestep's correction, 10 cm-1 here, is exact for harmonic modes; anharmonicity leaves a few per cent of it.
    assert abs(band.position_per_cm - centroid) < 3 * band.stderr_per_cm + 0.4
    assert band.plain_stderr_km_per_mol > 5 * band.sampling_stderr_km_per_mol
    total = spectrum.terms.sum(axis=1) * (spectrum.wavenumbers[1] - spectrum.wavenumbers[0])
    assert abs(total.mean() - whole) < 3 * standard_error(total[:, None])[0] + 0.01 * whole


@pytest.mark.long
def test_morse_error_bars_cover():
    """200 repeats: intensity and position of an anharmonic band within their error bars as often as they should be."""
    morse = Morse()
    intensity, centroid, _ = morse.bands()
    settings = SpectrumSettings(depth="1 ps", last="4000 cm-1", window="gaussian")
    scores = []
    for repeat in range(200):
        dipoles, moments = morse.exact(generator(50, repeat), 32, 2 * PS)
        controls = moment_controls(moments, np.array([3000.0]), KT)
        spectrum = estimate_spectrum(dipoles, BETWEEN, None, KT, settings, controls)
        band = max(spectrum.bands, key=lambda b: b.intensity_km_per_mol)
        scores.append(
            (
                (band.intensity_km_per_mol - intensity) / band.stderr_km_per_mol,
                (band.position_per_cm - centroid) / band.stderr_per_cm,
            )
        )
    assert np.all(np.mean(np.abs(scores) < 2, axis=0) > 0.88)
    assert np.all(np.abs(np.mean(scores, axis=0)) < 0.5)


def test_rigid_rotor_has_its_rotational_band():
    """A linear rotor: A(nu) = K mu^2/kT w^2 p(w) with the thermal p(w) = (I w/kT) exp(-I w^2/2kT); integral 2 K
    mu^2/I."""
    random = generator(6)
    inertia, dipole, count = 2 * AMU * ANGSTROM**2, 0.7, 3000
    rate = np.sqrt(2 * KT / inertia * random.exponential(size=count))
    start, _ = np.linalg.qr(random.normal(size=(count, 3, 2)))
    times = np.arange(0, 3 * PS, 4 * FS)
    angle = rate * times[:, None]
    series = dipole * (
        np.cos(angle)[:, None] * start[:, :, 0].T[None] + np.sin(angle)[:, None] * start[:, :, 1].T[None]
    )
    settings = SpectrumSettings(window="gaussian", depth="2 ps", last="1500 cm-1")
    grid = wavenumber_grid(settings)
    spectra = trajectory_spectra(series, 4 * FS, None, KT, settings)
    mean, error = spectra.mean(axis=0), standard_error(spectra)
    integral = spectra.sum(axis=1) * (grid[1] - grid[0])
    exact = 2 * KM_PER_MOL_PER_E2_ME * dipole**2 / inertia
    assert abs(integral.mean() - exact) < 3 * standard_error(integral[:, None])[0] + 2e-3 * exact
    omega = grid * PER_CM
    shape = KM_PER_MOL_PER_E2_ME * dipole**2 / KT * omega**3 * inertia / KT * np.exp(-inertia * omega**2 / (2 * KT))
    smooth = np.abs(shape) * PER_CM
    inner = (grid > 60) & (grid < 500)
    # The window blurs by 10 cm-1, which is little on this scale.
    assert np.max(np.abs(mean - smooth)[inner] / (4 * error[inner] + 0.02 * smooth.max())) < 1


def test_the_centroid_of_a_line_with_tails_is_that_of_its_core():
    """A Lorentzian on the tail of a broad band that is ten times as strong: the tail takes the centroid with it, the
    core does not; the intensity is that between the limits in both cases."""
    settings = SpectrumSettings(depth="0.5 ps", estimator="plain")
    grid = wavenumber_grid(settings)
    line, broad = (width**2 / ((grid - place) ** 2 + width**2) for place, width in ((3500.0, 60.0), (0.0, 200.0)))
    factors = np.random.default_rng(3).uniform(0.8, 1.2, (12, 1))
    spectra = factors * (line + 3 * broad)
    whole, core = (
        max(combine(spectra, settings, KT, core=part).bands, key=lambda band: band.position_per_cm)
        for part in (0.0, 0.1)
    )
    assert abs(whole.position_per_cm - 3500) > 60
    assert core.position_per_cm == pytest.approx(3500, abs=5)
    assert core.intensity_km_per_mol == whole.intensity_km_per_mol
    assert core.stderr_km_per_mol == whole.stderr_km_per_mol


def test_branches_of_a_linear_molecule_are_one_band():
    """A stretch along a thermal linear rotor: P and R maxima 2 sqrt(kT / I) apart, one band in between."""
    random = generator(8)
    inertia, count, place = 3.3 * AMU * ANGSTROM**2, 1500, 2000.0
    rate = np.sqrt(2 * KT / inertia * random.exponential(size=count))
    start, _ = np.linalg.qr(random.normal(size=(count, 3, 2)))
    times = np.arange(0, 2.5 * PS, 4 * FS)[:, None]
    angle, phase = rate * times, place * PER_CM * times + 2 * np.pi * random.random(count)
    axis = np.cos(angle)[:, None] * start[:, :, 0].T[None] + np.sin(angle)[:, None] * start[:, :, 1].T[None]
    series = 0.01 * np.cos(phase)[:, None] * axis
    settings = SpectrumSettings(depth="1.5 ps", first="1500 cm-1", last="2500 cm-1", estimator="plain")
    spectra = trajectory_spectra(series, 4 * FS, None, KT, settings)
    apart = branch_distance(inertia, KT)
    assert apart == pytest.approx(2 * np.sqrt(KT / inertia) / PER_CM)
    two = combine(spectra, settings, KT).bands
    assert len(two) == 2
    assert two[1].peak_per_cm - two[0].peak_per_cm == pytest.approx(apart, rel=0.2)
    found = combine(spectra, settings, KT, branches=apart)
    (band,) = found.bands
    assert found.metadata["branches"] == [0]
    # The square of the frequency weighs R more than P: 2 <w^2> / w0 = (4 kT / I) / w0.
    assert band.position_per_cm == pytest.approx(place + apart**2 / place, abs=1.5)
    assert band.intensity_km_per_mol == pytest.approx(sum(one.intensity_km_per_mol for one in two), rel=0.02)
    # Two vibrations that far apart where nothing turns stay two.
    assert "branches" not in combine(spectra, settings, KT).metadata


def rotor_score(repeat, count, sharp):
    """(Integral of a linear rotor's band less 2 K mu^2/I) over its standard error, and the error relative to it."""
    random = generator(60, repeat)
    inertia, dipole = 2 * AMU * ANGSTROM**2, 0.7
    rate = np.sqrt(2 * KT / inertia * random.exponential(size=count))
    start, _ = np.linalg.qr(random.normal(size=(count, 3, 2)))
    angle = rate * np.arange(0, 3 * PS, 8 * FS)[:, None]
    series = dipole * (
        np.cos(angle)[:, None] * start[:, :, 0].T[None] + np.sin(angle)[:, None] * start[:, :, 1].T[None]
    )
    settings = SpectrumSettings(window="gaussian", depth="2 ps", last="1500 cm-1")
    place = np.sqrt(2 * KT / inertia) / PER_CM
    # One axis has all the energy, the other none; which is which is chance.
    energy = inertia * rate**2
    share = random.uniform(size=count)
    squares = np.c_[share * energy, (1 - share) * energy]
    controls = local_controls(squares, np.full(2, place), KT) if sharp else None
    grid = wavenumber_grid(settings)
    values = trajectory_spectra(series, 8 * FS, None, KT, settings).sum(axis=1)[:, None] * (grid[1] - grid[0])
    if controls is not None:
        estimator = ControlVariates(controls)
        values = estimator.choose(values, place).terms(values)
    exact = 2 * KM_PER_MOL_PER_E2_ME * dipole**2 / inertia
    error = standard_error(values)[0]
    return (values.mean() - exact) / np.hypot(error, 1e-3 * exact), error / exact


@pytest.mark.long
def test_rigid_rotor_error_bars_cover():
    """200 repeats of 64 trajectories, plain and with the rotational energy as control, which explains nearly all."""
    plain = np.array([rotor_score(repeat, 64, False) for repeat in range(200)])
    sharp = np.array([rotor_score(repeat, 64, True) for repeat in range(200)])
    assert 0.90 < np.mean(np.abs(plain[:, 0]) < 2) < 0.99
    assert abs(plain[:, 0].mean()) < 0.3
    # A rotor's energy makes its intensity, so what is left is the window's 0.1 %.
    assert np.all(np.abs(sharp[:, 0]) < 2)
    assert np.median(sharp[:, 1]) < 0.2 * np.median(plain[:, 1])


def test_rotation_velocities_are_thermal_and_belong_to_the_band():
    structure, random, count = methanol(), generator(61), 20_000
    masses = structure.masses
    positions = np.broadcast_to(structure.positions + 0.2 * random.normal(size=(6, 3)), (count, 6, 3))
    velocities = np.sqrt(KT / masses)[:, None] * random.normal(size=(count, 6, 3))
    squares = rotation_velocities(positions, velocities, masses) ** 2 / KT
    assert np.all(np.abs(squares.mean(axis=0) - 1) < 4 * standard_error(squares))
    places = rotation_wavenumbers(structure.positions, masses, KT)
    assert np.all(np.diff(places) <= 0)
    # Carbon monoxide turns about two axes, with 2 B sqrt(2 kT / 2 B) = sqrt(4 B kT): 40 cm-1 at 300 K.
    monoxide = Structure(np.array([6, 8]), np.array([[0.0, 0, 0], [0, 0, 1.128 * ANGSTROM]]))
    found = rotation_wavenumbers(monoxide.positions, monoxide.masses, KT)
    assert np.allclose(found, np.sqrt(4 * 1.93 * 208.5), rtol=0.01)


@pytest.mark.parametrize("sharp", [True, False])
def test_mode_contributions_sum_to_the_spectrum(sharp):
    """With control variates too: the parts are averaged with the weights that the estimate gives its trajectories."""
    modes = HarmonicModes(generator(7), 12)
    rotations = np.broadcast_to(np.moveaxis(modes.rotations, 0, 2), (len(modes.series), 3, 3, 12))
    parts = mode_parts(modes.velocities, modes.dipoles, rotations, BETWEEN)
    spectra = part_spectra(parts, modes.series, BETWEEN, None, KT, SETTINGS)
    controls = moment_controls(mode_moments(modes.velocities), modes.wavenumbers, KT) if sharp else None
    spectrum = estimate_spectrum(modes.series, BETWEEN, None, KT, SETTINGS, controls)
    result = Contributions.of(["a", "b", "c", "remainder"], spectra, spectrum.wavenumbers, spectrum.weights)
    assert np.max(np.abs(result.contributions.sum(axis=0) - spectrum.absorption)) < 1e-10 * spectrum.plain.max()
    assert np.allclose(spectrum.absorption, spectrum.plain) != sharp
    assert result.labels == ("a", "b", "c", "remainder")
    # In a harmonic molecule each mode makes its band, and nothing remains.
    for index, band in enumerate(spectrum.bands):
        shares = result.shares(band.lower_per_cm, band.upper_per_cm)
        assert shares[index] == pytest.approx(1, abs=0.02)
        assert shares.sum() == pytest.approx(1, abs=1e-10)
    named = assign(spectrum.bands, result, ["CO stretch", "CO stretch", "OH stretch"])
    assert [band.assignment for band in named] == ["CO stretch", "CO stretch", "OH stretch"]


def test_group_contributions_sum_to_the_spectrum():
    """Groups of atoms: any split of the dipole, here into random parts, sums to the whole."""
    random = generator(8)
    groups = np.cumsum(random.normal(size=(3, 1200, 3, 4)), axis=1)
    whole = groups.sum(axis=0)
    parts = np.array([differences(group, BETWEEN) for group in groups])
    spectra = part_spectra(parts, whole, BETWEEN, 0.5 * FS, KT, SETTINGS)
    spectrum = estimate_spectrum(whole, BETWEEN, 0.5 * FS, KT, SETTINGS)
    result = Contributions.of(["OH", "CH3", "C", "rest"], spectra, spectrum.wavenumbers)
    assert np.max(np.abs(result.contributions.sum(axis=0) - spectrum.plain)) < 1e-10 * np.abs(spectrum.plain).max()
    assert np.max(np.abs(result.contributions[-1])) < 1e-10 * np.abs(spectrum.plain).max()


def test_mode_positions_are_those_of_the_modes():
    modes = HarmonicModes(generator(9), 16)
    harmonic = modes.wavenumbers + np.array([5.0, 20.0, -15.0])
    controls = mode_controls(0.5 * (modes.velocities**2).mean(axis=0).T, modes.wavenumbers, KT)
    for given in (None, controls):
        spectra = mode_spectra(modes.velocities, BETWEEN, None, KT, SETTINGS)
        found = mode_positions(spectra, harmonic, SETTINGS, given)
        assert np.allclose(found.centroid, modes.wavenumbers, atol=0.7)
        assert np.allclose(found.shift, modes.wavenumbers - harmonic, atol=0.7)


def test_isolated_bands_do_not_depend_on_window_and_sampling():
    modes = HarmonicModes(generator(10), 4)
    reference = None
    for name in ("hann", "gaussian", "blackman"):
        settings = SETTINGS.model_copy(update={"window": name})
        grid = wavenumber_grid(settings)
        areas = trajectory_spectra(modes.series, BETWEEN, None, KT, settings)[:, np.abs(grid - 1100) < 240].sum(axis=1)
        reference = areas if reference is None else reference
        assert np.allclose(areas, reference, rtol=5e-3)


def test_a_band_far_from_the_mode_that_makes_it_is_no_fundamental():
    """Carbon dioxide at 3990 cm-1: the antisymmetric stretch moves there, 1400 cm-1 above its own band."""
    grid = np.arange(500.0, 4500.0)
    shape = np.exp(-(((grid - 2580) / 10) ** 2)) + 0.01 * np.exp(-(((grid - 3990) / 10) ** 2))
    result = Contributions(("C=O stretch", "overtones"), grid, np.array([shape, 0.001 * shape]), 1.001 * shape)
    bands = [Band(x, 0.1, 1.0, 0.1, x, 0.1, x - 50, x + 50, 0.1) for x in (2580.0, 2700.0, 3990.0)]
    words = [band.assignment for band in assign(bands, result, places=np.array([2579.0]))]
    assert words == ["C=O stretch", "C=O stretch", "overtones of C=O stretch"]
    assert {band.assignment for band in assign(bands, result)} == {"C=O stretch"}


def test_overtones_of_several_modes_are_one_part_of_a_band():
    """Each word once, and the shares of what a band shows do not count the remainder twice."""
    grid = np.arange(500.0, 4500.0)
    shape = np.exp(-(((grid - 3000) / 10) ** 2))
    shares = np.array([0.3, 0.25, 0.1, 0.25, 0.1])
    labels = ("C-O stretch", "C-O-H bend", "CH3 rock", "C-H stretch", "overtones and combinations")
    result = Contributions(labels, grid, shares[:, None] * shape, shape)
    band = Band(3000.0, 0.1, 1.0, 0.1, 3000.0, 0.1, 2950.0, 3050.0, 0.1)
    (named,) = assign([band], result, places=np.array([1000.0, 1300.0, 1100.0, 2990.0]))
    assert named.assignment == "overtones and combinations of C-O stretch and C-O-H bend 75 %, C-H stretch 25 %"
    more = Contributions(labels[-2:], grid, np.array([1.04, -0.04])[:, None] * shape, shape)
    assert assign([band], more, places=np.array([2990.0]))[0].assignment == "C-H stretch"


@pytest.mark.parametrize("rotating", [True, False])
@pytest.mark.parametrize("curvilinear", [True, False])
def test_projected_velocities_are_independent_and_thermal_at_any_geometry(rotating, curvilinear):
    """Far from the minimum, turned and displaced: <s_m s_n> is kT for m = n and zero else, rotating or not."""
    structure, random, count = methanol(), generator(11), 20_000
    masses = structure.masses
    basin = random_basin(structure, 12)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    positions = structure.positions + 0.25 * random.normal(size=structure.positions.shape)
    positions = np.broadcast_to(positions @ turn + 3.0, (count, *positions.shape))
    weighted = np.sqrt(KT) * random.normal(size=positions.shape)
    if not rotating:
        rigid = rigid_directions(positions[:1], masses)[0]
        flat = weighted.reshape(count, -1)
        weighted = (flat - flat @ rigid.T @ rigid).reshape(positions.shape)
    projection = Projection.of([basin], structure, masses)
    assert projection.internal is not None
    projection = projection if curvilinear else replace(projection, internal=None)
    found, index = projection.velocities(positions, weighted / np.sqrt(masses)[:, None])
    products = found[:, :, None] * found[:, None] / KT
    assert np.abs((products.mean(axis=0) - np.eye(6)) / standard_error(products)).max() < 4.5
    assert not index.any()


@pytest.mark.parametrize("bend", [0.0, 0.02, 0.2])
def test_both_bends_of_a_linear_molecule_are_thermal_at_bent_geometries(bend):
    """Carbon dioxide has four modes bent or not: two bends out of phase turn it about its axis."""
    random, count = generator(21), 20_000
    structure = Structure(np.array([8, 6, 8]), np.array([[0.0, 0, -2.2], [0, 0, 0], [0, 0, 2.2]]))
    masses = structure.masses
    hessian = model_hessian(structure, stiffness=0.0)
    modes = normal_modes(structure, hessian)
    basin = Basin(modes.positions, modes.modes, modes.wavenumbers)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    positions = (structure.positions + bend * np.array([[1.0, 0.3, 0], [-1, 0.2, 0], [1, 0, 0.5]])) @ turn
    velocities = np.sqrt(KT / masses)[:, None] * random.normal(size=(count, 3, 3))
    found = Projection.of([basin], structure, masses).velocities(np.tile(positions, (count, 1, 1)), velocities)[0]
    products = found[:, :, None] * found[:, None] / KT
    assert np.abs((products.mean(axis=0) - np.eye(4)) / standard_error(products)).max() < 4.5


def test_bond_velocities_have_their_thermal_width():
    structure, random, count = methanol(), generator(16), 20_000
    positions = np.broadcast_to(structure.positions + 0.3 * random.normal(size=(6, 3)), (count, 6, 3))
    velocities = np.sqrt(KT / structure.masses)[:, None] * random.normal(size=(count, 6, 3))
    pairs = [(0, 1), (1, 3), (0, 2)]
    squares = bond_velocities(positions, velocities, structure.masses, pairs) ** 2 / KT
    assert np.all(np.abs(squares.mean(axis=0) - 1) < 4 * standard_error(squares))


def test_bonds_belong_where_their_modes_are():
    """A diatomic's bond is its mode."""
    structure = Structure(np.array([6, 8]), np.array([[0.0, 0, 0], [0, 0, 2.1]]))
    masses = structure.masses
    mode = np.array([[0.0, 0, np.sqrt(masses[1])], [0, 0, -np.sqrt(masses[0])]]) / np.sqrt(masses.sum())
    basin = Basin(structure.positions, mode[None], np.array([2143.0]))
    assert bond_wavenumbers(basin, masses, [(0, 1)])[0] == pytest.approx(2143)


def test_combination_of_spectra_is_what_estimate_spectrum_does():
    modes = HarmonicModes(generator(15), 9)
    spectra = trajectory_spectra(modes.series, BETWEEN, None, KT, SETTINGS)
    assert np.allclose(
        combine(spectra, SETTINGS, KT).absorption,
        estimate_spectrum(modes.series, BETWEEN, None, KT, SETTINGS).absorption,
    )
