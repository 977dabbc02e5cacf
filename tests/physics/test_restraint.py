"""The restraint of clusters: forces, conservation, the kernels against the plain twin, and a dimer that holds."""

from __future__ import annotations

import numpy as np
import pytest

from hpcir.deck.sections import LabelSettings
from hpcir.descriptors.definition import automatic_set
from hpcir.dynamics.integrators import Thermostat
from hpcir.dynamics.restraint import Restraint
from hpcir.dynamics.ring_polymer import Pile, RingPolymer, bead_velocities
from hpcir.dynamics.ring_runner import run_rings
from hpcir.dynamics.runner import RECORDS, ReplicaBlock, run_chunk
from hpcir.dynamics.thermal import thermal_velocities
from hpcir.errors import InputError
from hpcir.labels import create_engine
from hpcir.labels.potential import EnginePotential
from hpcir.models.evaluation import ReplicaEvaluation
from hpcir.models.evaluator import Evaluator
from hpcir.models.potential import ReplicaFunction
from hpcir.models.random_model import random_model
from hpcir.molecules.pieces import Connectivity, pieces
from hpcir.molecules.structures import Structure, standard_masses
from hpcir.units import ANGSTROM, EV, FS, KCAL_PER_MOL, KELVIN

NUMBERS = np.array([8, 1, 1] * 2)
WATER = np.array([[0.0, 0.0, 0.1173], [0.0, 0.7572, -0.4692], [0.0, -0.7572, -0.4692]])
DIMER = np.concatenate([WATER, WATER + np.array([0.0, 0.0, 2.9])]) * ANGSTROM
XTB_DIMER = np.array(
    [
        [-1.464, 0.099, 0.3],
        [-1.956, 0.624, -0.340],
        [-1.797, -0.799, 0.206],
        [1.369, 0.146, -0.395],
        [1.894, 0.486, 0.335],
        [0.451, 0.165, -0.083],
    ]
)
MASSES = standard_masses(NUMBERS)
PIECES = pieces(Structure(NUMBERS, DIMER))
KT = 300 * KELVIN


def restraint(margin: float = 0.5) -> Restraint:
    return Restraint.around(PIECES, DIMER, MASSES, margin * ANGSTROM)


def frames(replicas: int, size: float) -> np.ndarray:
    random = np.random.Generator(np.random.Philox(key=[7, replicas]))
    return DIMER[:, :, None] + size * ANGSTROM * random.standard_normal((*DIMER.shape, replicas))


def springs(positions: np.ndarray) -> ReplicaEvaluation:
    """Two waters of springs that do not feel each other."""
    energies, forces = np.zeros(positions.shape[2]), np.zeros_like(positions)
    for first in (0, 3):
        for i, j in ((0, 1), (0, 2), (1, 2)):
            vector = positions[first + j] - positions[first + i]
            length = np.linalg.norm(vector, axis=0)
            rest = np.linalg.norm(DIMER[first + j] - DIMER[first + i])
            stiffness = 20 * EV / ANGSTROM**2
            energies += 0.5 * stiffness * (length - rest) ** 2
            pull = stiffness * (length - rest) * vector / length
            forces[first + i] += pull
            forces[first + j] -= pull
    return ReplicaEvaluation(energies, forces, np.einsum("n,nar->ar", np.array([-2.0, 1, 1] * 2), positions))


def block(replicas: int, positions: np.ndarray | None = None, temperature: float = KT) -> ReplicaBlock:
    at = np.repeat(DIMER[:, :, None], replicas, axis=2) if positions is None else positions
    ids = np.arange(replicas)
    return ReplicaBlock.start(at, thermal_velocities(at, MASSES, temperature, 3, ids), ids)


def test_forces_are_minus_the_gradient_and_turn_nothing():
    held, at = restraint(-0.3), frames(4, 0.3)
    energies, forces = held.evaluate(at)
    assert (energies > 0).all()
    for atom, axis in np.ndindex(6, 3):
        step = np.zeros_like(at)
        step[atom, axis] = 1e-4
        slope = (held.evaluate(at + step)[0] - held.evaluate(at - step)[0]) / 2e-4
        np.testing.assert_allclose(forces[atom, axis], -slope, atol=1e-8)
    np.testing.assert_allclose(forces.sum(0), 0, atol=1e-14)
    np.testing.assert_allclose(np.cross(at, forces, axis=1).sum(0), 0, atol=1e-13)


