"""Mean forces of held centroids: exact integrals and wells; sums of models; km/mol of TRPMD."""

from __future__ import annotations

import numpy as np
import pytest

from hpcir.deck.sections import SpectrumSettings
from hpcir.descriptors.definition import automatic_set
from hpcir.dynamics.centroid_force import HeldPlan, SpreadControl, _Held, centroid_means
from hpcir.dynamics.ring_polymer import TRPMD_FRICTION, Pile, RingPolymer, bead_velocities
from hpcir.dynamics.ring_runner import run_rings
from hpcir.dynamics.runner import ReplicaBlock
from hpcir.errors import InputError
from hpcir.models.evaluation import ReplicaEvaluation
from hpcir.models.evaluator import Evaluator
from hpcir.models.merged import sum_of
from hpcir.models.model import Model
from hpcir.models.potential import ReplicaFunction
from hpcir.models.random_model import random_model
from hpcir.molecules.structures import standard_masses
from hpcir.spectra.intensities import trajectory_spectra, wavenumber_grid
from hpcir.units import ANGSTROM, FS, KELVIN, KM_PER_MOL_PER_E2_ME, PER_CM, PS

NUMBERS = np.array([8, 1, 1])
WATER = ANGSTROM * np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
MASSES = standard_masses(NUMBERS)
FUNCTIONS = automatic_set((1, 8), 10.0, 6, 2, (1, 2))
KT = 300 * KELVIN
PROTON = np.array([1836.0])


class Wells:
    """Stands for an evaluator: one particle, quartic and cubic along x, harmonic along y and z; the dipole is x^2."""

    def __init__(self, replicas, frequency, cubic=0.0, quartic=0.0):
        self.replicas, self.constant = replicas, PROTON[0] * frequency**2
        self.cubic, self.quartic = cubic, quartic

    def energy(self, x):
        return 0.5 * self.constant * x**2 + self.cubic * x**3 + self.quartic * x**4

    def force(self, x):
        return -self.constant * x - 3 * self.cubic * x**2 - 4 * self.quartic * x**3

    def evaluate(self, positions):
        forces = -self.constant * positions
        forces[:, 0] = self.force(positions[:, 0])
        return np.zeros(self.replicas), forces

    def dipoles(self, positions):
        return positions[0] ** 2, np.zeros((1, self.replicas))


def plan(ring, duration=2 * PS):
    return HeldPlan(ring, 0.5 * FS, 50 * FS, duration, 2, 7)


def test_a_harmonic_centroid_feels_the_bare_force_at_every_instant():
    ring, centroids = RingPolymer(8, KT), np.random.default_rng(1).normal(0, 0.1, (1, 3, 5))
    wells = Wells(40, 2000 * PER_CM)
    means = centroid_means(wells, centroids, PROTON, plan(ring, duration=50 * FS), np.arange(5))
    assert np.allclose(means.forces, means.bare_forces, atol=1e-12)
    assert np.allclose(means.bare_forces, -wells.constant * centroids, atol=1e-14)
    assert means.force_error.max() < 1e-12
    assert np.abs(means.force_noise).max() < 1e-12
    # <x^2> about the centroid, from all modes but its own.
    spread = KT / PROTON[0] * (1 / ((2000 * PER_CM) ** 2 + ring.frequencies[1:] ** 2)).sum()
    many = centroid_means(
        Wells(3200, 2000 * PER_CM), np.zeros((1, 3, 400)), PROTON, plan(ring, duration=300 * FS), np.arange(400)
    )
    assert many.dipoles.mean() == pytest.approx(spread, rel=0.03)


def test_pigs_moves_a_harmonic_mode_with_a_linear_dipole_as_classical_nuclei():
    """Its correction of forces and dipoles vanishes for any ring, so it has the intensity of the classical test."""

    class Linear(Wells):
        def dipoles(self, positions):
            return 0.4 * positions[0], np.zeros((1, self.replicas))

    ring, centroids = RingPolymer(12, 1.5 * KT), np.random.default_rng(2).normal(0, 0.1, (1, 3, 4))
    means = centroid_means(Linear(48, 1500 * PER_CM), centroids, PROTON, plan(ring, duration=20 * FS), np.arange(4))
    assert np.allclose(means.forces, means.bare_forces, atol=1e-12)
    assert np.allclose(means.dipoles, means.bare_dipoles, atol=1e-12)
    assert np.allclose(means.bare_dipoles, 0.4 * centroids[0], atol=1e-14)


