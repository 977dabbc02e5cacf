"""Ring polymers: exact averages of free particles and oscillators, conservation, one bead, the twin of the kernels."""

from __future__ import annotations

import numpy as np
import pytest

from hpcir.descriptors.definition import automatic_set
from hpcir.dynamics.ring_polymer import (
    SAMPLING_FRICTION,
    TRPMD_FRICTION,
    Pile,
    RingPolymer,
    bead_velocities,
    beads_needed,
    centroid_virial_kinetic,
    chosen_beads,
    free_step,
    harmonic_energy,
    harmonic_square,
    heat_capacity,
    missing_energy,
    primitive_kinetic,
    spring_energy,
    virial_kinetic,
)
from hpcir.dynamics.ring_runner import run_rings
from hpcir.dynamics.runner import ReplicaBlock, run_chunk
from hpcir.errors import InputError
from hpcir.models.evaluation import ReplicaEvaluation
from hpcir.models.evaluator import Evaluator
from hpcir.models.potential import ReplicaFunction
from hpcir.models.random_model import random_model
from hpcir.molecules.structures import standard_masses
from hpcir.units import ANGSTROM, FS, KELVIN, PER_CM

NUMBERS = np.array([8, 1, 1])
WATER = ANGSTROM * np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
MASSES = standard_masses(NUMBERS)
FUNCTIONS = automatic_set((1, 8), 10.0, 6, 2, (1, 2))
KT = 300 * KELVIN
PROTON = np.array([1836.0])
SAMPLING = Pile(SAMPLING_FRICTION, 50 * FS, 5)


def soft_model(members=1):
    """Smooth, weak forces: a molecule that stays together for a picosecond."""
    return random_model(FUNCTIONS, 4, members=members, scale=0.01)


def as_function(model, replicas, **options):
    return ReplicaFunction(Evaluator(model, NUMBERS, replicas, **options).evaluate_with_dipoles)


def start(ring, rings, seed=1, masses=MASSES, positions=WATER):
    block = np.repeat(positions[:, :, None], ring.beads * rings, axis=2)
    ids = np.arange(rings)
    velocities = bead_velocities(ring, np.zeros((len(masses), 3, rings)), masses, seed, ids)
    return ReplicaBlock.start(block, velocities, ids)


def harmonic(frequency, mass=PROTON[0]):
    """One particle in a well."""
    constant = mass * frequency**2
    return ReplicaFunction(lambda x: ReplicaEvaluation(0.5 * constant * (x * x).sum((0, 1)), -constant * x))


def test_normal_modes_diagonalise_the_springs():
    for beads in (1, 2, 5, 8):
        ring = RingPolymer(beads, KT)
        assert np.allclose(ring.matrix @ ring.matrix.T, np.eye(beads), atol=1e-13)
        x = np.random.default_rng(beads).standard_normal((1, 3, beads * 2))
        split = ring.split(x)
        springs = 0.5 * PROTON[0] * (beads * KT) ** 2 * ((split - np.roll(split, -1, axis=-2)) ** 2).sum((0, 1, 2))
        assert np.allclose(spring_energy(ring, x, PROTON), springs if beads > 1 else 0.0, rtol=1e-12)
        assert np.allclose(ring.to_beads(ring.to_modes(x)), x, atol=1e-12)
        assert np.allclose(ring.to_modes(x)[:, :, 0], np.sqrt(beads) * ring.centroid(x))


def test_a_free_step_turns_free_rings_and_conserves_their_energy():
    ring = RingPolymer(8, KT)
    stream = np.random.default_rng(1)
    x, v = stream.standard_normal((2, 1, 3, 16))
    v *= 1e-3

    def energy(x, v):
        return spring_energy(ring, x, PROTON) + 0.5 * PROTON[0] * ring.split((v * v).sum((0, 1))).sum(0)

    centroid, speed = ring.centroid(x), ring.centroid(v)
    before = energy(x, v)
    for _ in range(50):
        x, v = free_step(ring, x, v, PROTON, 2 * FS, None, None)
    assert np.allclose(energy(x, v), before, rtol=1e-11)
    assert np.allclose(ring.centroid(x), centroid + 50 * 2 * FS * speed, atol=1e-9)


