"""Dynamics: conservation, sampling, reproducibility, retirement; compiled steps against the plain ones."""

from __future__ import annotations

import numpy as np
import pytest

from hpcir.descriptors.definition import automatic_set
from hpcir.dynamics.integrators import Thermostat
from hpcir.dynamics.runner import RECORDS, ReplicaBlock, run_chunk
from hpcir.dynamics.thermal import degrees_of_freedom, kinetic_energy, remove_motion, thermal_velocities
from hpcir.errors import InputError
from hpcir.models.evaluation import ReplicaEvaluation
from hpcir.models.evaluator import Evaluator
from hpcir.models.potential import ReplicaFunction
from hpcir.models.random_model import random_model
from hpcir.molecules.structures import standard_masses
from hpcir.units import ANGSTROM, FS, KELVIN

NUMBERS = np.array([6, 8, 1, 1, 1, 1])
METHANOL = ANGSTROM * np.array(
    [
        [-0.047, 0.664, 0.0],
        [-0.047, -0.758, 0.0],
        [-1.093, 0.970, 0.0],
        [0.878, -1.070, 0.0],
        [0.438, 1.071, 0.889],
        [0.438, 1.071, -0.889],
    ]
)
MASSES = standard_masses(NUMBERS)
FUNCTIONS = automatic_set((1, 6, 8), 10.0, 6, 2, (1, 2))
KT = 300 * KELVIN


def soft_model(members=1):
    """Smooth, weak forces: a molecule that stays together for a picosecond."""
    return random_model(FUNCTIONS, 4, members=members, scale=0.01)


def start(replicas, seed=1, temperature=KT, numbers=NUMBERS, positions=METHANOL):
    block = np.repeat(positions[:, :, None], replicas, axis=2)
    ids = np.arange(replicas)
    masses = standard_masses(numbers)
    return ReplicaBlock.start(block, thermal_velocities(block, masses, temperature, seed, ids), ids)


def as_function(model, numbers, replicas, **options):
    """The same model as a plain potential."""
    evaluator = Evaluator(model, numbers, replicas, **options)

    return ReplicaFunction(evaluator.evaluate_with_dipoles)


THERMOSTATS = [None, Thermostat("langevin", KT, 50 * FS, 3), Thermostat("svr", KT, 50 * FS, 3)]
NAMES = ["nve", "langevin", "svr"]


@pytest.mark.parametrize("all_pairs", [True, False], ids=["all-pairs", "list"])
@pytest.mark.parametrize("thermostat", THERMOSTATS, ids=NAMES)
def test_compiled_steps_equal_the_plain_ones(thermostat, all_pairs):
    model = soft_model()
    evaluator = Evaluator(model, NUMBERS, 3, all_pairs=all_pairs)
    options = {"thermostat": thermostat, "record": RECORDS, "dipole_every": 3}
    fast = run_chunk(evaluator, start(3), MASSES, 200, 0.5 * FS, **options)
    plain = run_chunk(as_function(model, NUMBERS, 3, all_pairs=all_pairs), start(3), MASSES, 200, 0.5 * FS, **options)
    assert np.array_equal(fast.steps, plain.steps)
    for name in ("kinetic", "potential", "dipoles", "positions", "velocities"):
        mine, other = getattr(fast, name), getattr(plain, name)
        assert mine.shape == other.shape
        assert np.abs(mine - other).max() < 1e-10 * np.abs(other).max()


@pytest.mark.parametrize("all_pairs", [True, False], ids=["all-pairs", "list"])
@pytest.mark.parametrize("thermostat", THERMOSTATS, ids=NAMES)
def test_chunks_and_blocks_do_not_change_a_trajectory(thermostat, all_pairs):
    """Bit for bit: in one piece or several, among others or alone."""
    model, whole = soft_model(), start(5)
    evaluator = Evaluator(model, NUMBERS, 5, all_pairs=all_pairs)
    options = {"thermostat": thermostat, "record": RECORDS}
    once = run_chunk(evaluator, whole, MASSES, 150, 0.5 * FS, **options)
    block, dipoles = whole, []
    for steps in (37, 1, 112):
        chunk = run_chunk(evaluator, block, MASSES, steps, 0.5 * FS, **options)
        block = chunk.block
        dipoles.append(chunk.dipoles)
    assert np.array_equal(block.positions, once.block.positions)
    assert np.array_equal(block.velocities, once.block.velocities)
    assert np.array_equal(np.concatenate(dipoles), once.dipoles)
    pick = slice(3, 4)
    alone = ReplicaBlock(whole.positions[..., pick], whole.velocities[..., pick], 0, np.array([3]), np.array([True]))
    single = run_chunk(Evaluator(model, NUMBERS, 1, all_pairs=all_pairs), alone, MASSES, 150, 0.5 * FS, **options)
    assert np.array_equal(single.dipoles[..., 0], once.dipoles[..., 3])
    assert np.array_equal(single.block.positions[..., 0], once.block.positions[..., 3])


