"""Starts of the trajectories of a flexible molecule: conformers sampled with the model by torsional Monte Carlo.

Moves about the rotatable bonds alternate with Langevin dynamics; both keep the Boltzmann distribution of the model, so
that the starts represent the ensemble and not one minimum (Duane et al., Phys. Lett. B 195, 216, 1987, for the
mixture). A cycle that ends outside the region covered by the training data is rejected, as a move is, and the replica
continues from before with reversed velocities. Rotated chains press hydrogens together, and a model without labels of
such contacts may have no repulsion there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.dynamics.integrators import Thermostat
from hpcir.dynamics.runner import ReplicaBlock, run_chunk
from hpcir.dynamics.thermal import thermal_velocities
from hpcir.errors import InputError
from hpcir.models.evaluator import Evaluator, spread_of
from hpcir.models.model import Model
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.conformers import rotors
from hpcir.molecules.rotamers import Pivot, pivots, random_rotamer, torsion_moves
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.sampling.exploration import GeometryCheck
from hpcir.storage import layout
from hpcir.storage.checksums import digest
from hpcir.study.context import Context, JournalEntry
from hpcir.study.learning.relaxation import ROUGH_TOLERANCE, minima
from hpcir.study.production.plan import Starts
from hpcir.vibrations.normal_modes import thermal_geometries

FloatArray = NDArray[np.float64]

FOLDER = layout.STARTS
# Cycles of moves and dynamics; moves of a cycle for each rotatable bond; steps of dynamics of a cycle.
CYCLES = 10
MOVES_PER_BOND = 2
CYCLE_STEPS = 100
# The same for a small molecule: its moves cost little, and its few rotamers need their right populations.
MOVES_PER_ROTOR = 10
# Largest energy above the lowest of rotamers that count, in kT, and the most that are relaxed.
ROTAMER_WINDOW, MAX_ROTAMERS = 7.0, 12
# Most random conformers drawn for a start until one is covered by the training data.
MAX_ATTEMPTS = 20
# Energy added to a geometry outside the region covered by the training data, hartree.
PENALTY = 1e3


@collective
def count_rotamers(context: Context, model: Model, structure: Structure, weights_key: str) -> int:
    """Number of unlike minima of the model, ROTAMER_WINDOW above the lowest at most, that turning about bonds leads to
    (collective): 1 for a molecule that has nothing to turn. Mirror images are one.

    weights_key: a digest of the model.
    """
    try:
        graph = bond_graph(structure)
    except InputError:
        return 1
    if not rotors(graph):
        return 1
    window = ROTAMER_WINDOW * context.deck.dynamics.temperature
    seed = context.deck.seed
    found = minima(context, model, structure, graph, MAX_ROTAMERS, seed, weights_key, ROUGH_TOLERANCE, window=window)
    return max(1, len(found))


@collective
def sampled_starts(
    context: Context,
    model: Model,
    structure: Structure,
    count: int,
    weights_key: str,
    moves_per_bond: int = MOVES_PER_BOND,
) -> Starts:
    """Starts of `count` trajectories of a molecule at the deck's temperature (collective).

    weights_key: a digest of the model; moves_per_bond: in each cycle. Blocks are those of the deck's lockstep; finished
    ones come from their journal.
    """
    dynamics = context.deck.dynamics
    size = min(dynamics.lockstep, count)
    firsts = list(range(0, count, size))
    settings = [dynamics.temperature, dynamics.force_error, context.deck.seed, count, size]
    settings += [moves_per_bond] if moves_per_bond != MOVES_PER_BOND else []
    key = digest("starts", weights_key, structure.positions, *settings)

    def block(number: int) -> JournalEntry:
        ids = np.arange(firsts[number], min(firsts[number] + size, count))
        return _block(context, model, structure, ids, moves_per_bond), {"block": number}

    keys = [digest(key, number) for number in range(len(firsts))]
    records = context.map_journalled(f"starts of {structure.name}", FOLDER, keys, block, "blocks")
    joined = None
    if records is not None:
        names = records[0].arrays
        joined = {name: np.concatenate([record.arrays[name] for record in records], axis=-1) for name in names}
    arrays = context.comm.bcast(joined)
    taken, tried = float(arrays["taken"].sum()), float(max(arrays["tried"].sum(), 1))
    if context.root:
        context.progress.log(
            f"starts of {structure.name}: {100 * taken / tried:.0f} % of {tried:.0f} torsion moves taken"
        )
    return Starts(arrays["positions"], arrays["velocities"], arrays["alive"].astype(bool), digest(key, "joined"))


def _block(
    context: Context, model: Model, structure: Structure, ids: NDArray[np.int64], moves_per_bond: int
) -> dict[str, Any]:
    """Positions and velocities (N, 3, R) of one block after all cycles; alive (R,)."""
    dynamics, graph = context.deck.dynamics, bond_graph(structure)
    temperature, masses, physical = dynamics.temperature, structure.masses, GeometryCheck(structure)
    moving = pivots(graph, flips=False)
    evaluator = Evaluator(model, structure.numbers, len(ids), charge=structure.charge)
    limit = model.spread_threshold(dynamics.force_error)

    def known(positions: FloatArray) -> NDArray[np.bool_]:
        return np.asarray(physical(positions.transpose(2, 0, 1)) & (evaluator.force_spread(positions).max(0) < limit))

    positions = _first(context, structure, graph, ids, known)
    seed = int(digest(context.deck.seed, "starts")[:12], 16)
    velocities = thermal_velocities(positions, masses, temperature, seed, ids, rotation=dynamics.rotation)
    block = ReplicaBlock.start(positions, velocities, ids)
    thermostat = Thermostat("langevin", temperature, dynamics.time_constant, seed)
    tried = taken = 0
    for cycle in range(CYCLES):
        context.stop.check()
        chunk = run_chunk(evaluator, block, masses, CYCLE_STEPS, dynamics.timestep, thermostat=thermostat, record=())
        random = context.random("moves", int(ids[0]), cycle)
        count = moves_per_bond * len(moving)
        moved, moves = _moved(chunk.block, evaluator, physical, moving, temperature, limit, random, count)
        block = _unless_lost(block, moved, known)
        tried, taken = tried + moves[0], taken + moves[1]
    return {
        "positions": block.positions,
        "velocities": block.velocities,
        "alive": block.alive,
        "tried": np.array([tried]),
        "taken": np.array([taken]),
    }


def _first(
    context: Context,
    structure: Structure,
    graph: BondGraph,
    ids: NDArray[np.int64],
    known: Callable[[FloatArray], NDArray[np.bool_]],
) -> FloatArray:
    """Thermal random conformers (N, 3, R), drawn until covered by the training data, MAX_ATTEMPTS times at most."""
    temperature = context.deck.dynamics.temperature
    streams = [context.random("starts", item) for item in ids.tolist()]
    positions = np.zeros((len(structure), 3, len(ids)))
    missing = np.ones(len(ids), bool)
    for _ in range(MAX_ATTEMPTS):
        for replica in np.flatnonzero(missing):
            random = streams[replica]
            rotamer = random_rotamer(structure, graph, random, flips=False)
            positions[:, :, replica] = thermal_geometries(rotamer, temperature, 1, random)[0]
        missing &= ~known(positions)
        if not missing.any():
            break
    return positions


def _unless_lost(
    before: ReplicaBlock, after: ReplicaBlock, known: Callable[[FloatArray], NDArray[np.bool_]]
) -> ReplicaBlock:
    """The block after a cycle; replicas that left the training data as they were before, with reversed velocities."""
    lost = known(before.positions) & ~(known(after.positions) & after.alive)
    return replace(
        after,
        positions=np.ascontiguousarray(np.where(lost, before.positions, after.positions)),
        velocities=np.ascontiguousarray(np.where(lost, -before.velocities, after.velocities)),
        alive=np.where(lost, before.alive, after.alive),
    )


def _moved(
    block: ReplicaBlock,
    evaluator: Evaluator,
    physical: GeometryCheck,
    moving: list[Pivot],
    temperature: float,
    limit: float,
    random: np.random.Generator,
    count: int,
) -> tuple[ReplicaBlock, tuple[int, int]]:
    """The block after `count` torsion moves, and the numbers tried and accepted; none to a spread beyond `limit`."""

    def energies_of(frames: FloatArray) -> FloatArray:
        energies, forces = evaluator.members(np.ascontiguousarray(frames.transpose(1, 2, 0)))
        return np.asarray(energies.mean(0) + np.where(spread_of(forces).max(0) < limit, 0.0, PENALTY))

    frames = block.positions.transpose(2, 0, 1)
    moves = torsion_moves(energies_of, physical, moving, frames, temperature, count, random)
    moved = replace(block, positions=np.ascontiguousarray(moves.positions.transpose(1, 2, 0)))
    return moved, (moves.tried, moves.taken)