def test_free_rings_have_their_exact_size():
    """<|x_p - centroid|^2> of a free ring: 3 sum_k kT / m omega_k^2, for infinitely many beads hbar^2 / (4 m kT)."""
    ring, rings = RingPolymer(16, KT), 200
    block = start(ring, rings, masses=PROTON, positions=np.zeros((1, 3)))
    x, v = block.positions, block.velocities
    sizes = []
    for step in range(400):
        if step % 16 == 0:
            noise = SAMPLING.noise(block.trajectories, step // 16, 1, 16)
        x, v = free_step(ring, x, v, PROTON, 1.0 * FS, SAMPLING, noise[step % 16])
        if step >= 50:
            away = ring.split(x) - ring.centroid(x)[:, :, None]
            sizes.append((away**2).sum((0, 1)).mean())
    exact = 3 * KT / PROTON[0] * (1 / ring.frequencies[1:] ** 2).sum()
    assert exact == pytest.approx(3 / (12 * PROTON[0] * KT), rel=0.01)
    assert np.mean(sizes) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize(("beads", "timestep"), [(1, 1.0), (4, 0.5), (16, 0.5), (16, 2.0)])
def test_harmonic_averages_are_exact_at_any_timestep(beads, timestep):
    """<x^2> and all three estimators of the kinetic energy, against the exact ones of so many beads."""
    ring, rings, frequency = RingPolymer(beads, KT), 300, 1500 * PER_CM
    block, potential = start(ring, rings, masses=PROTON, positions=np.zeros((1, 3))), harmonic(frequency)
    squares, kinetic = [], {"primitive": [], "virial": [], "centroid": []}
    block = run_rings(potential, block, ring, PROTON, 200, timestep * FS, pile=SAMPLING, dipoles=False).block
    for _ in range(80):
        chunk = run_rings(potential, block, ring, PROTON, 5, timestep * FS, pile=SAMPLING, dipoles=False)
        block = chunk.block
        x, forces = block.positions, potential.evaluate(block.positions)[1]
        squares.append((x**2).mean())
        kinetic["primitive"].append(primitive_kinetic(ring, x, PROTON).mean())
        kinetic["virial"].append(virial_kinetic(ring, x, forces).mean())
        kinetic["centroid"].append(centroid_virial_kinetic(ring, x, forces, 3).mean())
    exact = float(harmonic_energy(ring, frequency))
    assert np.mean(squares) == pytest.approx(float(harmonic_square(ring, frequency)) / PROTON[0], rel=0.02)
    for name, tolerance in (("primitive", 0.08), ("virial", 0.02), ("centroid", 0.02)):
        assert np.mean(kinetic[name]) == pytest.approx(3 * exact / 2, rel=tolerance), name


def test_heat_capacity_of_an_oscillator_is_that_of_so_many_beads():
    ring, frequency, rings = RingPolymer(8, KT), 600 * PER_CM, 400
    block, potential = start(ring, rings, masses=PROTON, positions=np.zeros((1, 3))), harmonic(frequency)
    block = run_rings(potential, block, ring, PROTON, 200, FS, pile=SAMPLING, dipoles=False).block
    energies = []
    for _ in range(150):
        block = run_rings(potential, block, ring, PROTON, 10, FS, pile=SAMPLING, dipoles=False).block
        x, (energy, forces) = block.positions, potential.evaluate(block.positions)
        mean = ring.centroid(energy)
        pair = primitive_kinetic(ring, x, PROTON) + mean, centroid_virial_kinetic(ring, x, forces, 3) + mean
        energies.append(pair)
    primitive, virial = (np.concatenate(parts) for parts in zip(*energies, strict=True))
    step = 1e-4 * KT
    hot, cold = (float(harmonic_energy(RingPolymer(8, KT + d), frequency)) for d in (step, -step))
    # With the beads' number fixed the energy's derivative by the temperature is exact for the ring.
    assert heat_capacity(primitive, virial, KT, 3) == pytest.approx(3 * (hot - cold) / (2 * step), rel=0.05)


def test_beads_converge_and_their_number_is_known():
    frequency = 3700 * PER_CM
    needed = beads_needed(frequency, KT)
    assert missing_energy(needed, frequency, KT) <= 0.04 < missing_energy(needed - 1, frequency, KT)
    assert chosen_beads(0, frequency, KT) == 32
    assert chosen_beads(48, frequency, KT) == 48
    assert beads_needed(frequency, 2 * KT) < needed
    assert beads_needed(1 * PER_CM, KT) == 1
    missing = [missing_energy(beads, frequency, KT) for beads in (16, 32, 64, 128)]
    assert np.allclose(np.array(missing[1:]) / missing[:-1], 0.25, atol=0.04)
    with pytest.raises(InputError, match="too few beads") as caught:
        chosen_beads(8, frequency, KT)
    assert "At least 19" in str(caught.value)
    with pytest.raises(InputError, match="at least one bead"):
        RingPolymer(0, KT)


def test_one_bead_is_velocity_verlet():
    model = soft_model()
    ring = RingPolymer(1, KT)
    block = start(ring, 3)
    mine = run_rings(Evaluator(model, NUMBERS, 3), block, ring, MASSES, 100, 0.5 * FS, pile=None)
    classical = run_chunk(Evaluator(model, NUMBERS, 3), block, MASSES, 100, 0.5 * FS)
    assert np.allclose(mine.dipoles, classical.dipoles, atol=1e-12)
    assert np.allclose(mine.block.positions, classical.block.positions, atol=1e-12)


def test_rpmd_conserves_the_rings_energy_to_second_order():
    model, ring = soft_model(), RingPolymer(8, KT)
    evaluator = Evaluator(model, NUMBERS, 32)
    spreads = []
    for refine in (1, 2):
        block, totals = start(ring, 4), []
        for _ in range(60):
            block = run_rings(evaluator, block, ring, MASSES, 5 * refine, 0.4 * FS / refine, pile=None).block
            kinetic = 0.5 * np.einsum("i,icr->r", MASSES, block.velocities**2)
            potential = evaluator.evaluate(block.positions)[0]
            totals.append(ring.split(kinetic + potential).sum(0) + spring_energy(ring, block.positions, MASSES))
        spreads.append(np.ptp(totals, axis=0))
        assert np.max(spreads[-1]) < 0.02 * 9 * 8 * 8 * KT / 2
    assert np.mean(spreads[0] / spreads[1]) == pytest.approx(4, rel=0.4)


@pytest.mark.parametrize("all_pairs", [True, False], ids=["all-pairs", "list"])
@pytest.mark.parametrize("pile", [None, Pile(TRPMD_FRICTION, None, 3), SAMPLING], ids=["rpmd", "trpmd", "pile"])
def test_compiled_rings_equal_the_plain_ones(pile, all_pairs):
    model, ring = soft_model(), RingPolymer(6, KT)
    block = start(ring, 3)
    options = {"pile": pile, "dipole_every": 3}
    fast = run_rings(Evaluator(model, NUMBERS, 18, all_pairs=all_pairs), block, ring, MASSES, 60, 0.5 * FS, **options)
    plain = run_rings(as_function(model, 18, all_pairs=all_pairs), block, ring, MASSES, 60, 0.5 * FS, **options)
    for name in ("kinetic", "potential", "dipoles", "positions", "velocities"):
        mine, other = getattr(fast, name), getattr(plain, name)
        assert mine.shape == other.shape
        assert np.abs(mine - other).max() < 1e-9 * np.abs(other).max()
    assert np.allclose(fast.block.positions, plain.block.positions, atol=1e-9)


def test_chunks_and_blocks_do_not_change_a_ring():
    """Bit for bit: in one piece or several, among others or alone."""
    model, ring, pile = soft_model(2), RingPolymer(6, KT), Pile(TRPMD_FRICTION, None, 3)
    whole = start(ring, 5)
    evaluator = Evaluator(model, NUMBERS, 30)
    once = run_rings(evaluator, whole, ring, MASSES, 60, 0.5 * FS, pile=pile, spread_every=20)
    block, dipoles = whole, []
    for steps in (17, 1, 42):
        chunk = run_rings(evaluator, block, ring, MASSES, steps, 0.5 * FS, pile=pile, spread_every=20)
        block = chunk.block
        dipoles.append(chunk.dipoles)
    assert np.array_equal(block.positions, once.block.positions)
    assert np.array_equal(block.velocities, once.block.velocities)
    assert np.array_equal(np.concatenate(dipoles), once.dipoles)
    assert once.spread.shape == (3, 5)
    assert (once.spread > 0).all()
    lanes = np.arange(6) * 5 + 3
    alone = ReplicaBlock(whole.positions[..., lanes], whole.velocities[..., lanes], 0, np.array([3]), np.array([True]))
    single = run_rings(Evaluator(model, NUMBERS, 6), alone, ring, MASSES, 60, 0.5 * FS, pile=pile)
    assert np.array_equal(single.dipoles[..., 0], once.dipoles[..., 3])
    assert np.array_equal(single.block.positions, once.block.positions[..., lanes])


@pytest.mark.parametrize("compiled", [True, False])
def test_a_ring_with_one_bad_bead_is_retired_whole(compiled):
    model, ring = soft_model(), RingPolymer(4, KT)
    block = start(ring, 3)
    block.velocities[1, 0, 2 * 3 + 1] = 3.0 * ANGSTROM / FS
    potential = Evaluator(model, NUMBERS, 12) if compiled else as_function(model, 12)
    chunk = run_rings(potential, block, ring, MASSES, 20, 0.5 * FS, pile=SAMPLING)
    assert [(item.replica, item.step) for item in chunk.retired] == [(1, 1)]
    assert chunk.block.alive.tolist() == [True, False, True]
    assert not ring.split(chunk.block.velocities)[..., 1].any()
    others = run_rings(potential, start(ring, 3), ring, MASSES, 20, 0.5 * FS, pile=SAMPLING)
    assert np.allclose(chunk.dipoles[..., [0, 2]], others.dipoles[..., [0, 2]], atol=1e-12)