def test_velocity_verlet_conserves_energy_to_second_order():
    model, block = soft_model(), start(8)
    evaluator = Evaluator(model, NUMBERS, 8)
    spreads = []
    for refine in (1, 2):
        chunk = run_chunk(evaluator, block, MASSES, 800 * refine, 0.5 * FS / refine, dipole_every=1, record=())
        total = chunk.kinetic + chunk.potential
        spreads.append(np.ptp(total, axis=0))
        assert np.abs(total[-1] - total[0]).max() < 0.01 * chunk.kinetic.mean()
    assert np.mean(spreads[0] / spreads[1]) == pytest.approx(4, rel=0.15)


def test_nve_conserves_momentum():
    evaluator = Evaluator(soft_model(), NUMBERS, 4)
    block = start(4)
    chunk = run_chunk(evaluator, block, MASSES, 400, 0.5 * FS)
    assert np.abs(np.einsum("i,icr->cr", MASSES, chunk.block.velocities)).max() < 1e-10
    before = np.einsum("i,icr->rc", MASSES, np.cross(block.positions, block.velocities, axis=1))
    after = np.einsum("i,icr->rc", MASSES, np.cross(chunk.block.positions, chunk.block.velocities, axis=1))
    assert np.allclose(after, before, atol=1e-9)


def harmonic(constants):
    """Every atom in its own well, constants (N, 1, 1) in hartree/bohr^2."""
    return ReplicaFunction(lambda x: ReplicaEvaluation(0.5 * (constants * x * x).sum((0, 1)), -constants * x))


def test_baoab_samples_harmonic_positions_exactly_at_a_large_timestep():
    """BAOAB's positions in a harmonic well have the exact variance kT/k for every timestep."""
    replicas, constants = 200, np.array([0.1, 0.4, 0.9])[:, None, None]
    masses = np.array([1836.0, 2 * 1836.0, 12 * 1836.0])
    timestep = 0.8 / np.sqrt(0.9 / (12 * 1836.0))
    thermostat = Thermostat("langevin", KT, 3 * timestep, 11)
    block = ReplicaBlock.start(np.zeros((3, 3, replicas)), np.zeros((3, 3, replicas)), np.arange(replicas))
    small = {"thermostat": thermostat, "largest_step": 1e3, "largest_force": 1e3}
    timestep = min(timestep, 1.2 / np.sqrt((constants[:, 0, 0] / masses).max()))
    block = run_chunk(harmonic(constants), block, masses, 300, timestep, record=(), **small).block
    chunk = run_chunk(
        harmonic(constants), block, masses, 1500, timestep, record=("positions",), dipole_every=5, **small
    )
    variance = (chunk.positions**2).mean((0, 2, 3))
    assert np.allclose(variance * constants[:, 0, 0] / KT, 1, atol=0.025)


def test_velocity_rescaling_gives_the_canonical_kinetic_energy():
    """Mean n kT/2 and variance n (kT)^2 / 2 of the kinetic energy of free atoms, from a cold start."""
    replicas = 300
    masses = np.linspace(1.0, 12.0, 4) * 1836.0
    thermostat = Thermostat("svr", KT, 5 * FS, 12, degrees=12)
    stream = np.random.default_rng(0)
    velocities = 1e-6 * stream.normal(size=(4, 3, replicas))
    block = ReplicaBlock.start(np.zeros((4, 3, replicas)), velocities, np.arange(replicas))
    free = harmonic(np.zeros((4, 1, 1)))
    block = run_chunk(free, block, masses, 300, 0.4 * FS, thermostat=thermostat, record=()).block
    chunk = run_chunk(free, block, masses, 1200, 0.4 * FS, thermostat=thermostat, record=())
    assert chunk.kinetic.mean() == pytest.approx(6 * KT, rel=0.02)
    assert chunk.kinetic.var() == pytest.approx(6 * KT**2, rel=0.06)


