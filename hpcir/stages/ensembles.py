"""Where the trajectories of a flexible molecule begin: conformers sampled with the model by torsional Monte Carlo.

Moves about the rotatable bonds alternate with Langevin dynamics; both keep the Boltzmann distribution of the model, so
that the starts stand for the ensemble and not for one minimum (Duane et al., Phys. Lett. B 195, 216, 1987, for the
mixture).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.dynamics.integrators import Thermostat
from hpcir.dynamics.runner import ReplicaBlock, run_chunk
from hpcir.dynamics.thermal import thermal_velocities
from hpcir.models.evaluator import Evaluator
from hpcir.models.model import Model
from hpcir.sampling.bond_orders import bond_graph
from hpcir.sampling.exploration import Sanity
from hpcir.sampling.rotamers import Pivot, pivots, random_rotamer, thermal_geometries, torsion_moves
from hpcir.stages.context import Context
from hpcir.stages.trajectories import Starts
from hpcir.store import digest
from hpcir.structures import Structure

FloatArray = NDArray[np.float64]

FOLDER = "starts"
# Rounds of moves and dynamics; moves of a round for each rotatable bond; steps of dynamics of a round.
CYCLES = 10
MOVES_A_BOND = 2
STEPS = 100


def sampled_starts(context: Context, model: Model, structure: Structure, count: int, weights_key: str) -> Starts:
    """Starts of `count` trajectories of a molecule at the deck's temperature (collective).

    weights_key: a digest of the model. Blocks are those of the deck's lockstep; finished ones come from their journal.
    """
    dynamics = context.deck.dynamics
    size = min(dynamics.lockstep, count)
    firsts = list(range(0, count, size))
    key = digest("starts", weights_key, structure.positions, dynamics.temperature, context.deck.seed, count, size)
    done = {record.key: record.arrays for record in context.directory.records(FOLDER)} if context.root else {}
    todo = context.comm.bcast([n for n in range(len(firsts)) if digest(key, n) not in done])
    journal = context.directory.journal(FOLDER, context.comm.node)
    mine: list[tuple[str, dict[str, Any]]] = []
    with context.progress.stage(f"starts of {structure.name}", total=len(firsts)) as stage:
        for item in context.comm.counter(len(todo)):
            first = firsts[todo[item]]
            ids = np.arange(first, min(first + size, count))
            arrays = _block(context, model, structure, ids)
            journal.append(digest(key, todo[item]), arrays, {"block": todo[item]})
            mine.append((digest(key, todo[item]), arrays))
            stage.advance_to(len(firsts) - len(todo) + item + 1)
    journal.close()
    gathered = context.comm.gather(mine)
    joined = None
    if gathered is not None:
        done |= dict(pair for part in gathered for pair in part)
        blocks = [done[digest(key, n)] for n in range(len(firsts))]
        joined = {name: np.concatenate([block[name] for block in blocks], axis=-1) for name in blocks[0]}
    arrays = context.comm.bcast(joined)
    taken, tried = float(arrays["taken"].sum()), float(max(arrays["tried"].sum(), 1))
    if context.root:
        context.progress.log(
            f"starts of {structure.name}: {100 * taken / tried:.0f} % of {tried:.0f} torsion moves taken"
        )
    return Starts(arrays["positions"], arrays["velocities"], arrays["alive"].astype(bool), digest(key, "joined"))


def _block(context: Context, model: Model, structure: Structure, ids: NDArray[np.int64]) -> dict[str, Any]:
    """Positions and velocities (N, 3, R) of one block after all cycles; alive (R,)."""
    dynamics, graph = context.deck.dynamics, bond_graph(structure)
    temperature, masses, sane = dynamics.temperature, structure.masses, Sanity(structure)
    moving = pivots(graph, flips=False)
    starts = []
    for item in ids.tolist():
        random = context.random("starts", item)
        rotamer = random_rotamer(structure, graph, random, flips=False)
        starts.append(thermal_geometries(rotamer, temperature, 1, random)[0])
    positions = np.ascontiguousarray(np.array(starts).transpose(1, 2, 0))
    seed = int(digest(context.deck.seed, "starts")[:12], 16)
    velocities = thermal_velocities(positions, masses, temperature, seed, ids, rotation=dynamics.rotation)
    block = ReplicaBlock.start(positions, velocities, ids)
    evaluator = Evaluator(model, structure.numbers, len(ids), charge=structure.charge)
    thermostat = Thermostat("langevin", temperature, dynamics.time_constant, seed)
    tried = taken = 0
    for cycle in range(CYCLES):
        context.stop.check()
        chunk = run_chunk(evaluator, block, masses, STEPS, dynamics.timestep, thermostat=thermostat, record=())
        random = context.random("moves", int(ids[0]), cycle)
        block, moves = _moved(chunk.block, evaluator, sane, moving, temperature, random)
        tried, taken = tried + moves[0], taken + moves[1]
    return {
        "positions": block.positions,
        "velocities": block.velocities,
        "alive": block.alive,
        "tried": np.array([tried]),
        "taken": np.array([taken]),
    }


def _moved(
    block: ReplicaBlock,
    evaluator: Evaluator,
    sane: Sanity,
    moving: list[Pivot],
    temperature: float,
    random: np.random.Generator,
) -> tuple[ReplicaBlock, tuple[int, int]]:
    def energies_of(frames: FloatArray) -> FloatArray:
        return evaluator.evaluate(np.ascontiguousarray(frames.transpose(1, 2, 0)))[0]

    frames = block.positions.transpose(2, 0, 1)
    moves = torsion_moves(energies_of, sane, moving, frames, temperature, MOVES_A_BOND * len(moving), random)
    moved = replace(block, positions=np.ascontiguousarray(moves.positions.transpose(1, 2, 0)))
    return moved, (moves.tried, moves.taken)