def test_nothing_within_and_pieces_move_as_wholes():
    held = restraint(0.5)
    assert not held.reached(DIMER[:, :, None]).any()
    assert not any(np.any(part) for part in held.evaluate(frames(3, 0.05)))
    apart = DIMER.copy()
    apart[3:, 2] += 4 * ANGSTROM
    accelerations = held.evaluate(apart[:, :, None])[1][:, :, 0] / MASSES[:, None]
    for piece in PIECES:
        np.testing.assert_allclose(accelerations[piece], accelerations[piece[:1]].repeat(3, 0), rtol=1e-12)
    with pytest.raises(InputError, match="one piece"):
        Restraint.around([[0, 1, 2]], DIMER[:3], MASSES[:3], 1.0)


def test_energy_is_conserved_on_the_wall():
    """Fluctuations of velocity Verlet, of second order in the timestep, and no drift."""
    potential, held, sizes = ReplicaFunction(springs), restraint(0.2), []
    for timestep in (0.5 * FS, 0.25 * FS):
        options = {"restraint": held, "record": RECORDS, "dipole_every": 5}
        chunk = run_chunk(potential, block(6), MASSES, round(700 * FS / timestep), timestep, **options)
        total = chunk.kinetic + chunk.potential
        sizes.append(np.std(total, axis=0).max())
        assert np.abs(total[-40:].mean(0) - total[:40].mean(0)).max() < 1e-2 * KT
    assert held.reached(chunk.positions).any(0).sum() >= 3
    assert 3 < sizes[0] / sizes[1] < 5


def test_a_dimer_that_dissociates_stays_together_with_it():
    """Two molecules that do not attract each other leave; held, they are one cluster in every frame."""
    start, watch = block(8), Connectivity(Structure(NUMBERS, DIMER))
    options = {"record": RECORDS, "dipole_every": 20}
    free = run_chunk(ReplicaFunction(springs), start, MASSES, 4000, 0.5 * FS, **options)
    held = run_chunk(ReplicaFunction(springs), start, MASSES, 4000, 0.5 * FS, restraint=restraint(0.2), **options)
    assert sum(event.kind == "apart" for event in watch.events(free.positions)) >= 6
    assert restraint(0.2).distances(free.positions).max() > 5 * ANGSTROM
    assert restraint(0.2).distances(held.positions).max() < restraint(0.2).radius + 0.5 * ANGSTROM
    assert [event for event in watch.events(held.positions) if event.kind == "apart"] == []


def test_a_dimer_of_xtb_that_is_shot_apart_comes_back():
    """Twice the binding energy sends the molecules off each other; the one at rest does not notice the restraint."""
    pytest.importorskip("tblite")
    structure = Structure(NUMBERS, XTB_DIMER * ANGSTROM)
    found = pieces(structure)
    potential = EnginePotential(create_engine(LabelSettings(engine="tblite"), structure), structure)
    at = np.repeat(structure.positions[:, :, None], 2, axis=2)
    start = ReplicaBlock.start(at, np.zeros_like(at), [0, 1])
    apart = np.diff([MASSES[piece] @ structure.positions[piece] / MASSES[piece].sum() for piece in found], axis=0)[0]
    speed = np.sqrt(2 * 10 * KCAL_PER_MOL / (MASSES[:3].sum() / 2)) * apart / np.linalg.norm(apart)
    start.velocities[found[0], :, 0], start.velocities[found[1], :, 0] = -speed / 2, speed / 2
    held = Restraint.around(found, structure.positions, MASSES, 0.5 * ANGSTROM)
    options = {"record": RECORDS, "dipole_every": 10}
    runs = [
        run_chunk(potential.replicas(NUMBERS, 2), start, MASSES, 300, 0.75 * FS, restraint=wall, **options)
        for wall in (None, held)
    ]
    watch = Connectivity(structure)
    assert [event.kind for event in watch.events(runs[0].positions)] == ["apart"]
    assert held.distances(runs[0].positions)[-1, :, 0].min() > 2 * held.radius
    assert [event.kind for event in watch.events(runs[1].positions[-1:])] == []
    assert held.distances(runs[1].positions).max() < held.radius + 0.7 * ANGSTROM
    assert np.array_equal(runs[0].positions[..., 1], runs[1].positions[..., 1])
    total = runs[1].kinetic + runs[1].potential
    assert np.ptp(total, axis=0).max() < 0.5 * KCAL_PER_MOL