def test_thermal_velocities_have_the_temperature_and_no_drift():
    replicas = 3000
    positions = np.repeat(METHANOL[:, :, None], replicas, axis=2)
    for rotation in ("keep", "remove"):
        velocities = thermal_velocities(positions, MASSES, KT, 5, np.arange(replicas), rotation=rotation)
        degrees = degrees_of_freedom(METHANOL, MASSES, rotation)
        assert kinetic_energy(velocities, MASSES).mean() == pytest.approx(degrees * KT / 2, rel=0.02)
        assert np.abs(np.einsum("i,icr->cr", MASSES, velocities)).max() < 1e-9
    momentum = np.einsum("i,icr->rc", MASSES, np.cross(positions, velocities, axis=1))
    assert np.abs(momentum).max() < 1e-8


def test_a_linear_molecule_has_two_rotations():
    positions = np.array([[0, 0, -2.2], [0, 0, 0], [0, 0, 2.2]])
    masses = standard_masses(np.array([8, 6, 8]))
    assert degrees_of_freedom(positions, masses, "remove") == 4
    velocities = np.random.default_rng(0).normal(size=(3, 3, 2))
    left = remove_motion(np.repeat(positions[:, :, None], 2, 2), velocities, masses)
    momentum = np.einsum("i,icr->rc", masses, np.cross(positions[:, :, None] + 0 * left, left, axis=1))
    assert np.abs(momentum).max() < 1e-8


def test_bends_of_a_linear_molecule_keep_their_energy_when_rotation_is_removed():
    """Bent carbon dioxide: what turns it about its axis is vibrational angular momentum, and 4 kT/2 are left, not 3."""
    positions, count = np.array([[0.1, 0, -2.2], [-0.15, 0, 0], [0.1, 0, 2.2]]), 20_000
    masses = standard_masses(np.array([8, 6, 8]))
    frames = np.repeat(positions[:, :, None], count, 2)
    left = thermal_velocities(frames, masses, KT, 3, np.arange(count), rotation="remove", linear=True)
    assert kinetic_energy(left, masses).mean() == pytest.approx(4 * KT / 2, rel=0.02)
    about = positions - masses @ positions / masses.sum()
    momentum = np.einsum("i,icr->cr", masses, np.cross(about[:, :, None] + 0 * left, left, axis=1))
    assert np.abs(momentum[:2]).max() < 1e-8
    inertia = float(masses @ about[:, 0] ** 2)
    assert (momentum[2] ** 2).mean() == pytest.approx(inertia * KT, rel=0.04)


def test_velocities_depend_on_the_trajectory_alone():
    positions = np.repeat(METHANOL[:, :, None], 4, axis=2)
    four = thermal_velocities(positions, MASSES, KT, 5, np.array([7, 3, 9, 1]))
    one = thermal_velocities(positions[..., :1], MASSES, KT, 5, np.array([9]))
    assert np.array_equal(four[..., 2], one[..., 0])
    other = thermal_velocities(positions[..., :1], MASSES, KT, 6, np.array([9]))
    assert not np.allclose(one, other)


def spoil(block, kind):
    """Replica 1 leaves physics."""
    positions, velocities = block.positions.copy(), block.velocities.copy()
    if kind == "fast":
        velocities[2, :, 1] = 1.0
    elif kind == "nan":
        velocities[3, 0, 1] = np.nan
    else:
        positions[3, :, 1] = positions[2, :, 1]  # two atoms in one place: 0/0
    return ReplicaBlock.start(positions, velocities, block.trajectories)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])
@pytest.mark.parametrize("kind", ["fast", "nan", "overlap"])
@pytest.mark.parametrize("all_pairs", [True, False], ids=["all-pairs", "list"])
def test_a_bad_replica_is_named_and_the_others_do_not_notice(kind, compiled, all_pairs):
    model = soft_model()
    if compiled:
        potential = Evaluator(model, NUMBERS, 4, all_pairs=all_pairs)
    else:
        potential = as_function(model, NUMBERS, 4, all_pairs=all_pairs)
    block = start(4)
    options = {"thermostat": THERMOSTATS[1], "record": RECORDS}
    good = run_chunk(potential, block, MASSES, 40, 0.5 * FS, **options)
    bad = run_chunk(potential, spoil(block, kind), MASSES, 40, 0.5 * FS, **options)
    assert not good.retired
    (item,) = bad.retired
    assert (item.replica, item.trajectory) == (1, 1)
    assert item.step == (0 if kind == "overlap" else 1)
    assert "number" in item.reason or "limit" in item.reason
    assert bad.block.alive.tolist() == [True, False, True, True]
    assert np.all(np.isfinite(bad.block.positions))
    assert np.all(bad.block.velocities[..., 1] == 0)
    others = [0, 2, 3]
    assert np.array_equal(bad.block.positions[..., others], good.block.positions[..., others])
    assert np.array_equal(bad.dipoles[..., others], good.dipoles[..., others])
    again = run_chunk(potential, bad.block, MASSES, 8, 0.5 * FS, **options)
    assert not again.retired
    assert np.array_equal(again.block.positions[..., 1], bad.block.positions[..., 1])


