"""Blocks of replicas that are moved together, and chunks of their trajectories: requests and records."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.dynamics.integrators import THERMOSTATS, Thermostat
from hpcir.dynamics.restraint import Restraint
from hpcir.dynamics.streams import BLOCK_STEPS

RECORDS = ("dipoles", "positions", "velocities")
# Largest displacement of an atom in one step (bohr), and largest force (hartree/bohr); beyond either it is unphysical:
# at 0.5 fs a hydrogen atom would need 20,000 K.
LARGEST_STEP = 0.5
LARGEST_FORCE = 5.0

REASONS = {
    1: "an atom moved further in one step than the limit, or its position is not a number",
    2: "a force or the energy is not a number",
    3: "a force is larger than the limit",
}


@dataclass(frozen=True)
class ReplicaBlock:
    """Replicas that are moved together.

    positions (N, 3, R) bohr; velocities (N, 3, R) bohr per atomic time; step: steps done since the beginning of the
    trajectories; trajectories (R,) ids, which with the seed fix all random numbers; alive (R,).
    """

    positions: FloatArray
    velocities: FloatArray
    step: int
    trajectories: IntArray
    alive: BoolArray

    @classmethod
    def start(cls, positions: FloatArray, velocities: FloatArray, trajectories: IntArray | list[int]) -> ReplicaBlock:
        """A block at step 0, everything alive."""
        ids = np.asarray(trajectories, np.int64)
        return cls(np.array(positions, float), np.array(velocities, float), 0, ids, np.ones(len(ids), bool))

    @property
    def replicas(self) -> int:
        return len(self.trajectories)


@dataclass(frozen=True)
class Retired:
    """A replica that became unphysical: its index in the block, its trajectory's id, the step and the reason."""

    replica: int
    trajectory: int
    step: int
    reason: str


@dataclass(frozen=True)
class Chunk:
    """Results of a chunk of trajectories; atomic units.

    block: where the replicas are now. steps (T,): absolute numbers of the recorded steps. kinetic, potential (T, R)
    hartree. dipoles (T, 3, R) e bohr, positions and velocities (T, N, 3, R): with no rows when not recorded.
    spread_steps (T',), spread and dipole_spread (T', R): the committee's standard deviation of the force, largest over
    the atoms, hartree/bohr, and of the dipole, e bohr. retired: replicas that became unphysical in it. Records
    of a replica after it retired repeat its last physical frame, and mean nothing.
    """

    block: ReplicaBlock
    steps: IntArray
    kinetic: FloatArray
    potential: FloatArray
    dipoles: FloatArray
    positions: FloatArray
    velocities: FloatArray
    spread_steps: IntArray
    spread: FloatArray
    dipole_spread: FloatArray
    retired: list[Retired]


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of a chunk of replicas or of ring polymers, for the compiled and the plain way."""

    block: ReplicaBlock
    masses: FloatArray
    steps: int
    timestep: float
    every: int
    record: tuple[str, ...]
    spread_every: int
    largest_step: float = LARGEST_STEP
    largest_force: float = LARGEST_FORCE
    restraint: Restraint | None = None

    @property
    def last(self) -> int:
        return self.block.step + self.steps

    @property
    def noise_steps(self) -> int:
        """Steps that share a block of random numbers (0: there are none)."""
        return 0

    def recorded_steps(self, every: int) -> IntArray:
        """Absolute numbers of the steps of this chunk that are multiples of `every` (0: none)."""
        if every < 1:
            return np.zeros(0, np.int64)
        return np.arange((self.block.step // every + 1) * every, self.last + 1, every, dtype=np.int64)

    def next_stop(self, step: int) -> int:
        """The step at which the compiled loop must come back: the end, a spread, or the end of the random numbers."""
        return min([self.last, *((step // n + 1) * n for n in (self.spread_every, self.noise_steps) if n > 0)])

    def finish(
        self, arrays: dict[str, Any], positions: FloatArray, velocities: FloatArray, retired: list[Retired]
    ) -> Chunk:
        """The Chunk of finished arrays; positions and velocities (N, 3, lanes)."""
        alive = self.block.alive.copy()
        for item in retired:
            alive[item.replica] = False
        block = replace(self.block, positions=positions, velocities=velocities, step=self.last, alive=alive)
        return Chunk(
            block=block,
            steps=self.recorded_steps(self.every),
            spread_steps=self.recorded_steps(self.spread_every),
            retired=sorted(retired, key=lambda item: (item.step, item.replica)),
            **arrays,
        )


@dataclass(frozen=True, kw_only=True)
class ChunkRequest(Request):
    """The arguments of run_chunk."""

    thermostat: Thermostat | None

    @property
    def noise_steps(self) -> int:
        return 0 if self.thermostat is None else BLOCK_STEPS

    def kind(self) -> int:
        return 0 if self.thermostat is None else THERMOSTATS[self.thermostat.kind]