def test_the_mean_force_is_the_integral_over_the_ring():
    """Two beads at q + d and q - d: their distribution has one coordinate, and is integrated."""
    ring, rings = RingPolymer(2, KT), 400
    wells = Wells(2 * rings, 1500 * PER_CM, cubic=-0.05, quartic=0.04)
    for q in (-0.05, 0.1):
        centroids = np.zeros((1, 3, rings))
        centroids[0, 0] = q
        means = centroid_means(wells, centroids, PROTON, plan(ring, duration=0.25 * PS), np.arange(rings))
        d = np.linspace(-1, 1, 4001)
        springs = 4 * PROTON[0] * ring.bead_temperature**2 * d**2
        weight = np.exp(-(springs + wells.energy(q + d) + wells.energy(q - d)) / ring.bead_temperature)
        exact = (weight * (wells.force(q + d) + wells.force(q - d)) / 2).sum() / weight.sum()
        bare = wells.force(q)
        assert abs(exact - bare) > 1e-4
        assert means.forces[0, 0].mean() - bare == pytest.approx(exact - bare, rel=0.05)


def test_the_noise_of_mean_forces_is_as_large_as_their_scatter():
    """Rings about one centroid, whose mean forces differ by nothing but noise."""
    ring, rings = RingPolymer(4, KT), 400
    wells = Wells(4 * rings, 1500 * PER_CM, cubic=-0.05, quartic=0.04)
    means = centroid_means(wells, np.zeros((1, 3, rings)), PROTON, plan(ring, duration=0.5 * PS), np.arange(rings))
    along = means.forces[0, 0]
    assert np.sqrt((means.force_noise[0, 0] ** 2).mean()) == pytest.approx(along.std(), rel=0.2)
    assert np.allclose(means.force_error, np.sqrt((means.force_noise**2).mean((0, 1))))


def test_the_control_variate_takes_noise_away_and_leaves_the_mean(monkeypatch):
    """Against the integral over two beads of the test above, with rings that pass over the well's anharmonic parts."""
    ring, rings, q = RingPolymer(2, KT), 400, 0.05
    wells = Wells(2 * rings, 1500 * PER_CM, cubic=-0.05, quartic=0.04)
    centroids = np.zeros((1, 3, rings))
    centroids[0, 0] = q
    d = np.linspace(-1, 1, 4001)
    weight = np.exp(
        -(4 * PROTON[0] * ring.bead_temperature**2 * d**2 + wells.energy(q + d) + wells.energy(q - d))
        / ring.bead_temperature
    )
    exact = (weight * (wells.force(q + d) + wells.force(q - d)) / 2).sum() / weight.sum() - wells.force(q)
    held = plan(ring, duration=0.1 * PS)
    found = centroid_means(wells, centroids, PROTON, held, np.arange(rings))
    sharp = (found.forces - found.bare_forces)[0, 0]
    monkeypatch.setattr(SpreadControl, "take", lambda self: (np.zeros((1, 3, rings)), np.zeros((3, rings))))
    plain = centroid_means(wells, centroids, PROTON, held, np.arange(rings)).forces[0, 0]
    assert sharp.std() < 0.3 * plain.std()
    assert abs(sharp.mean() - exact) < 4 * sharp.std() / np.sqrt(rings)
    assert sharp.mean() == pytest.approx(exact, rel=0.02)


def test_lost_beads_give_no_mean_force():
    ring = RingPolymer(4, KT)
    control = SpreadControl(Wells(8, 1500 * PER_CM), ring, np.zeros((1, 3, 2)), PROTON)
    x = np.zeros((1, 3, 8))
    x[:, :, 1::2] = np.nan
    control.add(x, np.zeros_like(x))
    force, dipole = control.take()
    assert np.isfinite(force[..., 0]).all()
    assert np.isnan(force[..., 1]).all()
    assert np.isnan(dipole[..., 1]).all()


class Morse:
    """Stands for an evaluator: a diatomic molecule with Morse's potential."""

    def __init__(self, replicas, depth=0.17, width=0.99, bond=2.41):
        self.replicas, self.depth, self.width, self.bond = replicas, depth, width, bond

    def evaluate(self, positions):
        apart = positions[1] - positions[0]
        length = np.linalg.norm(apart, axis=0)
        decay = np.exp(-self.width * (length - self.bond))
        force = 2 * self.depth * self.width * decay * (1 - decay) / length * apart
        return self.depth * (1 - decay) ** 2, np.stack([force, -force])

    def dipoles(self, positions):
        return positions[1] - positions[0], np.zeros((2, self.replicas))


def held_corrections(scale, temperature, rings=96):
    """Mean less bare force along the bond, shorter and longer than the minimum's, of masses times `scale`."""
    ring, masses = RingPolymer(16, temperature), scale * standard_masses(np.array([35, 1]))
    found = []
    for length in (2.31, 2.41, 2.51):
        centroids = np.zeros((2, 3, rings))
        centroids[1, 0] = length
        held = HeldPlan(ring, 0.5 * FS * np.sqrt(scale), 50 * FS * scale, 200 * FS * np.sqrt(scale), 2, 7)
        means = centroid_means(Morse(16 * rings), centroids, masses, held, np.arange(rings))
        found.append((means.forces - means.bare_forces)[1, 0].mean())
    return np.array(found)