def test_a_force_beyond_the_limit_retires():
    evaluator = Evaluator(soft_model(), NUMBERS, 2)
    chunk = run_chunk(evaluator, start(2), MASSES, 5, 0.5 * FS, largest_force=1e-6)
    assert [item.replica for item in chunk.retired] == [0, 1]
    assert "limit" in chunk.retired[0].reason


def test_spread_is_the_committees_and_does_not_disturb_the_path():
    model, block = soft_model(members=3), start(2)
    evaluator = Evaluator(model, NUMBERS, 2)
    plain = run_chunk(evaluator, block, MASSES, 35, 0.5 * FS)
    chunk = run_chunk(evaluator, block, MASSES, 35, 0.5 * FS, spread_every=7, record=("positions",), dipole_every=7)
    assert np.array_equal(chunk.block.positions, plain.block.positions)
    assert chunk.spread_steps.tolist() == [7, 14, 21, 28, 35]
    for row, positions in zip(chunk.spread, chunk.positions, strict=True):
        expected = evaluator.force_spread(positions).max(0)
        assert np.allclose(row, expected, rtol=1e-12)


def test_a_long_molecule_keeps_its_energy_across_list_rebuilds():
    zigzag = np.array([[1.27 * n, 0.42 * (-1) ** n, 0.0] for n in range(30)]) * ANGSTROM
    numbers = np.full(30, 6)
    masses = standard_masses(numbers)
    block = start(2, temperature=4000 * KELVIN, numbers=numbers, positions=zigzag)
    evaluator = Evaluator(soft_model(), numbers, 2)
    chunk = run_chunk(evaluator, block, masses, 600, 0.5 * FS, dipole_every=1, record=())
    assert np.abs(chunk.block.positions - block.positions).max() > 1.0  # the list was rebuilt on the way
    total = chunk.kinetic + chunk.potential
    assert np.ptp(total, axis=0).max() < 2e-3 * chunk.kinetic.mean()


def test_wrong_requests_are_named():
    evaluator = Evaluator(soft_model(), NUMBERS, 2)
    with pytest.raises(InputError, match="Valid: dipoles"):
        run_chunk(evaluator, start(2), MASSES, 1, 1.0, record=("dipole",))
    with pytest.raises(InputError, match="replicas"):
        run_chunk(evaluator, start(3), MASSES, 1, 1.0)
    with pytest.raises(InputError, match="Valid: langevin, svr"):
        Thermostat("berendsen", KT, 1.0, 1)


def test_velocity_rescaling_samples_harmonic_positions_exactly_at_a_large_timestep():
    """The mean square position is kT / k: rescaled after the step it would be 19 % too large at omega dt = 0.8."""
    replicas, constant, mass = 300, 0.9, 12 * 1836.0
    timestep = 0.8 / np.sqrt(constant / mass)
    thermostat = Thermostat("svr", KT, 5 * timestep, 11, degrees=3)
    positions = np.zeros((1, 3, replicas))
    velocities = np.sqrt(KT / mass) * np.random.default_rng(2).normal(size=(1, 3, replicas))
    block = ReplicaBlock.start(positions, velocities, np.arange(replicas))
    wells = harmonic(np.full((1, 1, 1), constant))
    options = {"thermostat": thermostat, "largest_step": 1e3, "largest_force": 1e3}
    block = run_chunk(wells, block, np.array([mass]), 200, timestep, record=(), **options).block
    chunk = run_chunk(wells, block, np.array([mass]), 1500, timestep, record=("positions",), dipole_every=1, **options)
    variance = (chunk.positions**2).mean() * constant / KT
    assert variance == pytest.approx(1, abs=0.015)


def test_velocity_rescaling_leaves_a_molecule_at_rest():
    """No momentum and no angular momentum come back in production at constant temperature."""
    evaluator = Evaluator(soft_model(), NUMBERS, 4)
    block = start(4)
    velocities = remove_motion(block.positions, block.velocities, MASSES)
    block = ReplicaBlock.start(block.positions, velocities, block.trajectories)
    chunk = run_chunk(evaluator, block, MASSES, 400, 0.5 * FS, thermostat=Thermostat("svr", KT, 50 * FS, 3))
    after = np.einsum("i,icr->rc", MASSES, np.cross(chunk.block.positions, chunk.block.velocities, axis=1))
    assert np.abs(after).max() < 1e-8
    assert np.abs(np.einsum("i,icr->cr", MASSES, chunk.block.velocities)).max() < 1e-9
