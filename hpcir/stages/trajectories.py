"""Stage trajectories: independent molecular dynamics with the committee, dipole series and mode energies out.

The unit of work is a block of replicas that move in lockstep; blocks are dealt to ranks, chunks of a block are
journalled with the state to go on from, finished blocks are HDF5 files. A trajectory depends on its number alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.deck import DynamicsSettings
from hpcir.dynamics.replicas import Chunk, Potential, ReplicaBlock, remove_rotation, run_chunk, thermal_velocities
from hpcir.dynamics.thermostats import create_thermostat
from hpcir.sampling.normal_modes import NormalModes, mode_velocities
from hpcir.sampling.normal_modes import sample as sample_modes
from hpcir.stages.context import Context
from hpcir.store import Journal, digest, read_intact, write_h5

FloatArray = NDArray[np.float64]

# Picoseconds of a chunk are set so that a chunk takes seconds at most; steps between two states on the disk.
CHUNK_STEPS = 2000
# Mode velocities are kept for the assignment in this many blocks; their mode energies in all.
ASSIGNED_BLOCKS = 4


@dataclass(frozen=True)
class TrajectoryPlan:
    """What to run: dynamics, start modes, masses, and the name of the set ('main' or an isotopologue)."""

    name: str
    dynamics: DynamicsSettings
    modes: NormalModes
    masses: FloatArray
    spread_limit: float
    folder: str

    @property
    def blocks(self) -> int:
        return -(-self.dynamics.trajectories // self.lockstep)

    @property
    def lockstep(self) -> int:
        return min(self.dynamics.lockstep, self.dynamics.trajectories)

    def ids(self, block: int) -> NDArray[np.int64]:
        first = block * self.lockstep
        return np.arange(first, min(first + self.lockstep, self.dynamics.trajectories))

    @property
    def equilibration_steps(self) -> int:
        return round(self.dynamics.equilibration / self.dynamics.timestep)

    @property
    def production_steps(self) -> int:
        every = self.dynamics.dipole_every
        return -(-round(self.dynamics.duration / self.dynamics.timestep) // every) * every

    def file(self, block: int) -> str:
        return f"{self.folder}/{self.name}-{block:05d}.h5"


class TrajectoryStage:
    """Runs all blocks of a plan on all ranks; collective."""

    def __init__(self, context: Context, plan: TrajectoryPlan, key: str) -> None:
        self.context, self.plan, self.key = context, plan, key
        self.folder = context.directory / plan.folder
        if context.root:
            self.folder.mkdir(exist_ok=True)
        context.comm.barrier()

    def run(self, potential_of: Any) -> list[str]:
        """Run what is not finished yet; the names of all block files. `potential_of(replicas)` gives a potential."""
        context, plan = self.context, self.plan
        todo = context.comm.bcast(self._unfinished() if context.root else None)
        journal = context.directory.journal(plan.folder, context.comm.rank)
        states = self._states(todo)
        with context.progress.stage(f"trajectories {plan.name}", total=plan.blocks) as stage:
            for item in context.comm.counter(len(todo)):
                block = todo[item]
                self._run_block(block, potential_of(len(plan.ids(block))), journal, states.get(block, []))
                stage.advance_to(plan.blocks - len(todo) + item + 1)
        journal.close()
        context.comm.barrier()
        return [plan.file(block) for block in range(plan.blocks)]

    def _unfinished(self) -> list[int]:
        done = set()
        for block in range(self.plan.blocks):
            content = read_intact(self.context.directory / self.plan.file(block))
            if content is not None and content[1].get("inputs") == self.key:
                done.add(block)
        return [block for block in range(self.plan.blocks) if block not in done]

    def _states(self, todo: list[int]) -> dict[int, list[dict[str, Any]]]:
        """The journalled chunks of unfinished blocks, in order and without a gap; read by every rank."""
        found: dict[int, dict[int, dict[str, Any]]] = {}
        for record in self.context.directory.records(self.plan.folder):
            attributes = record.attributes
            if attributes.get("inputs") == self.key and attributes["block"] in todo:
                found.setdefault(attributes["block"], {})[attributes["chunk"]] = record.arrays
        return {
            block: [chunks[n] for n in range(len(chunks)) if all(m in chunks for m in range(n + 1))]
            for block, chunks in found.items()
        }

    def _run_block(
        self, number: int, potential: Potential, journal: Journal, done: list[dict[str, Any]]
    ) -> None:
        chunks = list(done)
        block = restored(chunks[-1], self.plan.ids(number)) if chunks else self._start(number)
        total = self.plan.equilibration_steps + self.plan.production_steps
        while block.step < total:
            self.context.stop.check()
            arrays = self._advance(block, potential, number)
            attributes = {"inputs": self.key, "block": number, "chunk": len(chunks)}
            journal.append(digest(self.key, number, len(chunks)), arrays, attributes)
            chunks.append(arrays)
        self._finish_block(number, chunks)

    def _start(self, number: int) -> ReplicaBlock:
        """Thermal starts: positions from the normal modes, velocities from the Maxwell distribution."""
        plan, seed = self.plan, self.context.deck.seed
        ids = plan.ids(number)
        temperature = plan.dynamics.temperature
        starts = np.concatenate(
            [sample_modes(plan.modes, temperature, 1, self.context.random("start positions", int(i))) for i in ids]
        )
        positions = np.ascontiguousarray(starts.transpose(1, 2, 0))
        velocities = thermal_velocities(plan.masses, temperature, ids, seed, "start velocities", positions=positions)
        return ReplicaBlock.create(positions, velocities, ids)

    def _advance(self, block: ReplicaBlock, potential: Potential, number: int) -> dict[str, Any]:
        """One chunk: thermostatted before `equilibration_steps`, the deck's ensemble after; the journal's arrays."""
        plan, dynamics = self.plan, self.plan.dynamics
        equilibrating = block.step < plan.equilibration_steps
        end = plan.equilibration_steps if equilibrating else plan.equilibration_steps + plan.production_steps
        if block.step == plan.equilibration_steps and dynamics.rotation == "remove":
            block.velocities = remove_rotation(block.positions, block.velocities, plan.masses)
        thermostat = None
        if equilibrating or dynamics.ensemble == "nvt":
            thermostat = create_thermostat(dynamics.thermostat, dynamics.temperature, dynamics.time_constant)
        every = dynamics.dipole_every
        steps = min(CHUNK_STEPS // every * every, end - block.step)
        chunk = run_chunk(
            potential,
            block,
            plan.masses,
            steps,
            dynamics.timestep,
            dipole_every=0 if equilibrating else every,
            thermostat=thermostat,
            record=() if equilibrating else ("positions", "velocities"),
            record_every=every,
            spread_every=50 * every,
            seed=self.context.deck.seed,
            purpose="dynamics",
        )
        return chunk_arrays(block, chunk, equilibrating, plan, number < ASSIGNED_BLOCKS)

    def _finish_block(self, number: int, chunks: list[dict[str, Any]]) -> None:
        """Join the production chunks of a block into its HDF5 file."""
        production = [chunk for chunk in chunks if "dipoles" in chunk]
        alive = production[-1]["alive"]
        spread = np.max([chunk["largest_spread"] for chunk in chunks], axis=0)
        dipoles = np.concatenate([chunk["dipoles"] for chunk in production])
        arrays = {
            "dipoles": (dipoles, "e bohr", "time,xyz,trajectory"),
            "mode_energies": (np.array([c["mode_energies"] for c in production]), "hartree", "chunk,mode,trajectory"),
            "total_energy": (np.concatenate([c["total_energy"] for c in production]), "hartree", "time,trajectory"),
            "snapshots": (np.array([c["positions"] for c in production]), "bohr", "chunk,atom,xyz,trajectory"),
            "largest_spread": (spread, "hartree/bohr", "trajectory"),
            "trajectory": (self.plan.ids(number), "number", "trajectory"),
            "sane": (alive & (spread <= self.plan.spread_limit), "bool", "trajectory"),
            "alive": (alive, "bool", "trajectory"),
        }
        if "mode_velocities" in production[0]:
            velocities = np.concatenate([chunk["mode_velocities"] for chunk in production])
            arrays["mode_velocities"] = (velocities, "bohr sqrt(m_e) hartree/hbar", "time,mode,trajectory")
        dynamics = self.plan.dynamics
        attributes = {
            "format": "hpcir trajectories",
            "inputs": self.key,
            "time_between_dipoles": dynamics.timestep * dynamics.dipole_every,
            "timestep": dynamics.timestep,
            "temperature": dynamics.temperature,
        }
        write_h5(self.context.directory / self.plan.file(number), arrays, attributes)


def chunk_arrays(
    block: ReplicaBlock, chunk: Chunk, equilibrating: bool, plan: TrajectoryPlan, keep_modes: bool
) -> dict[str, Any]:
    """What the journal keeps of a chunk: the state to go on from and, in production, series and mode energies."""
    arrays: dict[str, Any] = {
        "positions": block.positions,
        "velocities": block.velocities,
        "step": np.int64(block.step),
        "alive": block.alive,
        "largest_spread": chunk.spread.max(0) if chunk.spread.size else np.zeros(len(block.alive)),
    }
    if equilibrating:
        return arrays
    frames = chunk.positions.transpose(0, 3, 1, 2)
    velocities = mode_velocities(frames, chunk.velocities.transpose(0, 3, 1, 2), plan.modes)
    arrays |= {
        "dipoles": chunk.dipoles,
        "mode_energies": 0.5 * (velocities**2).mean(0).T,
        "total_energy": (chunk.kinetic + chunk.potential)[:: max(1, len(chunk.kinetic) // 20)],
    }
    if keep_modes:
        arrays["mode_velocities"] = velocities.transpose(0, 2, 1).astype(np.float32)
    return arrays


def restored(state: dict[str, Any], ids: NDArray[np.int64]) -> ReplicaBlock:
    """The block as it was at the end of a journalled chunk."""
    block = ReplicaBlock.create(state["positions"], state["velocities"], ids)
    block.step = int(state["step"])
    block.alive = state["alive"]
    return block