def test_corrections_of_isotopologues_agree_where_the_temperature_goes_with_the_frequency():
    """With hbar omega / k_B T the same, all of it, the mean force's anharmonic part and the curvature of the ring's
    arc, falls with the root of the mass as an anharmonic shift does; at one temperature the arc's part falls faster."""
    warm = 400 * KELVIN
    light, scaled, same = held_corrections(1, warm), held_corrections(2, warm / np.sqrt(2)), held_corrections(2, warm)
    assert scaled / light == pytest.approx(np.full(3, np.sqrt(0.5)), rel=0.05)
    assert np.all(np.abs(same / light - np.sqrt(0.5)) > 2 * np.abs(scaled / light - np.sqrt(0.5)))


def test_held_rings_keep_their_centroid():
    model, ring = random_model(FUNCTIONS, 4, members=1, scale=0.01), RingPolymer(6, KT)
    positions = np.repeat(WATER[:, :, None], 2, axis=2)
    run = _Held(Evaluator(model, NUMBERS, 12), positions, MASSES, plan(ring), np.arange(2))
    run.advance(40, lambda: None)
    assert np.allclose(ring.centroid(run.x), positions, atol=1e-10)
    assert np.abs(ring.split(run.x) - positions[:, :, None]).max() > 0.05


def test_a_sum_of_models_adds_up_member_by_member(tmp_path):
    one = random_model(FUNCTIONS, 1, members=3, hidden=(6, 5), atomic_dipoles=True)
    two = random_model(FUNCTIONS, 2, members=2, hidden=(4, 3), atomic_dipoles=True)
    both = sum_of(one, two)
    both.save(tmp_path / "sum.h5")
    positions = WATER[:, :, None] + np.random.default_rng(3).normal(0, 0.1, (3, 3, 5))
    found, first, second = (Evaluator(m, NUMBERS, 5) for m in (Model.load(tmp_path / "sum.h5"), one, two))
    rows = np.arange(3) % 2
    for name in ("members", "member_dipoles"):
        for got, a, b in zip(*(getattr(e, name)(positions) for e in (found, first, second)), strict=True):
            assert np.allclose(got, a + b[rows], atol=1e-11)
    assert both.members == 3
    with pytest.raises(InputError, match="different symmetry functions"):
        sum_of(one, random_model(automatic_set((1, 8), 9.0, 6, 2, (1, 2)), 2))


@pytest.mark.parametrize("beads", [1, 8])
def test_a_harmonic_mode_of_trpmd_has_its_exact_intensity(beads):
    """974.9 km/mol for each e^2/amu, with no quantum correction beyond Kubo's correlation."""
    ring, rings, frequency, charge, timestep = RingPolymer(beads, KT), 160, 1500 * PER_CM, 0.4, 1.0 * FS

    def answer(x):
        constant = PROTON[0] * frequency**2
        return ReplicaEvaluation(0.5 * constant * (x * x).sum((0, 1)), -constant * x, charge * x[0])

    potential, ids = ReplicaFunction(answer), np.arange(rings)
    stream = np.random.default_rng(5)
    start = np.sqrt(KT / PROTON[0]) / frequency * stream.standard_normal((1, 3, rings))
    speeds = np.sqrt(KT / PROTON[0]) * stream.standard_normal((1, 3, rings))
    moving = bead_velocities(ring, speeds, PROTON, 3, ids)
    block = ReplicaBlock.start(np.tile(start, (1, 1, beads)), moving, ids)
    block = run_rings(potential, block, ring, PROTON, 200, timestep, pile=Pile(1.0, 50 * FS, 8)).block
    chunk = run_rings(
        potential, block, ring, PROTON, 2000, timestep, pile=Pile(TRPMD_FRICTION, None, 8), dipole_every=2
    )
    settings = SpectrumSettings(depth="0.5 ps", last="3000 cm-1")
    spectra = trajectory_spectra(chunk.dipoles, 2 * timestep, timestep, KT, settings)
    grid = wavenumber_grid(settings)
    found = np.trapezoid(spectra, grid, axis=1)
    exact = 3 * KM_PER_MOL_PER_E2_ME * charge**2 / PROTON[0]
    error = found.std() / np.sqrt(rings)
    assert abs(found.mean() - exact) < 3 * error
    assert error < 0.06 * exact
    assert grid[spectra.mean(0).argmax()] == pytest.approx(1500, abs=5)