def model_evaluator(replicas: int) -> Evaluator:
    return Evaluator(random_model(automatic_set((1, 8), 8.0, 3, 1, (1,)), 4, members=2, scale=0.01), NUMBERS, replicas)


@pytest.mark.parametrize("thermostat", [None, Thermostat("langevin", KT, 50 * FS, 3)], ids=["nve", "langevin"])
def test_the_kernels_are_their_plain_twin(thermostat):
    evaluator, twin = model_evaluator(3), model_evaluator(3)
    options = {"thermostat": thermostat, "record": RECORDS, "dipole_every": 5, "restraint": restraint(0.02)}
    fast = run_chunk(evaluator, block(3), MASSES, 300, 0.5 * FS, spread_every=50, **options)
    plain = run_chunk(ReplicaFunction(twin.evaluate_with_dipoles), block(3), MASSES, 300, 0.5 * FS, **options)
    assert options["restraint"].reached(fast.positions).any()
    for name in ("kinetic", "potential", "dipoles", "positions", "velocities"):
        mine, other = getattr(fast, name), getattr(plain, name)
        assert np.abs(mine - other).max() < 1e-10 * np.abs(other).max()


def test_ring_polymers_feel_it_in_every_bead():
    ring, ids = RingPolymer(4, KT), np.arange(2)
    at = np.repeat(DIMER[:, :, None], 2, axis=2)
    speeds = bead_velocities(ring, thermal_velocities(at, MASSES, KT, 3, ids), MASSES, 3, ids)
    start = ReplicaBlock.start(np.tile(at, (1, 1, 4)), speeds, ids)
    options = {"pile": Pile(0.5, None, 3), "dipole_every": 5, "restraint": restraint(0.01)}
    fast = run_rings(model_evaluator(8), start, ring, MASSES, 100, 0.5 * FS, **options)
    plain = run_rings(
        ReplicaFunction(model_evaluator(8).evaluate_with_dipoles), start, ring, MASSES, 100, 0.5 * FS, **options
    )
    assert options["restraint"].reached(fast.positions).any()
    for name in ("kinetic", "potential", "dipoles", "positions", "velocities"):
        mine, other = getattr(fast, name), getattr(plain, name)
        assert np.abs(mine - other).max() < 1e-9 * np.abs(other).max()


def test_a_restraint_that_is_never_reached_changes_no_bit():
    """Also for replicas of a block in which another one reaches it."""
    options = {"record": RECORDS, "dipole_every": 5, "spread_every": 50}
    at = np.repeat(DIMER[:, :, None], 3, axis=2)
    at[3:, 2, 2] += 3 * ANGSTROM
    start = block(3, at)
    without = run_chunk(model_evaluator(3), start, MASSES, 200, 0.5 * FS, **options)
    held = run_chunk(model_evaluator(3), start, MASSES, 200, 0.5 * FS, restraint=restraint(1.0), **options)
    assert restraint(1.0).reached(held.positions).any(0).tolist() == [False, False, True]
    for name in ("kinetic", "potential", "dipoles", "positions", "velocities", "spread"):
        assert np.array_equal(getattr(without, name)[..., :2], getattr(held, name)[..., :2])
    assert not np.array_equal(without.positions[..., 2], held.positions[..., 2])


def test_a_trajectory_is_the_same_in_any_block_and_any_chunks():
    """So it is on any number of ranks: bit for bit alone, among others, and cut into pieces."""
    langevin = Thermostat("langevin", KT, 50 * FS, 3)
    options = {"record": RECORDS, "dipole_every": 5, "restraint": restraint(-0.05), "thermostat": langevin}
    start = block(3)
    whole = run_chunk(model_evaluator(3), start, MASSES, 200, 0.5 * FS, **options)
    assert restraint(-0.05).reached(whole.positions).any(0).all()
    alone = ReplicaBlock.start(start.positions[:, :, 2:], start.velocities[:, :, 2:], [2])
    evaluator, frames = model_evaluator(1), []
    for steps in (45, 105, 50):
        chunk = run_chunk(evaluator, alone, MASSES, steps, 0.5 * FS, **options)
        frames.append(chunk.positions)
        alone = chunk.block
    assert np.array_equal(np.concatenate(frames)[..., 0], whole.positions[..., 2])
